from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqrec_lib.evaluate.statistics import metric_values
from seqrec_lib.experiments import ablation
from seqrec_lib.report.ablation import changes
from seqrec_lib.results import RunRecord, RunStore
from tests.report.conftest import make_record

PARAMETERS = {"dataset": "ml-100k", "questions": ["residual"], "seeds": [0, 1], "epochs": 0, "metric": "ndcg@10"}
Ranks = dict[str, np.ndarray]


class Page:
    """Mamba4Rec with a residual ranks much better, 2Mamba4Rec not at all, Hydra4Rec's variant is not run. Without seen
    items nothing changes."""

    def __init__(self, folder: Path) -> None:
        self.store = RunStore(folder / "new", folder / "published")
        self.configs = ablation.plan(PARAMETERS)
        self.records: list[RunRecord | None] = [self._record(config) for config in self.configs]

    def ranks(self, model: str, seed: int) -> np.ndarray:
        number = ["mamba4rec", "2mamba4rec", "hydra4rec"].index(model.partition("+")[0])
        ranks = np.random.default_rng([number, seed]).geometric(0.03, 400).astype(np.int32)
        return np.maximum(1, ranks // 4).astype(np.int32) if model == "mamba4rec+residual" else ranks

    def _record(self, config: ablation.Config) -> RunRecord | None:
        if config.model == "hydra4rec+residual":
            return None
        ranks, masked = self.ranks(config.model, config.seed), self.ranks(config.model.partition("+")[0], config.seed)
        return self.store.save(make_record(config, ranks), {"ranks": pa.table({"rank": ranks, "masked_rank": masked})})

    def change(self, model: str, seed: int, to: Callable[[RunRecord], RunRecord | None]) -> None:
        place = next(i for i, config in enumerate(self.configs) if (config.model, config.seed) == (model, seed))
        self.records[place] = to(self.records[place])

    def rows(self) -> pd.DataFrame:
        return changes(PARAMETERS, self.configs, self.records, self.store).set_index("variant")

    def gain(self, *seeds: int) -> float:
        means = [
            np.mean([metric_values(self.ranks(model, seed), "ndcg@10") for seed in seeds], axis=0)
            for model in ("mamba4rec", "mamba4rec+residual")
        ]
        return float((means[1] - means[0]).mean())


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


def test_differences_are_taken_user_by_user(page: Page) -> None:
    rows = page.rows()
    assert list(rows.index) == ["Mamba4Rec, residual", "2Mamba4Rec, residual", "Hydra4Rec, residual"]
    first = rows.iloc[0]
    assert first["difference"] == pytest.approx(page.gain(0, 1)) and first["low"] > 0
    assert first["changed"] - first["unchanged"] == pytest.approx(page.gain(0, 1))
    assert rows.iloc[1]["difference"] == 0.0, "equal ranks differ by nothing"
    assert rows.iloc[2][["changed", "difference", "p"]].isna().all() and rows.iloc[2]["unchanged"] > 0


def test_seen_items_left_out_may_say_otherwise(page: Page) -> None:
    first = page.rows().iloc[0]
    assert first["p"] < 0.05 and first["masked difference"] == 0.0 and first["masked p"] == 1.0


def test_a_seed_that_one_side_lacks_counts_on_neither(page: Page) -> None:
    page.change("mamba4rec+residual", 1, lambda record: None)
    first = page.rows().iloc[0]
    assert first["difference"] == pytest.approx(page.gain(0)) and first["seeds"] == 1
    page.change("mamba4rec", 0, lambda record: None)  # now they have no seed together
    assert np.isnan(page.rows().iloc[0]["difference"])


def test_p_values_are_corrected_over_the_pairs_that_ran(page: Page) -> None:
    both = page.rows().iloc[0]["p"]
    for seed in (0, 1):
        page.change("2mamba4rec+residual", seed, lambda record: None)
    assert both == pytest.approx(2 * page.rows().iloc[0]["p"])


def test_each_side_says_what_it_was_computed_in(page: Page) -> None:
    for seed in (0, 1):
        page.change(
            "mamba4rec+residual",
            seed,
            lambda record: replace(record, environment=record.environment | {"precision": "fp32"}),
        )
    first = page.rows().iloc[0]
    assert first["changed precision"] == "float32" and first["unchanged precision"] != "float32"
