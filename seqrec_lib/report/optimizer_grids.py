"""Tables of the optimizer page over grids of settings: how the arms were tuned, how robust they are, and what the
variant without a rate to tune reaches. One seed each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seqrec_lib.experiments.arms import ARMS, GRIDS, TUNED, TUNED_AND_FREE, WITHOUT_TUNING
from seqrec_lib.report.html import NONE, Html, not_run, paragraph, table
from seqrec_lib.report.optimizers import Gathered, Point, difference, first_arm, signed, spread_of, waiting_note
from seqrec_lib.report.paper import OPTIMIZER_STUDY, dataset_name, model_name
from seqrec_lib.results import RunStore

METRICS = (("best_valid_loss", "Best validation loss", 3), ("test_loss", "Test loss", 3), ("ndcg@10", "NDCG@10", 4))


def best_point(points: Sequence[Point]) -> tuple[tuple[float, ...], float] | None:
    """The point of a grid with the least best validation loss, and that loss; None where none has run."""
    ran = [(record.metrics["best_valid_loss"], values) for values, record in points if record is not None]
    return None if not ran else (min(ran)[1], min(ran)[0])


def tuning_table(found: Gathered) -> Html:
    """The grids that tuned an arm: every value's validation loss, the best, and whether the arm uses it."""
    rows: list[list[str | Html]] = []
    waiting = []
    for name, points in found.grids.items():
        tunes = GRIDS[name].tunes
        if not tunes:
            continue
        best = best_point(points)
        if best is None:
            waiting.append(ARMS[tunes].label)
            continue
        losses = ", ".join(f"{point[0][0]:g}: {_loss(found, name, point)}" for point in points)
        used = TUNED[tunes]
        complete = all(record is not None or (name, values) in found.failed for values, record in points)
        at_edge = used in (points[0][0][0], points[-1][0][0])
        losses_of = {values[0]: record.metrics["best_valid_loss"] for values, record in points if record is not None}
        behind = losses_of.get(used, math.inf) - best[1]
        word = "grid incomplete" if not complete else "yes" if not behind else "to 0.001" if behind < 0.001 else "no"
        rows.append(
            [
                ARMS[tunes].label,
                GRIDS[name].axes[0],
                f"{best[0][0]:g}",
                f"{used:g}",
                word + (", at the edge" if word == "yes" and at_edge else ""),
                losses,
            ]
        )
    if waiting and not rows:
        return not_run("The grids that tune the arms")
    if not rows:
        return paragraph("No tuning grid is planned here: the arms use the values of the study on MovieLens 100K.")
    headers = ["Arm", "Setting", "Best", "Used", "Used is best", "Best validation loss by value"]
    return table(
        headers,
        rows,
        caption="How the arms were tuned: one seed, equal numbers of values",
        notes=[*_failures(found, [n for n in found.grids if GRIDS[n].tunes]), *waiting_note(waiting)],
        left=(0, 1, 4, 5),
        wrap=(5,),
    )


def _loss(found: Gathered, grid: str, point: Point) -> str:
    values, record = point
    if record is None:
        return "failed" if (grid, values) in found.failed else "not run"
    return f"{record.metrics['best_valid_loss']:.3f}"


def step_table(found: Gathered, store: RunStore) -> Html:
    """How far H, the inverse rate, moved from its start: USGM's arms over seeds, and the grid over D."""
    runs = {own.label: own.complete for own in found.arms if own.model.startswith(("usgm", "probing"))}
    runs |= {f"{GRIDS['usgm'].title}, D = {v[0]:g}": [r] for v, r in found.grids.get("usgm", []) if r is not None}
    rows: list[list[str | Html]] = []
    for label, records in runs.items():
        traces = [store.table(record, "trace").to_pandas() for record in records]
        if traces:
            start, end, D = (
                float(np.mean([trace[name].iloc[place] for trace in traces]))
                for name, place in (("H", 0), ("H", -1), ("D", -1))
            )
            rows.append([label, f"{D:.3g}", f"{start:.3g}", f"{end:.4g}", f"{end / start:.4g}", str(len(traces))])
    if not rows:
        return not_run("How far H moved")
    return table(
        ["Run", "D at the end", "H at the start", "H at the end", "End over start", "Seeds"],
        rows,
        caption="What USGM adapts: H, the inverse of its rate, means over seeds",
        notes=["Probing USGM starts at a tiny rate, so that its H falls while it probes, and measures D."],
    )


def robustness_table(found: Gathered) -> Html:
    """For every grid: over how many decades it ranges, the best, the median and the worst validation loss."""
    rows, waiting = [], []
    for name, points in found.grids.items():
        grid = GRIDS[name]
        losses = sorted(record.metrics["best_valid_loss"] for _, record in points if record is not None)
        if not losses:
            waiting.append(f"{grid_title(name)} over {' and '.join(grid.axes)}")
            continue
        failed = sum(place[0] == name for place in found.failed)
        spans = [
            f"{axis} {min(v[i] for v, _ in points):g} to {max(v[i] for v, _ in points):g}"
            for i, axis in enumerate(grid.axes)
        ]
        rows.append(
            [
                grid_title(name),
                ", ".join(spans),
                str(max(len(record.history) for _, record in points if record is not None)),
                f"{len(losses)} of {len(points)}" + (f", {failed} failed" if failed else ""),
                *(f"{losses[i]:.3f}" for i in (0, len(losses) // 2, -1)),
                f"{losses[-1] - losses[0]:.3f}",
            ]
        )
    if waiting and not rows:
        return not_run("The grids")
    if not rows:
        return paragraph("No grid is planned here.")
    headers = ["Grid", "Range", "Epochs", "Points run", "Best", "Median", "Worst", "Worst minus best"]
    notes = [*_failures(found, list(found.grids)), *waiting_note(waiting)]
    return table(headers, rows, caption="Best validation loss over each grid, one seed", notes=notes, left=(0, 1))


def _failures(found: Gathered, names: Sequence[str]) -> list[str]:
    """A note on points that ran and failed, with the error; none where there are none."""
    lines = []
    for (name, values), error in found.failed.items():
        if name in names:
            place = ", ".join(f"{axis} = {value:g}" for axis, value in zip(GRIDS[name].axes, values, strict=True))
            lines.append(f"{grid_title(name)} at {place}: {error.partition(';')[0]}")
    return [f"Failed: {'. '.join(lines)}."] if lines else []


def grid_title(name: str) -> str:
    """A grid as a reader calls it, with its model where that is not the page's own."""
    grid = GRIDS[name]
    return grid.title + (f" ({model_name(grid.model)})" if grid.model else "")


def without_tuning(found: Gathered, dataset: str) -> Html:
    """The variant's worst and best loss over all its starts, beside the least of a tuned Adam on its own grid."""
    rows, waiting = [], []
    for name, peers in WITHOUT_TUNING.items():
        peer = next((grid for grid in peers if grid in found.grids), None)
        if name not in found.grids or peer is None:
            continue
        if not any(record is not None for _, record in found.grids[name]):
            waiting.append(grid_title(name))
            continue
        own, other = (
            [record.metrics["best_valid_loss"] for _, record in found.grids[grid] if record is not None]
            for grid in (name, peer)
        )
        complete = len(own) == len(found.grids[name]) and len(other) == len(found.grids[peer])
        spread = _spread_of_tuned(found, peer)
        reached = NONE
        if complete and (spread is not None or max(own) <= min(other)):
            reached = "yes" if max(own) <= min(other) + 2 * (spread or 0.0) else "no"
        rows.append(
            [
                grid_title(name),
                f"{len(own)} of {len(found.grids[name])}",
                f"{min(own):.3f} to {max(own):.3f}",
                f"{GRIDS[peer].title}, {len(other)} of {len(found.grids[peer])} rates",
                f"{min(other):.3f}" if other else "not run",
                f"{max(own) - min(other):+.3f}" if own and other else NONE,
                NONE if spread is None else f"{spread:.3f}",
                reached,
            ]
        )
    if waiting and not rows:
        return not_run("The probing variant from several starts")
    if not rows:
        return paragraph("Without tuning: no grid of the probing variant is planned here.")
    headers = ["Grid", "Starts run", "Its losses", "Beside", "At its best rate", "Worst minus best", "Deviation"]
    notes = [
        "Best validation loss, one seed. Deviation: of the tuned Adam over seeds, a dash where it ran at fewer than "
        "two. Within noise: the worst start is at most two such deviations above it, or not above it at all. Starts "
        "above 0.0001 are cut to it, so that a larger one would be the same run."
    ]
    if dataset == OPTIMIZER_STUDY:
        notes.append("The variant's factor of 8 was chosen on these data at this seed: no test of it.")
    return table(
        [*headers, "Within noise"],
        rows,
        caption="Without a rate to tune: the variant from every start, beside a tuned Adam",
        notes=[*notes, *waiting_note(waiting)],
        left=(0, 3, 7),
        wrap=(0, 3),
    )


def _spread_of_tuned(found: Gathered, grid: str) -> float | None:
    """Over seeds, of the arm that a grid tunes; None where the grid tunes none or the page lacks the arm."""
    runs = found.arm(GRIDS[grid].tunes)
    return None if runs is None else runs.spread("best_valid_loss")


def over_seeds(found: Gathered, dataset: str) -> Html:
    """A tuned Adam and the variant without a rate to tune, from its usual start, over the same seeds: each model of the
    page that has both."""
    rows: list[list[str | Html]] = []
    waiting = []
    for peers, name in TUNED_AND_FREE.values():
        tuned, free = first_arm(found, peers), found.arm(name)
        if tuned is None or free is None:
            continue
        if not tuned.complete or not free.complete:
            waiting += [runs.label for runs in (tuned, free) if not runs.complete]
            continue
        for metric, title, digits in METRICS:
            gap = difference(free, tuned, metric)
            rows.append(
                [
                    free.label,
                    title,
                    spread_of(free, metric, digits),
                    tuned.label,
                    spread_of(tuned, metric, digits),
                    NONE if gap is None else signed(gap, digits),
                    NONE if gap is None else gap.word,
                    "0" if gap is None else str(gap.seeds),
                ]
            )
    if not rows:
        title = "The probing variant beside a tuned Adam over seeds"
        return not_run(title) if waiting else paragraph(f"{title}: not planned here.")
    notes = ["Differences are taken seed by seed, with a 95 % t interval."]
    if dataset != OPTIMIZER_STUDY:
        notes.append(f"Adam's rate is the one that was tuned on {dataset_name(OPTIMIZER_STUDY)}.")
    return table(
        ["Arm", "Metric", "Its value", "Beside", "Its value", "Difference", "Reading", "Seeds"],
        rows,
        caption="Without a rate to tune: the variant beside a tuned Adam over seeds",
        notes=[*notes, *waiting_note(waiting)],
        left=(0, 1, 3, 6),
        wrap=(0, 1, 3),
    )
