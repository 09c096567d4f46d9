"""Tables of the optimizer page: arms beside each other, how they were tuned, how robust they are, and the verdicts.

All numbers come from records. A difference between two arms is taken seed by seed, as both start from the same weights
and see the same batches; its interval is Student's t over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from seqrec_lib.experiments.arms import ARMS, GRIDS, TUNED_AND_FREE, Cell
from seqrec_lib.report import tables
from seqrec_lib.report.html import NONE, Html, bullets, not_run, note, table
from seqrec_lib.report.paper import OPTIMIZER_STUDY, dataset_name
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.results import RunRecord

REFERENCE = "adam"  # the better of the two tuned Adams, so the harder yardstick
PAPER_ARM = "usgm-paper"  # what the paper's Figure 3 shows
Point = tuple[tuple[float, ...], RunRecord | None]


@dataclass(frozen=True)
class Gathered:
    """The page's runs: ``arms`` of the page's model with one record per seed, ``grids`` by name, the measurement of
    beta, ``others``: arms that train another model and so stand in no figure beside them, and ``failed``: the error by
    grid and values of points that ran and failed; no other error than divergence is published."""

    arms: list[ModelRuns]
    grids: dict[str, list[Point]]
    beta: RunRecord | None
    others: list[ModelRuns] = field(default_factory=list)
    failed: dict[tuple[str, tuple[float, ...]], str] = field(default_factory=dict)

    def arm(self, name: str) -> ModelRuns | None:
        """The runs of an arm, None where the page does not have it."""
        return next((own for own in (*self.arms, *self.others) if own.model == name), None)


def first_arm(found: Gathered, names: Sequence[str]) -> ModelRuns | None:
    """The runs of the first of these arms that the page has."""
    return next((runs for name in names if (runs := found.arm(name)) is not None), None)


def data_note(dataset: str) -> Html:
    """The remark that opens the page: how the data relate to the paper's Figure 3."""
    if dataset == "demo":
        return tables.data_note(dataset)
    if dataset != OPTIMIZER_STUDY:
        text = f"Its study of the optimizer is on {dataset_name(OPTIMIZER_STUDY)}; nothing here is compared with it."
        return note("Other data than the paper's Figure 3.", text)
    text = f"It shows curves on {dataset_name(dataset)}, and prints none of their numbers."
    return note("The data of the paper's Figure 3.", text)


def gather(cells: Sequence[Cell], configs: Sequence[Any], records: Sequence[RunRecord | None]) -> Gathered:
    """Put what `execute` returned for ``configs`` where ``cells`` says it belongs."""

    def record(cell: Cell) -> RunRecord | None:
        return records[configs.index(cell.config)]

    arms: dict[str, list[Cell]] = {}
    grids: dict[str, list[Point]] = {}
    failed: dict[tuple[str, tuple[float, ...]], str] = {}
    beta = None
    for cell in cells:
        if cell.arm:
            arms.setdefault(cell.arm, []).append(cell)
        elif cell.grid:
            found = record(cell)
            grids.setdefault(cell.grid, []).append((cell.values, found if found and found.complete else None))
            if found and not found.complete:
                failed[cell.grid, cell.values] = found.error or "failed"
        else:
            found = record(cell)
            beta = found if found and found.complete else None
    runs = [
        ModelRuns(
            dataset=own[0].config.dataset,
            model=name,
            label=ARMS[name].label,
            seeds=tuple(cell.config.seed for cell in own),
            records=tuple(record(cell) for cell in own),
            ranks=(None,) * len(own),
            masked_ranks=(None,) * len(own),
        )
        for name, own in arms.items()
    ]
    here, others = ([own for own in runs if bool(ARMS[own.model].model) == other] for other in (False, True))
    return Gathered(here, grids, beta, others, failed)


@dataclass(frozen=True)
class Difference:
    """Mean over common seeds of one arm's metric minus another's, with its 95 % interval (None for one seed)."""

    estimate: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def word(self) -> str:
        """lower | higher | not told apart | one seed."""
        if self.low is None or self.high is None:
            return "one seed"
        return "lower" if self.high < 0 else "higher" if self.low > 0 else "not told apart"


def difference(a: ModelRuns, b: ModelRuns, metric: str) -> Difference | None:
    """a - b over the seeds that both have; None without one."""
    other = {s: r for s, r in zip(b.seeds, b.records, strict=True) if r is not None and r.complete}
    values = np.array(
        [
            r.metrics[metric] - other[s].metrics[metric]
            for s, r in zip(a.seeds, a.records, strict=True)
            if r is not None and r.complete and s in other
        ]
    )
    if not len(values):
        return None
    if len(values) == 1:
        return Difference(float(values[0]), None, None, 1)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return Difference(mean, mean - half, mean + half, len(values))


def arms_table(found: Gathered) -> Html:
    """Every arm that ran: losses, the difference to the reference in validation loss, and test metrics."""
    shown = [own for own in found.arms if own.complete or own.failed]
    if not shown:
        return not_run("The arms")
    reference = found.arm(REFERENCE)
    body: list[list[str | Html]] = []
    for own in shown:
        compared = None if reference is None or own is reference else difference(own, reference, "best_valid_loss")
        body.append(
            [
                own.label,
                spread_of(own, "loss", 3) if own.complete else "failed",
                spread_of(own, "best_valid_loss", 3),
                NONE if compared is None else signed(compared),
                NONE if compared is None else compared.word,
                spread_of(own, "test_loss", 3),
                spread_of(own, "ndcg@10", 4),
                spread_of(own, "ht@10", 4),
                f"{len(own.complete)} of {len(own.records)}",
            ]
        )
    label = ARMS[REFERENCE].label
    headers = ["Arm", "Training loss", "Best validation loss", f"Minus {label}", "Reading", "Test loss"]
    headers += ["NDCG@10", "HT@10", "Runs"]
    waiting = [own.label for own in found.arms if own not in shown]
    return table(
        headers,
        body,
        caption="The arms after the same number of epochs: mean ± standard deviation over seeds",
        notes=[
            "Training loss: mean over the last epoch, dropout on. Best validation loss: the least over epochs, of the "
            "averaged weights. Test loss and metrics: of the weights with the best validation NDCG@10. Differences are "
            "taken seed by seed, with a 95 % t interval.",
            *waiting_note(waiting),
        ],
        left=(0, 4),
    )


def waiting_note(names: Sequence[str]) -> list[str]:
    """The note below a table about what was planned for it and not run; none where all was."""
    return [f"Not run: {'; '.join(dict.fromkeys(names))}."] if names else []


def cost_table(found: Gathered) -> Html:
    """What training cost each arm that ran: steps, seconds by the clock, and seconds of the processor where records
    have them."""
    keys = ("steps", "train_seconds", "cpu_seconds")
    body = []
    for own in found.arms:
        costs = [[r.cost[key] for r in own.complete if r.cost.get(key) is not None] for key in keys]
        if own.complete:
            body.append([own.label, *(f"{np.mean(values):,.0f}" if values else NONE for values in costs)])
    if not body:
        return not_run("What the arms cost")
    return table(
        ["Arm", "Steps", "Seconds", "CPU seconds"],
        body,
        caption="What the arms cost, means over seeds",
        notes=[
            "Seconds: of training alone, by the clock of a machine that has other jobs, so that they compare loosely. "
            "CPU seconds: what the process computed in training and validation, whatever other jobs did. A dash: the "
            "record is older than this measurement, or its run was resumed."
        ],
    )


def spread_of(runs: ModelRuns, metric: str, digits: int) -> str:
    """Mean and standard deviation over seeds."""
    mean, spread = runs.mean(metric), runs.spread(metric)
    if mean is None:
        return NONE
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def signed(value: Difference, digits: int = 3) -> str:
    """A difference with its interval."""
    numbers = (value.estimate, value.low, value.high)
    estimate, low, high = ("" if number is None else f"{number:+.{digits}f}" for number in numbers)
    return f"{estimate} ({low} to {high})" if low and high else estimate


def least(found: Gathered, grid: str) -> float | None:
    """The least validation loss of the page's runs of the grid's model and as many epochs; None where none has run."""
    model, full = GRIDS[grid].model, GRIDS[grid].full
    arms = [own for own in (*found.arms, *found.others) if full and ARMS[own.model].model == model]
    losses = [own.mean("best_valid_loss") for own in arms]
    losses += [
        record.metrics["best_valid_loss"]
        for name, points in found.grids.items()
        if (GRIDS[name].model, GRIDS[name].full) == (model, full)
        for _, record in points
        if record is not None
    ]
    return min((loss for loss in losses if loss is not None), default=None)


def summary(found: Gathered, dataset: str) -> Html:
    """In sentences: who is best, what the paper's rule did, and what the variant without a rate reaches."""
    lines = []
    ran = [own for own in found.arms if own.complete]
    if ran:
        best = min(ran, key=lambda own: own.mean("best_valid_loss") or math.inf)
        train = min(ran, key=lambda own: own.mean("loss") or math.inf)
        lines.append(f"Least validation loss: {best.label}, {spread_of(best, 'best_valid_loss', 3)}.")
        lines.append(f"Least training loss: {train.label}, {spread_of(train, 'loss', 3)}.")
    reference = found.arm(REFERENCE)
    for name in ("usgm", PAPER_ARM, "usgm-noise", "probing", "probing-noise"):
        own = found.arm(name)
        compared = None if own is None or reference is None else difference(own, reference, "best_valid_loss")
        if own is not None and compared is not None:
            lines.append(
                f"{own.label} against {ARMS[REFERENCE].label}, validation loss: {signed(compared)}, {compared.word}."
            )
    for peers, free in TUNED_AND_FREE.values():
        own, other = found.arm(free), first_arm(found, peers)
        compared = None if own is None or other in (None, reference) else difference(own, other, "best_valid_loss")
        if own is not None and other is not None and compared is not None:
            lines.append(
                f"{own.label} against {other.label}, validation loss: {signed(compared)}, {compared.word}"
                + ("." if dataset == OPTIMIZER_STUDY else f", at the rate tuned on {dataset_name(OPTIMIZER_STUDY)}.")
            )
    waiting = [own.label for own in (*found.arms, *found.others) if not own.complete]
    if waiting:
        lines.append(f"Not run: {', '.join(waiting)}.")
    return bullets(lines) if ran else not_run("The arms")


def beta_table(fits: Mapping[str, Any] | None) -> Html:
    """The fits of beta at one point, both kinds of step, both axes."""
    if fits is None:
        return not_run("beta at one point")
    rows = [
        [
            {"real": "d = -g / H, as USGM steps", "fixed": "length held fixed"}[fit.step],
            {"1/m": "1 / B", "1/sqrt(m)": "1 / sqrt(B)"}[fit.axis],
            f"{fit.intercept:.3g}",
            f"{fit.slope:.3g}",
            f"{fit.r2:.4f}",
            fit.crossing,
        ]
        for fit in fits.values()
    ]
    headers = ["Step", "Axis", "c1 (intercept)", "c2 (slope)", "R²", "c1 = c2 times axis at B ="]
    return table(
        headers,
        rows,
        caption="Least squares through the mean beta at each batch size, at one point of training",
        notes=["Weighted by the inverse variance of each mean. B in batches of the step's own size B_0."],
        left=(0, 1),
    )
