"""The ablation's runs are the accuracy experiment's, and each pair differs in the one decision that it is about."""

from __future__ import annotations

import pytest

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments import ablation, accuracy
from seqrec_lib.experiments.base import key
from seqrec_lib.results import plain

PARAMETERS = {"dataset": "ml-100k", "questions": list(ablation.QUESTIONS), "seeds": [0, 1], "epochs": 0}
DECIDES = {
    "precision": {"precision"},
    "initialisation": {"initialisation"},
    "layers": {"n_layers"},
    "residual": {"model"},
    "objective": {"objective", "tokens_per_batch"},  # a step of either has about as many targets
    "dropout": {"dropout"},
    "repeats": {"model"},
}


def flat(values: dict) -> dict:
    nested = [flat(value) for value in values.values() if isinstance(value, dict)]
    return {
        k: v
        for part in ({k: v for k, v in values.items() if not isinstance(v, dict)}, *nested)
        for k, v in part.items()
    }


def test_bases_are_the_runs_of_the_accuracy_page() -> None:
    page = {"dataset": "ml-100k", "models": ["mamba4rec", "2mamba4rec", "hydra4rec"], "seeds": [0, 1], "overrides": {}}
    known = {key(accuracy, config) for config in accuracy.plan(page)}
    found = [key(ablation, config) for config in ablation.plan(PARAMETERS)]
    assert known <= set(found) and len(found) == len(set(found))


@pytest.mark.parametrize("question", ablation.QUESTIONS.values(), ids=lambda question: question.id)
def test_a_pair_differs_in_one_decision(question: ablation.Question) -> None:
    for base, variant in question.pairs:
        a, b = (flat(plain(ablation.configs_of(side, PARAMETERS)[0])) for side in (base, variant))
        assert {name for name in a | b if a.get(name) != b.get(name)} <= DECIDES[question.id]
        assert a != b and variant.label.startswith(base.label)


def test_epochs_are_set_for_both_sides_alike() -> None:
    configs = ablation.plan(PARAMETERS | {"epochs": 3, "questions": ["residual"], "seeds": [0]})
    assert [config.training.epochs for config in configs] == [3] * 6


def test_an_unknown_question_is_one_line() -> None:
    with pytest.raises(SeqRecError, match="unknown question 'layer'; did you mean 'layers'"):
        ablation.plan(PARAMETERS | {"questions": ["layer"]})
