from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from seqrec_lib.evaluate.statistics import metric_values
from seqrec_lib.experiments import ablation
from seqrec_lib.experiments.base import key
from seqrec_lib.report.ablation import paired, question_table, readings
from seqrec_lib.results import RunRecord, RunStore
from tests.report.conftest import make_record

PARAMETERS = {"dataset": "ml-100k", "questions": ["residual"], "seeds": [0, 1], "epochs": 0, "metric": "ndcg@10"}


@pytest.fixture
def made(tmp_path: Path) -> tuple[ablation.Question, dict[str, RunRecord | None], RunStore, dict[str, np.ndarray]]:
    """Mamba4Rec with a residual is much better, 2Mamba4Rec not at all, Hydra4Rec's variant is not run."""
    store = RunStore(tmp_path / "new", tmp_path / "published")
    (question,) = ablation.questions(["residual"])
    found: dict[str, RunRecord | None] = {}
    ranks_of: dict[str, np.ndarray] = {}
    for number, (base, variant) in enumerate(question.pairs[:2]):
        for side in (base, variant):
            for config in ablation.configs_of(side, PARAMETERS):
                rng = np.random.default_rng([number, config.seed])
                ranks = rng.geometric(0.03, 400).astype(np.int32)
                if number == 0 and side is variant:
                    ranks = np.maximum(1, ranks // 4).astype(np.int32)
                record = store.save(
                    make_record(config, ranks), {"ranks": pa.table({"rank": ranks, "masked_rank": ranks})}
                )
                assert record.run_id == key(ablation, config)
                found[record.run_id] = record
                ranks_of[f"{config.model} {config.seed}"] = ranks
    return question, found, store, ranks_of


def test_differences_are_taken_user_by_user(made) -> None:
    question, found, store, ranks = made
    text = question_table(question, found, store, PARAMETERS).text
    values = {
        name: np.mean([metric_values(ranks[f"{name} {seed}"], "ndcg@10") for seed in (0, 1)], axis=0)
        for name in ("mamba4rec", "mamba4rec+residual")
    }
    gain = (values["mamba4rec+residual"] - values["mamba4rec"]).mean()
    assert f"{gain:+.4f}" in text and f"{values['mamba4rec'].mean():.4f}" in text
    assert "+0.0000" in text, "equal ranks differ by nothing"
    assert text.count("not run") == 2, "a missing pair says so on both sides"


def test_sentences_say_what_the_table_says(made) -> None:
    question, found, store, _ = made
    text = readings(question, found, store, PARAMETERS).text
    assert "Mamba4Rec, residual: better." in text
    assert "2Mamba4Rec, residual: not told apart from the unchanged model." in text
    assert "Not run: Hydra4Rec, residual." in text


def test_seen_items_masked_may_say_otherwise(tmp_path: Path) -> None:
    store, (question,) = RunStore(tmp_path / "new", tmp_path / "published"), ablation.questions(["residual"])
    found: dict[str, RunRecord | None] = {}
    for side in question.pairs[0]:
        for config in ablation.configs_of(side, PARAMETERS):
            base = np.random.default_rng(config.seed).geometric(0.03, 400).astype(np.int32)
            ranks = base if side is question.pairs[0][0] else np.maximum(1, base // 4).astype(np.int32)
            record = store.save(make_record(config, ranks), {"ranks": pa.table({"rank": ranks, "masked_rank": base})})
            found[record.run_id] = record
    text = readings(question, found, store, PARAMETERS).text
    assert "Mamba4Rec, residual: better; with seen items masked, not told apart from the unchanged model." in text


def test_a_seed_that_one_side_lacks_counts_on_neither(made) -> None:
    question, found, store, ranks = made
    base, variant = (ablation.configs_of(side, PARAMETERS) for side in question.pairs[0])
    found[key(ablation, variant[1])] = None
    text = question_table(question, found, store, PARAMETERS).text
    first = [metric_values(ranks[f"{name} 0"], "ndcg@10") for name in ("mamba4rec", "mamba4rec+residual")]
    assert f"{(first[1] - first[0]).mean():+.4f}" in text and f"{first[0].mean():.4f}" in text
    found[key(ablation, base[0])] = None  # now they have no seed together
    assert "+0.0000" in question_table(question, found, store, PARAMETERS).text  # the other pair's alone
    assert "Not run: Mamba4Rec, residual; Hydra4Rec, residual." in readings(question, found, store, PARAMETERS).text


def test_two_sides_that_differ_in_more_than_the_question_are_named(made) -> None:
    from seqrec_lib.report.ablation import _runs, _unequal

    question, found, store, _ = made
    pairs = [tuple(_runs(side, found, store, PARAMETERS) for side in pair) for pair in question.pairs]
    assert _unequal(question, pairs) == []
    for record in pairs[0][1].records:
        record.environment["precision"] = "fp32"
    (note,) = _unequal(question, pairs)
    assert note.endswith("in precision as well. Mamba4Rec, residual: float32 against bfloat16 in the item softmax.")
    for record in pairs[1][1].records:
        record.environment["precision"] = "fp32"
    (note,) = _unequal(question, pairs)
    assert note.endswith("in precision as well. Each pair: float32 against bfloat16 in the item softmax.")


def test_p_values_are_corrected_over_the_pairs_that_ran(made) -> None:
    question, found, store, _ = made
    from seqrec_lib.report.ablation import _runs

    pairs = [tuple(_runs(side, found, store, PARAMETERS) for side in pair) for pair in question.pairs]
    better, same, missing = paired(pairs, "ndcg@10")
    assert missing is None and better.p_holm == pytest.approx(2 * better.p) and same.p_holm == same.p == 1.0


def test_the_question_of_precision_says_what_was_computed_in(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "new", tmp_path / "published")
    (question,) = ablation.questions(["precision"])
    parameters = PARAMETERS | {"questions": ["precision"], "seeds": [0]}
    found: dict[str, RunRecord | None] = {}
    for (base, variant), used in zip(question.pairs[:2], ("softmax-bf16", "fp32"), strict=False):
        for side, precision in ((base, used), (variant, "fp32")):
            (config,) = ablation.configs_of(side, parameters)
            record = make_record(config, np.arange(1, 41, dtype=np.int32))
            record.environment["precision"] = precision
            store.save(record, {"ranks": pa.table({"rank": np.arange(1, 41, dtype=np.int32)})})
            found[record.run_id] = record
    text = readings(question, found, store, parameters).text
    assert "SASRec, fp32: float32 against bfloat16 in the item softmax." in text
    assert "Mamba4Rec, fp32: float32 against float32." in text, "this machine had no bfloat16"
