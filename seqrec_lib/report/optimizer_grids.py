"""Tables of the optimizer page over grids of settings: how the arms were tuned, how robust they are, and what the
variant without a rate to tune reaches. One seed each."""

from __future__ import annotations

from collections.abc import Sequence

from seqrec_lib.experiments.arms import ARMS, GRIDS, TUNED, WITHOUT_TUNING
from seqrec_lib.report.html import NONE, Html, not_run, paragraph, table
from seqrec_lib.report.optimizers import Gathered, Point, waiting_note
from seqrec_lib.report.paper import model_name
from seqrec_lib.results import RunRecord


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
        losses = ", ".join(f"{values[0]:g}: {_loss(record)}" for values, record in points)
        used = TUNED[tunes]
        complete = all(record is not None for _, record in points)
        word = "grid incomplete" if not complete else "yes" if best[0][0] == used else "no"
        rows.append(
            [
                ARMS[tunes].label,
                GRIDS[name].axes[0],
                f"{best[0][0]:g}",
                f"{used:g}",
                word,
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
        notes=waiting_note(waiting),
        left=(0, 1, 4, 5),
        wrap=(5,),
    )


def _loss(record: RunRecord | None) -> str:
    return "not run" if record is None else f"{record.metrics['best_valid_loss']:.3f}"


def robustness_table(found: Gathered) -> Html:
    """For every grid: over how many decades it ranges, the best, the median and the worst validation loss."""
    rows, waiting = [], []
    for name, points in found.grids.items():
        grid = GRIDS[name]
        losses = sorted(record.metrics["best_valid_loss"] for _, record in points if record is not None)
        if not losses:
            waiting.append(f"{grid_title(name)} over {' and '.join(grid.axes)}")
            continue
        spans = [
            f"{axis} {min(v[i] for v, _ in points):g} to {max(v[i] for v, _ in points):g}"
            for i, axis in enumerate(grid.axes)
        ]
        rows.append(
            [
                grid_title(name),
                ", ".join(spans),
                f"{len(losses)} of {len(points)}",
                *(f"{losses[i]:.3f}" for i in (0, len(losses) // 2, -1)),
                f"{losses[-1] - losses[0]:.3f}",
            ]
        )
    if waiting and not rows:
        return not_run("The grids")
    if not rows:
        return paragraph("No grid is planned here.")
    headers = ["Grid", "Range", "Points run", "Best", "Median", "Worst", "Worst minus best"]
    caption = "Best validation loss over each grid, one seed"
    return table(headers, rows, caption=caption, notes=waiting_note(waiting), left=(0, 1))


def grid_title(name: str) -> str:
    """A grid as a reader calls it, with its model where that is not the page's own."""
    grid = GRIDS[name]
    return grid.title + (f" ({model_name(grid.model)})" if grid.model else "")


def without_tuning(found: Gathered) -> Html:
    """The variant's worst and best loss over all its starts, beside the least of tuned AdamW on its own grid."""
    seeds = found.arm("adamw-cosine")
    spread = None if seeds is None else seeds.spread("best_valid_loss")
    rows, waiting = [], []
    for name, peer in WITHOUT_TUNING.items():
        if name not in found.grids or peer not in found.grids:
            continue
        if not any(record is not None for _, record in found.grids[name]):
            waiting.append(grid_title(name))
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
                grid_title(name),
                f"{len(own)} of {len(found.grids[name])}, {len(other)} of {len(found.grids[peer])}",
                f"{min(own):.3f} to {max(own):.3f}",
                f"{min(other):.3f}" if other else "not run",
                f"{max(own) - min(other):+.3f}" if own and other else NONE,
                reached,
            ]
        )
    if waiting and not rows:
        return not_run("The probing variant from several starts")
    if not rows:
        return paragraph("Without tuning: no grid of the probing variant is planned here.")
    noise = "unknown: fewer than two seeds" if spread is None else f"{spread:.3f}"
    return table(
        ["Grid", "Points run", "Probing USGM", "AdamW at its best rate", "Worst minus AdamW", "Within noise"],
        rows,
        caption="Without a rate to tune: the variant from every start, beside AdamW with its best rate",
        notes=[
            "Best validation loss, one seed. Within noise: the worst start is at most two standard deviations of AdamW "
            f"over seeds above AdamW; that deviation is {noise}.",
            *waiting_note(waiting),
        ],
        left=(0, 5),
    )
