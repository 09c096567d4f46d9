"""Models that write queries on other pages: labels, and which runs are shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.report import language
from seqrec_lib.results import RunRecord, RunStore
from tests.fakes import make_record

USERS = 300


def config(model: str, seed: int = 0, source: str = "scratch:x", dataset: str = "ml-100k") -> dict[str, Any]:
    return {"dataset": dataset, "model": model, "seed": seed, "source": source, "tuning": {"epochs": 3}}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "new", tmp_path / "published")


@pytest.fixture
def save(store: RunStore) -> Callable[..., RunRecord]:
    def build(values: dict[str, Any], ranks: np.ndarray, **made: Any) -> RunRecord:
        record = make_record(
            experiment="generative",
            config=values,
            dataset={"name": values["dataset"]},
            metrics=rank_metrics(ranks),
            environment={"device": "a CPU", "language_model": {"parameters": 297_536, **made}},
        )
        return store.save(record, {"ranks": pa.table({"rank": ranks, "masked_rank": ranks})})

    return build


def hits(share: float, seed: int = 0) -> np.ndarray:
    """Ranks of which ``share`` are 1, the rest outside every list; the same users first."""
    order = np.random.default_rng(seed).permutation(USERS)
    return np.where(order < share * USERS, 1, 2000).astype(np.int32)


def test_a_label_says_where_a_model_comes_from_and_its_size(store: RunStore, save: Any) -> None:
    configs = [config("gpt4rec"), config("mamrec"), config("gpt4rec", source="gpt2")]
    records = [save(configs[0], hits(0.1)), None, save(configs[2], hits(0.2), name="gpt2", parameters=124_439_808)]
    found = language.rows(configs, records, store)
    assert [own.label for own in found] == [
        "GPT4Rec (from scratch, 0.3 M weights)", "GPT4Rec (gpt2, 124 M weights)", "MamRec (from scratch)",
    ]  # fmt: skip
    assert [own.other_model for own in found] == [True, False, True]


def test_other_pages_show_complete_runs_a_missing_model_once_and_pretrained_ones(store: RunStore, save: Any) -> None:
    planned = [config(model, seed) for model in ("gpt4rec", "mamrec") for seed in range(4)]
    planned.append(config("bm25-last", source=""))
    records = [save(values, hits(0.1, values["seed"])) if n in (1, 3) else None for n, values in enumerate(planned)]
    failed = make_record(experiment="generative", config=planned[0], status="failed", error="x")
    records[0] = failed
    save(config("mamrec", 7, "/weights/mamba"), hits(0.3), name="mamba")
    save(config("mamrec", 7, "/weights/mamba", "ml-1m"), hits(0.3), name="mamba")  # of another data set
    found, behind = language.beside(planned, records, store)
    assert [(own.model, own.seeds, len(own.complete)) for own in found] == [
        ("gpt4rec", (1, 3), 2), ("mamrec", (0,), 0), ("mamrec", (7,), 1), ("bm25-last", (0,), 0),
    ]  # fmt: skip
    assert [record is None for record in behind] == [False, False, True, True, False]
    assert found[2].label.startswith("MamRec (mamba")
