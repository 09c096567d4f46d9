"""The optimizer page's frames, from made-up records with known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from seqrec_lib.experiments import optimizers
from seqrec_lib.report import optimizers as report
from seqrec_lib.report.frames import over_seeds
from seqrec_lib.results import RunRecord, RunStore, plain
from tests.fakes import make_record

PARAMETERS: dict[str, Any] = {
    "dataset": "demo",
    "model": "sasrec",
    "arms": ["adam-default", "adam", "adamw-cosine", "usgm-paper"],
    "grids": ["adam", "adam-wide", "usgm", "plane-usgm"],
    "seeds": [0, 1, 2],
    "epochs": 2,
    "grid_epochs": 1,
    "measure_beta": False,
    "draws": 1,
    "beta_epochs": 1,
    "overrides": {},
}
TRACE = pa.table({"epoch": [1, 1, 2, 2], "step": [1, 2, 1, 2], "m": [1, 4, 1, 4]})
Made = tuple[list[Any], list[Any], list[RunRecord | None]]


def save(store: RunStore, config: Any, loss: float, trace: pa.Table = TRACE) -> RunRecord:
    entry = {"loss": loss, "valid_loss": loss, "samples": 1000, "steps": 20, "seconds": 5.0}
    metrics = {"loss": loss, "best_valid_loss": loss, "test_loss": loss, "ndcg@10": 0.1, "ht@10": 0.2}
    record = make_record(
        experiment="optimizers", config=plain(config), dataset={"name": config.dataset}, metrics=metrics,
        cost={"steps": 40, "wall_seconds": 1.0}, history=[entry | {"epoch": number} for number in (1, 2)],
    )  # fmt: skip
    return store.save(record, {"trace": trace})


def page(store: RunStore, loss: Any, trace: pa.Table = TRACE, **changes: Any) -> pd.DataFrame:
    """The page's runs, where ``loss`` of a cell is a number, "failed", or None: not run. An arm's cell comes last, so
    that a run which stands in two places has the arm's."""
    asked = PARAMETERS | changes
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    records: list[RunRecord | None] = [None] * len(configs)
    for cell in reversed(cells):
        value = loss(cell)
        if value == "failed":
            failed = {"status": "failed", "error": "not finite", "dataset": {"name": "demo"}, "metrics": {}}
            made: RunRecord | None = make_record(experiment="optimizers", config=plain(cell.config), **failed)
        else:
            made = None if value is None else save(store, cell.config, value, trace)
        records[configs.index(cell.config)] = made
    return report.gather(cells, configs, records, store)


def wobbly(**losses: float) -> Any:
    """Losses by arm, whose seeds differ by 0.01; grids at 6.3."""
    named = {name.replace("_", "-"): loss for name, loss in losses.items()}
    return lambda cell: named.get(cell.arm, 6.3) + 0.01 * cell.config.seed if cell.arm else 6.3


def test_a_run_has_a_row_wherever_it_stands(store: RunStore) -> None:
    runs = page(store, wobbly(adam=6.0))
    assert len(runs) == 4 * 3 + 5 + 5 + 5 + 12
    (tuned,) = runs.loc[(runs["grid"] == "adam") & (runs["at"] == 3e-3), "run_id"]  # is the arm's run at the first seed
    assert tuned == runs.loc[(runs["arm"] == "adam") & (runs["seed"] == 0), "run_id"].iloc[0]
    plane = runs[runs["grid"] == "plane-usgm"]
    assert set(plane["lr0"]) == {1e-4, 1e-2, 1.0} and set(plane["at"]) == {0.1, 1.0, 10.0, 100.0}


def test_differences_are_paired_by_seed(store: RunStore) -> None:
    runs = page(store, wobbly(adam=6.0, adamw_cosine=5.9))
    table = report.pairs(runs, [("adam", "adamw-cosine"), ("adam", "sgd")], ["best_valid_loss", "ndcg@10"])
    (row,) = table.to_dict("records")  # SGD is not on the page
    assert row["best_valid_loss"] == pytest.approx(0.1)
    assert row["best_valid_loss low"] == pytest.approx(0.1)  # what the seeds have in common cancels
    assert row["seeds"] == 3


def test_how_far_h_moved_is_relative_to_its_first_value(store: RunStore) -> None:
    trace = pa.table({"H": [2.0, 2.5, 3.0], "D": [10.0] * 3})
    table = over_seeds(page(store, lambda cell: 6.0, trace, arms=["usgm"], grids=[]), ["H_change", "D_last"])
    assert table["H_change"].iloc[0] == pytest.approx(0.5) and table["D_last"].iloc[0] == 10


def test_curves_add_up_costs_and_stand_beside_the_reference(store: RunStore) -> None:
    runs = page(store, wobbly(adam=6.0, usgm_paper=7.0), grids=[])
    curves = report.curves(runs, store)
    last = curves[(curves["arm"] == "adam") & (curves["epoch"] == 2) & (curves["seed"] == 0)].iloc[0]
    assert (last["samples"], last["steps"], last["seconds"]) == (2000, 40, 10.0)
    shown = report.beside(curves, {"loss": "training", "valid_loss": "validation"}, "adam")
    by_line = shown[shown["arm"] == "usgm-paper"].groupby("line")
    assert by_line["mean"].first()["validation"] == pytest.approx(7.01)
    assert by_line[["low", "high"]].first().loc["validation of Adam, tuned"].tolist() == pytest.approx([6.0, 6.02])
    assert set(shown.loc[shown["arm"] == "adam", "line"]) == {"training", "validation"}


def test_a_reference_stands_beside_arms_of_its_own_model_only(store: RunStore) -> None:
    runs = page(store, lambda cell: 6.0, model="2mamba4rec", arms=["adam", "probing", "sasrec-probing"], grids=[])
    shown = report.beside(report.curves(runs, store), {"valid_loss": "validation"}, "adam")
    assert shown.groupby("arm")["line"].nunique().to_dict() == {"adam": 1, "probing": 2, "sasrec-probing": 1}


@pytest.mark.parametrize(
    ("arm", "columns", "met"),
    [
        ("usgm-paper", {"c1": [0.0, 0.5, 0.0, 1.5], "c2": [1.0, 2.0, 1.0, 2.0]}, 1),  # c2 / sqrt(4) = 1 at the ends
        ("usgm-paper", {"c1": [9.0, 9.0, 9.0, 9.0], "c2": [1.0, -2.0, 1.0, -2.0]}, 0),  # a negative slope never meets
        ("usgm-noise", {"signal": [0.0, 1.0, 0.0, 1.0], "noise": [9.0, 33.0, 9.0, 31.0]}, 1),  # 8 x signal, noise / 4
    ],
)
def test_growth_stops_by_the_rule_where_both_sides_meet(
    store: RunStore, arm: str, columns: dict[str, list[float]], met: int
) -> None:
    trace = TRACE
    for name, values in columns.items():
        trace = trace.append_column(name, [values])
    traces, ends = report.batch(page(store, lambda cell: 6.0, trace, arms=[arm], grids=[], seeds=[0]), store)
    assert (ends["met"].iloc[0], ends["epochs"].iloc[0], ends["B"].iloc[0]) == (met, 2, 4)
    assert set(traces["panel"].str.partition(": ")[2]) == {"batches in a step", "the two sides"}
    assert traces["line"].nunique() == 3


def test_grids_say_what_was_tried_what_failed_and_what_an_arm_uses(store: RunStore) -> None:
    def loss(cell: Any) -> Any:
        return {3e-3: 6.1, 1e-2: 6.0, 3e-2: "failed", 1e-3: None}.get(cell.values[-1] if cell.values else 0, 6.5)

    runs = page(store, loss, arms=[], grids=["adam", "probing-lr0"], seeds=[0])
    first, second = report.grids(runs).to_dict("records")
    assert (first["done"], first["planned"], first["failed"]) == (3, 5, 1)
    assert (first["best_at"], first["least"], first["largest"]) == (1e-2, 6.0, 6.5)
    assert first["used"] == 3e-3 and first["excess"] == pytest.approx(0.1)
    assert second["used"] is None or np.isnan(second["used"])
    assert set(report.points(runs)["panel"]) == {"Adam: lr", "Probing USGM: lr0"}


def test_without_tuning_asks_for_the_worst_start(store: RunStore) -> None:
    def loss(cell: Any) -> float | None:
        if cell.grid == "sasrec-adamw-near":
            return None
        return (5.95 if cell.values == (1e-8,) else 5.9) + 0.01 * cell.config.seed

    asked = {
        "model": "2mamba4rec",
        "arms": ["adam"],
        "grids": ["adam", "probing-lr0", "sasrec-probing", "sasrec-adamw-near"],
    }
    own, other = report.without_tuning(page(store, loss, **asked)).to_dict("records")
    assert (own["largest"], own["best"]) == (5.95, 5.9) and own["gap"] == pytest.approx(0.05)
    assert own["sd"] == pytest.approx(0.01)
    assert other["rates"] == 0 and np.isnan(other["gap"]) and np.isnan(other["sd"])


def test_where_nothing_was_run_frames_are_empty_or_say_so(store: RunStore) -> None:
    runs = page(store, lambda cell: None)
    assert report.curves(runs, store).empty
    assert all(frame.empty for frame in report.batch(runs, store))
    assert report.grids(runs)["least"].isna().all()
    assert all(frame.empty for frame in report.beta(None, store))
    nothing = page(store, lambda cell: None, arms=[], grids=[])
    for frame in (
        over_seeds(nothing, []),
        report.grids(nothing),
        report.points(nothing),
        report.without_tuning(nothing),
    ):
        assert frame.empty


def noise_table(power: float, intercept: float) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [
        {"step": step, "m": m, "draw": i, "beta": intercept + m**-power + 1e-4 * rng.normal(), "r": 1.0}
        for step in ("real", "fixed")
        for m in (1, 2, 4, 8, 16)
        for i in range(6)
    ]
    return pa.Table.from_pylist(rows)


def test_the_fits_find_the_axis_and_the_crossing() -> None:
    fits = report.beta_fits(noise_table(1.0, 0.1))
    right, wrong = (fits.loc[("real", axis), :] for axis in ("1/m", "1/sqrt(m)"))
    assert right["r2"] > 0.999 > wrong["r2"]
    assert (right["c1"], right["c2"]) == pytest.approx((0.1, 1.0), abs=1e-2)
    assert right["B"] == pytest.approx(10, abs=0.5)
    assert wrong["c1"] < 0 and np.isnan(wrong["B"])
    root = report.beta_fits(noise_table(0.5, 0.1)).loc[("fixed", "1/sqrt(m)"), :]
    assert root["r2"] > 0.999 and root["B"] == pytest.approx(100, abs=2)


def test_measured_beta_has_two_standard_errors_beside_both_curves(store: RunStore) -> None:
    record = store.save(make_record(experiment="optimizers"), {"noise": noise_table(1.0, 0.1)})
    shown, fits = report.beta(record, store)
    measured = shown[shown["line"] == "measured"]
    assert len(measured) == 2 * 5 and (measured["high"] > measured["beta"]).all()
    assert shown.groupby("step", sort=False)["line"].nunique().to_dict() == dict.fromkeys(report.STEPS.values(), 3)
    assert fits["B"].notna().sum() == 2
