"""Records of runs that never ran: simulated ranks in a store of their own, for the reporting layer to
read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.results import RunRecord, RunStore, plain
from tests import fakes

USERS = 400
COST = {"wall_seconds": 300.0, "epochs": 3, "parameters": 321_984, "parameters_without_embeddings": 100_096}


@dataclass(frozen=True)
class Training:
    epochs: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Config:
    dataset: str
    model: str
    seed: int
    architecture: dict[str, Any] = field(default_factory=dict)
    training: Training | None = None


@dataclass(frozen=True)
class Made:
    """What the fixture makes: configurations, their records (None: not run), and the store."""

    configs: list[Config]
    records: list[RunRecord | None]
    store: RunStore


def make_record(config: Any, ranks: np.ndarray, status: str = "complete") -> RunRecord:
    metrics = rank_metrics(ranks) | {f"masked_{k}": v for k, v in rank_metrics(np.maximum(1, ranks - 1)).items()}
    history = [{"epoch": e, "loss": 7.0 / e, "valid_ndcg@10": 0.05 * e, "seconds": 2.0} for e in (1, 2, 3)]
    machine = {
        "device": "Test CPU",
        "device_type": "cpu",
        "threads": 2,
        "git_commit": "0123456789abcdef",
        "git_dirty": False,
    }
    failed = {"status": status, "error": "ValueError: the model produced NaN", "metrics": {}, "history": [], "cost": {}}
    complete = {"metrics": metrics, "history": history if config.training else [], "cost": COST}
    return fakes.make_record(
        config=plain(config), dataset={"name": config.dataset}, environment=machine,
        started="2026-11-20T10:00:00.000+00:00", finished="2026-11-20T10:05:00.000+00:00",
        **(complete if status == "complete" else failed),
    )  # fmt: skip


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    """``make(dataset)``: popularity once, sasrec with seeds 0, 1 and a failed 2, mamba4rec not run."""

    def build(dataset: str = "ml-1m") -> Made:
        store = RunStore(tmp_path / "new", tmp_path / "published")
        training = [Training(seed=seed) for seed in range(3)]
        configs = [
            Config(dataset, "popularity", 0),
            *(Config(dataset, "sasrec", seed, {"dropout": 0.1}, training[seed]) for seed in range(3)),
            Config(dataset, "mamba4rec", 0, {}, training[0]),
        ]
        records: list[RunRecord | None] = []
        for number, config in enumerate(configs):
            rng = np.random.default_rng(number)
            ranks = rng.geometric(0.005 if config.model == "popularity" else 0.03, USERS).astype(np.int32)
            record = make_record(config, ranks, "failed" if number == 3 else "complete")
            if number < 4:
                table = pa.table({"rank": ranks, "masked_rank": np.maximum(1, ranks - 1)})
                record = store.save(record, {"ranks": table} if record.complete else {})
            records.append(record if number < 4 else None)
        return Made(configs, records, store)

    return build
