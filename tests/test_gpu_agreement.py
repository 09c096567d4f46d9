"""Runs from a GPU beside their twins from a CPU: pairs, differences, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import gpu_agreement
from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.report import benchmarks
from seqrec_lib.results import RunStore
from seqrec_lib.results.transfer import export_runs
from tests.fakes import make_record

KERNELS = {"float32_dots": "tf32", "mamba2": {"output": 2.8e-5, "worst_gradient": 1.7e-3, "parameter": "A_log"}}


def ranks(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 40, size=60).astype(np.int32)


def run(store: RunStore, model: str, seed: int, device: str, found: np.ndarray) -> None:
    metrics = rank_metrics(found)
    record = make_record(
        experiment="accuracy",
        config={"dataset": "ml-1m", "model": model, "seed": seed, "training": None if model == "markov" else {}},
        metrics=metrics | {f"masked_{name}": value for name, value in metrics.items()},
        cost={"train_seconds": 10.0 if device == "cuda" else 900.0, "wall_seconds": 950.0, "epochs": 20},
        environment={
            "device": "a GPU" if device == "cuda" else "a CPU", "device_type": device, "mixers": KERNELS,
            "precision": "softmax-bf16" if device == "cuda" else "fp32", "loop": "graphs", "kernels": {},
            "versions": {"torch": "2.11.0"}, "cpu": "a CPU", "cores": 16,
        },
    )  # fmt: skip
    store.save(record, {"ranks": pa.table({"rank": found, "masked_rank": found})})


@pytest.fixture
def published(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "cpu", tmp_path / "published")
    run(store, "sasrec", 0, "cpu", ranks(0))
    run(store, "markov", 0, "cpu", ranks(0))
    run(store, "sasrec", 1, "cuda", ranks(0))
    return store


def test_twins_are_paired_user_by_user(tmp_path: Path, published: RunStore) -> None:
    there = RunStore(tmp_path / "gpu", tmp_path / "none")
    better = np.maximum(1, ranks(0) - 3)
    for model, seed in (("sasrec", 0), ("sasrec", 1), ("sasrec", 2), ("markov", 0)):
        run(there, model, seed, "cuda", better)  # a twin from a GPU, no twin, a model that is not trained
    export_runs(there, tmp_path / "gpu.tar")
    record = gpu_agreement.collect(tmp_path / "gpu.tar", published, 3)
    (row,) = record["rows"]
    assert (row["model"], row["seed"]) == ("sasrec", 0)
    gain = rank_metrics(better)["ndcg@10"] - rank_metrics(ranks(0))["ndcg@10"]
    for metric in gpu_agreement.COLUMNS:
        found = row["difference"][metric]
        assert found["value"] == pytest.approx(gain) and 0 < found["low"] < gain < found["high"]
    (shown,) = benchmarks.rows(record, "rows").to_dict("records")
    assert shown["model"] == "SASRec" and shown["difference.ndcg@10.value"] == pytest.approx(gain)
    layers = benchmarks.kernels(record).set_index("layer")
    assert layers.loc["Mamba-2", ["output", "worst_gradient", "products"]].tolist() == [2.8e-05, 1.7e-03, "TF32"]


def test_without_a_twin_there_is_no_record(tmp_path: Path, published: RunStore) -> None:
    there = RunStore(tmp_path / "gpu", tmp_path / "none")
    run(there, "sasrec", 0, "cpu", ranks(0))
    export_runs(there, tmp_path / "gpu.tar")
    with pytest.raises(SystemExit, match="holds no accuracy run from a GPU whose twin"):
        gpu_agreement.collect(tmp_path / "gpu.tar", published, 0)
