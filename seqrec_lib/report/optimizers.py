"""Tables of the optimizer page: arms beside each other, how they were tuned, how robust they are, and the verdicts.

All numbers come from records. A difference between two arms is taken seed by seed, as both start from the same weights
and see the same batches; its interval is Student's t over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from seqrec_lib.experiments.arms import ARMS, GRIDS, TUNED, WITHOUT_TUNING
from seqrec_lib.experiments.optimizers import Cell
from seqrec_lib.report.html import NONE, Html, bullets, paragraph, stack, table
from seqrec_lib.report.paper import model_name
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.results import RunRecord

REFERENCE = "adam"  # the better of the two tuned Adams, so the harder yardstick
PAPER_ARM = "usgm-paper"  # what the paper's Figure 3 shows
Point = tuple[tuple[float, ...], RunRecord | None]


@dataclass(frozen=True)
class Gathered:
    """The page's runs: ``arms`` with one record per seed, ``grids`` by name, and the measurement of beta."""

    arms: list[ModelRuns]
    grids: dict[str, list[Point]]
    beta: RunRecord | None

    def arm(self, name: str) -> ModelRuns | None:
        """The runs of an arm, None where the page does not have it."""
        return next((own for own in self.arms if own.model == name), None)


def gather(cells: Sequence[Cell], configs: Sequence[Any], records: Sequence[RunRecord | None]) -> Gathered:
    """Put what `execute` returned for ``configs`` where ``cells`` says it belongs."""

    def record(cell: Cell) -> RunRecord | None:
        return records[configs.index(cell.config)]

    arms: dict[str, list[Cell]] = {}
    grids: dict[str, list[Point]] = {}
    beta = None
    for cell in cells:
        if cell.arm:
            arms.setdefault(cell.arm, []).append(cell)
        elif cell.grid:
            found = record(cell)
            grids.setdefault(cell.grid, []).append((cell.values, found if found and found.complete else None))
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
    return Gathered(runs, grids, beta)


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
    """Every arm: losses, test metrics, steps and time; then the difference to the reference in validation loss."""
    reference = found.arm(REFERENCE)
    body: list[list[str | Html]] = []
    for own in found.arms:
        compared = None if reference is None or own is reference else difference(own, reference, "best_valid_loss")
        seconds = [record.cost["train_seconds"] for record in own.complete]
        steps = [record.cost["steps"] for record in own.complete]
        body.append(
            [
                own.label,
                _spread(own, "loss", 3) if own.complete else ("failed" if own.failed else "not run"),
                _spread(own, "best_valid_loss", 3),
                NONE if compared is None else signed(compared),
                NONE if compared is None else compared.word,
                _spread(own, "test_loss", 3),
                _spread(own, "ndcg@10", 4),
                _spread(own, "ht@10", 4),
                f"{np.mean(steps):,.0f}" if steps else NONE,
                f"{np.mean(seconds):,.0f}" if seconds else NONE,
                f"{len(own.complete)} of {len(own.records)}",
            ]
        )
    label = ARMS[REFERENCE].label
    headers = ["Arm", "Training loss", "Best validation loss", f"Minus {label}", "Reading", "Test loss"]
    headers += ["NDCG@10", "HT@10", "Steps", "Seconds", "Runs"]
    return table(
        headers,
        body,
        caption="All arms after the same number of epochs: mean ± standard deviation over seeds",
        notes=[
            "Training loss: mean over the last epoch, dropout on. Best validation loss: the least over epochs, of the "
            "averaged weights. Test loss and metrics: of the weights with the best validation NDCG@10. Differences are "
            "taken seed by seed, with a 95 % t interval. Seconds: of training alone, on a machine with other jobs."
        ],
        left=(0, 4),
    )


def _spread(runs: ModelRuns, metric: str, digits: int) -> str:
    mean, spread = runs.mean(metric), runs.spread(metric)
    if mean is None:
        return NONE
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def signed(value: Difference) -> str:
    """A difference with its interval."""
    if value.low is None or value.high is None:
        return f"{value.estimate:+.3f}"
    return f"{value.estimate:+.3f} ({value.low:+.3f} to {value.high:+.3f})"


def best_point(points: Sequence[Point]) -> tuple[tuple[float, ...], float] | None:
    """The point of a grid with the least best validation loss, and that loss; None where none has run."""
    ran = [(record.metrics["best_valid_loss"], values) for values, record in points if record is not None]
    return None if not ran else (min(ran)[1], min(ran)[0])


def least(found: Gathered, model: str = "") -> float | None:
    """The least validation loss of the page's runs with a model ("": the page's own); None where none has run."""
    losses = [own.mean("best_valid_loss") for own in found.arms if not model]
    losses += [
        record.metrics["best_valid_loss"]
        for name, points in found.grids.items()
        if GRIDS[name].model == model
        for _, record in points
        if record is not None
    ]
    return min((loss for loss in losses if loss is not None), default=None)


def tuning_table(found: Gathered) -> Html:
    """The grids that tuned an arm: every value's validation loss, the best, and whether the arm uses it."""
    rows = []
    for name, points in found.grids.items():
        tunes = GRIDS[name].tunes
        if not tunes:
            continue
        best = best_point(points)
        losses = ", ".join(f"{values[0]:g}: {_loss(record)}" for values, record in points)
        used = TUNED[tunes]
        complete = all(record is not None for _, record in points)
        word = "not run" if best is None else "yes" if best[0][0] == used else "no" if complete else "grid incomplete"
        rows.append(
            [
                ARMS[tunes].label,
                GRIDS[name].axes[0],
                str(len(points)),
                losses,
                NONE if best is None else f"{best[0][0]:g}",
                f"{used:g}",
                word,
            ]
        )
    if not rows:
        return paragraph("No tuning grid is planned here: the arms use the values of the study on MovieLens-100K.")
    headers = ["Arm", "Setting", "Values tried", "Best validation loss by value", "Best", "Used", "Used is best"]
    return table(headers, rows, caption="How the arms were tuned: one seed, equal numbers of values", left=(0, 1, 3, 6))


def _loss(record: RunRecord | None) -> str:
    return "not run" if record is None else f"{record.metrics['best_valid_loss']:.3f}"


def robustness_table(found: Gathered) -> Html:
    """For every grid: over how many decades it ranges, the best, the median and the worst validation loss."""
    rows = []
    for name, points in found.grids.items():
        grid = GRIDS[name]
        losses = sorted(record.metrics["best_valid_loss"] for _, record in points if record is not None)
        spans = [
            f"{axis} {min(v[i] for v, _ in points):g} to {max(v[i] for v, _ in points):g}"
            for i, axis in enumerate(grid.axes)
        ]
        rows.append(
            [
                grid.title + (f" ({model_name(grid.model)})" if grid.model else ""),
                ", ".join(spans),
                f"{len(losses)} of {len(points)}",
                *(f"{losses[i]:.3f}" if losses else NONE for i in (0, len(losses) // 2, -1)),
                f"{losses[-1] - losses[0]:.3f}" if losses else NONE,
            ]
        )
    if not rows:
        return paragraph("No grid is planned here.")
    headers = ["Grid", "Range", "Points run", "Best", "Median", "Worst", "Worst minus best"]
    return table(headers, rows, caption="Best validation loss over each grid, one seed", left=(0, 1))


def without_tuning(found: Gathered) -> Html:
    """The variant's worst and best loss over all its starts, beside the least of tuned AdamW on its own grid."""
    seeds = found.arm("adamw-cosine")
    spread = None if seeds is None else seeds.spread("best_valid_loss")
    rows = []
    for name, peer in WITHOUT_TUNING.items():
        if name not in found.grids or peer not in found.grids:
            continue
        own, other = (
            [record.metrics["best_valid_loss"] for _, record in found.grids[grid] if record is not None]
            for grid in (name, peer)
        )
        complete = len(own) == len(found.grids[name]) and len(other) == len(found.grids[peer])
        reached = NONE
        if own and other and complete and spread is not None and not GRIDS[name].model:
            reached = "yes" if max(own) <= min(other) + 2 * spread else "no"
        rows.append(
            [
                f"{model_name(GRIDS[name].model)}, {name}" if GRIDS[name].model else name,
                f"{len(own)} of {len(found.grids[name])}, {len(other)} of {len(found.grids[peer])}",
                f"{min(own):.3f} to {max(own):.3f}" if own else "not run",
                f"{min(other):.3f}" if other else "not run",
                f"{max(own) - min(other):+.3f}" if own and other else NONE,
                reached,
            ]
        )
    if not rows:
        return paragraph("Without tuning: no grid of the probing variant is planned here.")
    noise = "unknown: fewer than two seeds" if spread is None else f"{spread:.3f}"
    return table(
        ["Grid", "Points run", "Probing USGM", "AdamW at its best rate", "Worst minus AdamW", "Within noise"],
        rows,
        caption="Without a rate to tune: the variant from every start, beside AdamW with its best rate",
        notes=[
            "Best validation loss, one seed. Within noise: the worst start is at most two standard deviations of AdamW "
            f"over seeds above AdamW; that deviation is {noise}."
        ],
        left=(0, 5),
    )


def summary(found: Gathered) -> Html:
    """In sentences: who is best, what the paper's rule did, and what the variant without a rate reaches."""
    lines = []
    ran = [own for own in found.arms if own.complete]
    if ran:
        best = min(ran, key=lambda own: own.mean("best_valid_loss") or math.inf)
        train = min(ran, key=lambda own: own.mean("loss") or math.inf)
        lines.append(f"Least validation loss: {best.label}, {_spread(best, 'best_valid_loss', 3)}.")
        lines.append(f"Least training loss: {train.label}, {_spread(train, 'loss', 3)}.")
    reference = found.arm(REFERENCE)
    for name in ("usgm", PAPER_ARM, "usgm-noise", "probing", "probing-noise"):
        own = found.arm(name)
        compared = None if own is None or reference is None else difference(own, reference, "best_valid_loss")
        if own is not None and compared is not None:
            lines.append(
                f"{own.label} against {ARMS[REFERENCE].label}, validation loss: {signed(compared)}, {compared.word}."
            )
    waiting = [own.label for own in found.arms if not own.complete]
    if waiting:
        lines.append(f"Not run: {', '.join(waiting)}.")
    return bullets(lines) if lines else paragraph("No arm has been run.")


def beta_table(fits: Mapping[str, Any] | None) -> Html:
    """The fits of beta at one point, both kinds of step, both axes."""
    if fits is None:
        return paragraph("beta at one point: not run.")
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
    return stack(
        [
            table(
                headers,
                rows,
                caption="Least squares through the mean beta at each batch size, at one point of training",
                notes=["Weighted by the inverse variance of each mean. B in batches of the step's own size B_0."],
                left=(0, 1),
            )
        ]
    )
