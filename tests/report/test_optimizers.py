"""The optimizer page's tables and figures, from made-up records with known answers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from seqrec_lib.experiments import optimizers
from seqrec_lib.report import batch_figures, optimizer_grids
from seqrec_lib.report import optimizer_figures as drawing
from seqrec_lib.report import optimizers as report
from seqrec_lib.report.runs import ModelRuns

PARAMETERS = {
    "dataset": "demo",
    "model": "sasrec",
    "arms": ["adam-default", "adam", "adamw-cosine", "usgm-paper"],
    "grids": ["adam", "adam-wide", "usgm", "usgm-lr0", "usgm-wide", "plane-usgm"],
    "seeds": [0, 1, 2],
    "epochs": 2,
    "grid_epochs": 1,
    "measure_beta": False,
    "draws": 1,
    "beta_epochs": 1,
    "overrides": {},
}


class Record:
    """As much of a `RunRecord` as a page reads."""

    complete = True
    run_id = "0" * 16
    error = ""

    def __init__(self, loss: float, seed: int) -> None:
        wobble = 0.01 * seed
        self.metrics = {"loss": loss + wobble, "best_valid_loss": loss + wobble, "test_loss": loss}
        self.metrics |= {"ndcg@10": 0.1, "ht@10": 0.2}
        self.cost = {"train_seconds": 10.0, "steps": 40}
        entry = {"loss": loss, "valid_loss": loss, "samples": 1000, "steps": 20, "seconds": 5.0}
        self.history = [entry, entry]


@pytest.fixture
def found() -> report.Gathered:
    cells, configs = optimizers.cells(PARAMETERS), optimizers.plan(PARAMETERS)
    losses = {"adam-default": 6.2, "adam": 6.0, "adamw-cosine": 5.9, "usgm-paper": 6.1}
    records: list = [None] * len(configs)
    for cell in reversed(cells):  # a run shown twice keeps its arm's loss
        if cell.arm:
            value = losses[cell.arm]
        elif cell.grid == "adam":
            value = 6.3
        elif cell.grid == "adam-wide":
            value = 6.3 + 0.1 * abs(np.log10(cell.values[0] / 1e-2))  # best in the middle
        else:
            value = 7.0 + np.log10(cell.values[-1])
        records[configs.index(cell.config)] = Record(value, cell.config.seed)
    return report.gather(cells, configs, records)


def test_differences_are_paired_by_seed(found: report.Gathered) -> None:
    a, b = found.arm("adam"), found.arm("adamw-cosine")
    assert a is not None and b is not None
    value = report.difference(a, b, "best_valid_loss")
    assert value is not None and value.seeds == 3
    assert value.estimate == pytest.approx(0.1) and value.low == pytest.approx(0.1)  # the seeds' wobble cancels
    assert value.word == "higher"


def test_the_interval_is_students() -> None:
    from scipy import stats

    from seqrec_lib.report.runs import ModelRuns

    def runs(losses: list[float]) -> ModelRuns:
        records = tuple(Record(loss, 0) for loss in losses)
        return ModelRuns("demo", "x", "x", (0, 1, 2, 3), records, (None,) * 4, (None,) * 4)  # type: ignore[arg-type]

    value = report.difference(runs([1.0, 1.3, 0.9, 1.1]), runs([1.0] * 4), "loss")
    expected = stats.ttest_1samp([0.0, 0.3, -0.1, 0.1], 0.0).confidence_interval(0.95)
    assert value is not None and (value.low, value.high) == pytest.approx((expected.low, expected.high))
    assert value.word == "not told apart"


class Tables:
    """A store that has one table for every record."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def table(self, record: Record, name: str) -> pa.Table:
        return self._table


def trace(c1: list[float]) -> pa.Table:
    """Four steps in two epochs with c2 / sqrt(B) = 1."""
    return pa.table({"epoch": [1, 1, 2, 2], "step": [1, 2, 1, 2], "m": [1, 4, 1, 4], "c1": c1, "c2": [1.0, 2.0] * 2})


def of_losses(losses: dict[str, float], **changes: object) -> report.Gathered:
    """A page of arms with these losses and no grids."""
    asked = PARAMETERS | {"arms": list(losses), "grids": []} | changes
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    records: list = [None] * len(configs)
    for cell in cells:
        records[configs.index(cell.config)] = Record(losses[cell.arm], cell.config.seed)
    return report.gather(cells, configs, records)


def test_only_the_data_of_figure_3_are_compared_with_it() -> None:
    assert "curves on MovieLens 100K" in report.data_note("ml-100k").text
    assert "nothing here is compared" in report.data_note("ml-1m").text
    assert "Simulated" in report.data_note("demo").text


@pytest.mark.parametrize(
    ("rule", "sides", "met"),
    [
        ("usgm-paper", {"c1": [0.0, 1.0, 2.0, 0.9], "c2": [1.0, 2.0] * 2}, "3 of 6"),
        ("usgm-noise", {"signal": [0.0, 1.0, 2.0, 1.0], "noise": [1.0, 32.0, 1.0, 33.0]}, "3 of 6"),
        ("usgm-noise", {"signal": [9.0, -1.0, 9.0, -1.0], "noise": [1.0, 4.0] * 2}, "0 of 6"),
    ],
)
def test_the_sides_of_a_rule_meet_at_an_epochs_last_step(rule: str, sides: dict, met: str) -> None:
    asked = PARAMETERS | {"arms": [rule], "grids": []}
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    found = report.gather(cells, configs, [Record(6.0, seed) for seed in range(3)])  # type: ignore[arg-type]
    table = pa.table({"epoch": [1, 1, 2, 2], "step": [1, 2, 1, 2], "m": [1, 4, 1, 4]} | sides)
    assert met in batch_figures.met_table(found, Tables(table)).text  # type: ignore[arg-type]


def test_without_runs_everything_says_so() -> None:
    cells, configs = optimizers.cells(PARAMETERS), optimizers.plan(PARAMETERS)
    empty = report.gather(cells, configs, [None] * len(configs))
    assert "not run" in report.arms_table(empty).text and "not run" in optimizer_grids.tuning_table(empty).text
    assert "not run" in report.summary(empty, "demo").text
    assert "not run" in batch_figures.met_table(empty, Tables(trace([0.0] * 4))).text  # type: ignore[arg-type]
    assert drawing.curves(empty, "loss", "Training loss") is None
    assert drawing.sensitivity(empty, {"x": ["adam"]}) is None
    assert drawing.plane(empty.grids["plane-usgm"], "x", None) is None
    assert report.beta_table(None).text == "beta at one point: not run."


def test_what_was_not_run_is_named_below_the_tables(found: report.Gathered) -> None:
    arms = [*found.arms, ModelRuns("demo", "sgd", "SGD", (0,), (None,), (None,), (None,))]
    some = report.Gathered(arms, found.grids | {"sgd": [((0.1,), None), ((1.0,), None)]}, None)
    for piece in (report.arms_table(some), optimizer_grids.tuning_table(some), optimizer_grids.robustness_table(some)):
        rows, _, note = piece.text.partition("Not run: ")
        assert "SGD" in note and "not run" not in rows


def test_the_cost_has_the_processors_seconds_where_records_have_them(found: report.Gathered) -> None:
    own = found.arms[0]
    assert report.cost_table(found).text.splitlines()[2].split()[-1] == "–"
    for seed, record in enumerate(own.records):
        record.cost["cpu_seconds"] = 60.0 + 2 * seed  # type: ignore[union-attr]
    assert report.cost_table(found).text.splitlines()[2].split()[-1] == "62"  # the mean of 60, 62 and 64


def test_the_tuning_table_says_whether_the_value_in_use_is_best(found: report.Gathered) -> None:
    text = optimizer_grids.tuning_table(found).text
    assert "yes" in text and "no" in text  # Adam's used rate has the arm's lower loss; USGM's best D is the smallest


def test_a_point_that_failed_is_told_from_one_that_was_not_run() -> None:
    asked = PARAMETERS | {"arms": [], "grids": ["usgm-adam", "plane-adam-norm"], "model": "2mamba4rec", "epochs": 3}
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    records: list = [Record(6.0, 0) for _ in configs]
    for cell in cells:
        if cell.values in ((1.0,), (1.0, 100.0)):
            failure = Record(0.0, 0)
            failure.complete, failure.error = False, "the gradient of parameter x is not finite; clip"
            records[configs.index(cell.config)] = failure
        elif cell.values == (0.1,):
            records[configs.index(cell.config)] = None
    found = report.gather(cells, configs, records)
    text = optimizer_grids.tuning_table(found).text
    assert "0.1: not run, 1: failed" in text and "grid incomplete" in text
    assert "at lr0 = 1: the gradient of parameter x is not finite." in text
    text = optimizer_grids.robustness_table(found).text
    assert "11 of 12, 1 failed" in text and "lr0 = 1, D = 100: the gradient of parameter x is not finite" in text
    figure = drawing.plane(found.grids["plane-adam-norm"], "x", None, [v for n, v in found.failed if "plane" in n])
    assert figure is not None
    assert [t.get_text() for t in figure.axes[0].texts if not t.get_text().startswith("6")] == ["failed"]


def test_without_tuning_asks_for_the_worst_start_within_the_seeds_spread() -> None:
    asked = PARAMETERS | {"model": "2mamba4rec", "arms": ["adam", "adamw-cosine"]}
    asked["grids"] = ["adam", "probing-lr0", "sasrec-probing", "sasrec-adamw-near"]
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)

    def gathered(worst: float) -> report.Gathered:
        records: list = [None] * len(configs)
        for cell in cells:
            if cell.grid != "sasrec-adamw-near":
                loss = worst if cell.values == (1e-8,) else 5.9
                records[configs.index(cell.config)] = Record(loss, cell.config.seed)  # seeds differ by 0.01
        return report.gather(cells, configs, records)

    for worst, word in ((5.919, "yes"), (5.921, "no")):
        text = optimizer_grids.without_tuning(gathered(worst), "demo").text
        row = next(line for line in text.splitlines() if line.startswith("Probing USGM  "))
        assert "Adam, 5 of 5 rates" in row
        assert f"5.900 to {worst:.3f}" in row and row.rstrip().endswith(word)
        assert row.split()[-2] == "0.010"
        row = next(line for line in text.splitlines() if line.startswith("Probing USGM (SASRec)"))
        assert "2 of 2" in row and "0 of 3 rates" in row and "not run" in row and row.rstrip().endswith("–")
        assert (
            "no test of it" not in text
            and "no test of it" in optimizer_grids.without_tuning(gathered(worst), "ml-100k").text
        )
    assert "no grid of the probing variant" in optimizer_grids.without_tuning(report.gather([], [], []), "demo").text


@pytest.mark.parametrize(("worst", "word"), [(5.9, "yes"), (5.91, "–")])
def test_without_seeds_only_a_worst_start_that_is_no_worse_is_within_noise(worst: float, word: str) -> None:
    asked = PARAMETERS | {"arms": [], "grids": ["sasrec-probing", "sasrec-adamw-near"], "seeds": [0]}
    asked["model"] = "2mamba4rec"
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    records: list = [None] * len(configs)
    for cell in cells:
        loss = 5.9 if cell.grid.endswith("near") else worst
        records[configs.index(cell.config)] = Record(loss, 0)
    row = optimizer_grids.without_tuning(report.gather(cells, configs, records), "demo").text.splitlines()[2]
    assert row.startswith("Probing USGM (SASRec)") and row.split()[-1] == word


def test_arms_of_another_model_stand_beside_their_own_reference_and_in_no_figure() -> None:
    losses = {"adamw-cosine": 6.0, "probing": 6.1, "sasrec-adamw": 5.0, "sasrec-probing": 4.75}
    asked = PARAMETERS | {"model": "2mamba4rec", "arms": list(losses), "grids": []}
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    found = of_losses(losses, model="2mamba4rec")
    assert {own.model for own in found.arms} == {"adamw-cosine", "probing"}
    assert {cell.config.model for cell in cells if cell.arm.startswith("sasrec")} == {"sasrec"}
    assert set(drawing.curve_numbers(found, "loss")["arm"]) == {"adamw-cosine", "probing"}
    text = optimizer_grids.over_seeds(found, "ml-1m").text
    assert "tuned on MovieLens 100K" in text
    rows = [line for line in text.splitlines() if "Best validation loss" in line]
    assert "+0.100 (+0.100 to +0.100)" in rows[0] and "higher" in rows[0]
    assert rows[1].startswith("Probing USGM (SASRec)") and "-0.250" in rows[1] and "lower" in rows[1]
    none = report.gather(cells, configs, [None] * len(configs))
    assert "not run" in optimizer_grids.over_seeds(none, "demo").text
    assert "not planned" in optimizer_grids.over_seeds(report.gather([], [], []), "demo").text


def test_the_frontier_has_the_arms_with_their_range_and_the_grid_over_share() -> None:
    asked = PARAMETERS | {"arms": ["adamw-cosine", "probing", "probing-noise"], "grids": ["share"]}
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    records: list = [None] * len(configs)
    for cell in cells:
        records[configs.index(cell.config)] = Record(6.0 + (cell.values[0] if cell.values else 0.0), cell.config.seed)
    numbers = drawing.frontier_numbers(report.gather(cells, configs, records))
    arm = numbers[numbers["arm"] == "probing"].iloc[0]
    assert (arm["steps"], arm["low"]) == (40, 6.0) and arm["high"] == pytest.approx(6.02)
    grid = numbers[numbers["arm"] == ""]
    assert list(grid["share"]) == [2, 8, 32, 128] and list(grid["best_valid_loss"]) == [8.0, 14.0, 38.0, 134.0]
    assert drawing.frontier(numbers) is not None and "share 32 38.000 in 40" in drawing.frontier_alt(numbers)
    assert drawing.frontier(numbers[:0]) is None and drawing.frontier_alt(numbers[:0]) == "No run"


def test_a_plane_is_framed_by_runs_of_its_model_and_epochs(found: report.Gathered) -> None:
    assert report.least(found, "plane-usgm") == pytest.approx(3.0)  # usgm-lr0 is as short, the arms are not
    assert report.least(found, "adam") == pytest.approx(5.91)  # AdamW's mean over seeds
    assert report.least(found, "sasrec-adamw") is None


def test_the_working_rules_trace_has_what_it_compares() -> None:
    asked = PARAMETERS | {"arms": ["usgm-paper", "usgm-noise"], "grids": []}
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    found = report.gather(cells, configs, [Record(6.0, config.seed) for config in configs])  # type: ignore[misc]
    table = trace([0.0, 0.5, 0.0, 0.5]).append_column("signal", [[1.0] * 4]).append_column("noise", [[12.0] * 4])
    figure = batch_figures.batch_traces(found, Tables(table))  # type: ignore[arg-type]
    assert figure is not None
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[3].lines}
    assert lines["8 × signal"] == [8.0] * 4 and lines["noise / B"] == [12.0, 3.0, 12.0, 3.0]


def test_the_step_table_says_how_far_h_moved() -> None:
    asked = PARAMETERS | {"arms": ["adam", "usgm"], "grids": ["usgm"]}
    cells, configs = optimizers.cells(asked), optimizers.plan(asked)
    found = report.gather(cells, configs, [Record(6.0, config.seed) for config in configs])  # type: ignore[misc]
    store = Tables(pa.table({"H": [2.0, 2.5, 3.0], "D": [10.0] * 3}))
    rows = optimizer_grids.step_table(found, store).text.splitlines()[2:]  # type: ignore[arg-type]
    assert rows[0].split()[-5:] == ["10", "2", "3", "1.5", "3"] and rows[0].startswith("USGM ")
    assert rows[1].startswith("USGM, lr0 = 1, D = 10 ") and sum("D = " in row for row in rows) == 5
    empty = report.gather(cells, configs, [None] * len(configs))
    assert "not run" in optimizer_grids.step_table(empty, store).text  # type: ignore[arg-type]


def test_figures_draw_what_ran(found: report.Gathered) -> None:
    figure = drawing.curves(found, "valid_loss", "Validation loss")
    assert figure is not None
    assert [len(axis.lines) for axis in figure.axes] == [4] * 4
    numbers = drawing.curve_numbers(found, "loss")
    last = numbers[numbers["arm"] == "adam"].iloc[-1]
    assert (last["samples"], last["steps"], last["seconds"]) == (2.0, 40, 10.0)
    figure = drawing.sensitivity(found, {"Adam": ["adam"], "USGM": ["usgm-lr0"]})
    assert figure is not None
    high = [axis.get_ylim()[1] for axis in figure.axes]
    assert high[0] < 6.4 and high[1] == pytest.approx(3.0 + drawing.CUT)  # what is far above the least is cut off
    plane = drawing.plane(found.grids["plane-usgm"], "USGM", 5.9)
    assert plane is not None and len(plane.axes[0].texts) == 12


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
    fits = batch_figures.beta_fits(noise_table(1.0, 0.1))
    right, wrong = fits["real", "1/m"], fits["real", "1/sqrt(m)"]
    assert right.r2 > 0.999 > wrong.r2
    assert (right.intercept, right.slope) == pytest.approx((0.1, 1.0), abs=1e-2) and right.crossing == "10"
    assert wrong.intercept < 0 and wrong.crossing.startswith("never")
    root = batch_figures.beta_fits(noise_table(0.5, 0.1))["fixed", "1/sqrt(m)"]
    assert root.r2 > 0.999 and root.crossing in {"98", "99", "100", "101", "102"}
    assert batch_figures.beta_figure(noise_table(1.0, 0.1)).axes[0].get_title().startswith("Real step")
