"""Which of the state-space models' design decisions matter: one decision changed at a time, everything else as it is.

The runs are those of the accuracy experiment with overrides, so that the two share records: what this module adds is
the list of questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.accuracy import NAME, Config, revision, run
from seqrec_lib.validation import CountOrNone, Names, Seeds, plans, refuse_unknown

__all__ = ["NAME", "QUESTIONS", "Config", "Question", "Variant", "plan", "questions", "revision", "run"]


@dataclass(frozen=True)
class Variant:
    """A model with overrides of its recipe; ``label`` says what is different, in a reader's words."""

    label: str
    model: str
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """Pairs of a model as the study runs it and the same with one decision changed."""

    id: str
    title: str
    pairs: tuple[tuple[Variant, Variant], ...]


def _pairs(
    names: Mapping[str, str], label: str, suffix: str = "", **overrides: Any
) -> tuple[tuple[Variant, Variant], ...]:
    return tuple(
        (Variant(name, model), Variant(f"{name}, {label}", model + suffix, overrides)) for model, name in names.items()
    )


_NAMES = {"mamba4rec": "Mamba4Rec", "2mamba4rec": "2Mamba4Rec", "hydra4rec": "Hydra4Rec"}
_MAMBA = {"mamba4rec": "Mamba4Rec"}
_MAMBA_2 = {"2mamba4rec": "2Mamba4Rec"}
_ALL = {"sasrec": "SASRec"} | _NAMES
# A prefix is read for one target, n times the work of a window: both sides have short ones and few epochs.
_SHORT = {"max_length": 20, "epochs": 20, "schedule": "cosine"}
_AS_MANY_TARGETS = 28_000  # padded positions of a step of prefixes, for as many targets as 1,600 of a window have

QUESTIONS: dict[str, Question] = {
    question.id: question
    for question in (
        Question(
            "initialisation",
            "The public code's initialisation",
            (
                *_pairs(_MAMBA, "everything redrawn", initialisation="blanket"),
                *_pairs(_MAMBA, "everything but dt redrawn", initialisation="blanket-but-dt"),
                *_pairs(_MAMBA_2, "everything redrawn", initialisation="blanket"),
            ),
        ),
        Question("layers", "Two layers", _pairs(_MAMBA | _MAMBA_2, "2 layers", n_layers=2)),
        Question("residual", "A residual around the mixer", _pairs(_NAMES, "residual", "+residual")),
        Question(
            "objective",
            "Prefixes as samples",
            (
                (
                    Variant("2Mamba4Rec, 20 items", "2mamba4rec", _SHORT),
                    Variant(
                        "2Mamba4Rec, 20 items, prefixes",
                        "2mamba4rec",
                        _SHORT | {"objective": "prefixes", "tokens_per_batch": _AS_MANY_TARGETS},
                    ),
                ),
            ),
        ),
        Question("dropout", "No dropout", _pairs(_MAMBA_2, "no dropout", dropout=0.0)),
        Question("repeats", "A repeat bias", _pairs(_ALL, "repeat bias", "+repeats")),
        Question("precision", "The item softmax in full precision", _pairs(_ALL, "fp32", precision="fp32")),
    )
}


def questions(ids: Sequence[str]) -> list[Question]:
    """The questions of these ids.

    Raises:
        SeqRecError: there is no question of an id.
    """
    refuse_unknown(ids, QUESTIONS, "question")
    return [QUESTIONS[name] for name in ids]


def configs_of(variant: Variant, parameters: Mapping[str, Any]) -> list[Config]:
    """A variant's runs, one for each of ``seeds``; ``epochs`` above 0 replaces the recipe's for every variant alike."""
    overrides = dict(variant.overrides) | ({"epochs": parameters["epochs"]} if parameters.get("epochs") else {})
    given = {name: parameters[name] for name in ("dataset", "seeds")}
    return accuracy.plan(given | {"models": [variant.model], "overrides": overrides})


@plans(dataset=str, questions=Names, seeds=Seeds, epochs=CountOrNone)
def plan(parameters: Mapping[str, Any]) -> list[Config]:
    """Every run that the ``questions`` need on ``dataset``, each once.

    Raises:
        SeqRecError: an unknown question or data set.
    """
    variants = [
        variant for question in questions(parameters["questions"]) for pair in question.pairs for variant in pair
    ]
    return [config for variant in variants for config in configs_of(variant, parameters)]
