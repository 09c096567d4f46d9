"""Figures of the optimizer page that compare arms and settings; those of the batch: `batch_figures`.

An arm keeps its colour, dash pattern and marker in every figure: colour and marker say which optimizer, the dash
pattern how it batches.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from seqrec_lib.experiments.arms import ARMS, GRIDS
from seqrec_lib.report.figures import canvas
from seqrec_lib.report.optimizers import Gathered, Point

STYLES: dict[str, tuple[str, str, str]] = {  # colour, marker, line
    "adam-default": ("#7f7f7f", "v", ":"),
    "adam": ("#000000", "^", "-"),
    "adam-large": ("#000000", "^", "--"),
    "adamw-cosine": ("#0072B2", "o", "-"),
    "sgd": ("#882255", "X", "-"),
    "usgm": ("#D55E00", "s", "-"),
    "usgm-paper": ("#D55E00", "s", "--"),
    "usgm-noise": ("#D55E00", "s", ":"),
    "usgm-adam": ("#E69F00", "D", "-"),
    "probing": ("#009E73", "P", "-"),
    "probing-noise": ("#009E73", "P", ":"),
}
CUT = 1.8  # how far above its least loss a panel reaches; popularity, where nothing is learnt, is 1.4 above
AXES = (
    ("epoch", "Epochs"),
    ("samples", "Targets trained, in thousands"),
    ("steps", "Optimizer steps"),
    ("seconds", "Seconds of training"),
)


def _style(name: str) -> tuple[str, str, str]:
    return STYLES.get(name, ("#332288", "h", "-"))


def curve_numbers(found: Gathered, metric: str) -> pd.DataFrame:
    """One row per arm and epoch: means over seeds of the metric and of all four axes, accumulated; low, high: over
    seeds."""
    rows = []
    for own in found.arms:
        histories = [record.history for record in own.complete]
        for epoch in range(min(map(len, histories), default=0)):
            values = [history[epoch][metric] for history in histories]
            done = {
                name: float(np.mean([sum(entry[name] for entry in history[: epoch + 1]) for history in histories]))
                for name in ("samples", "steps", "seconds")
            }
            done["samples"] /= 1000
            spread = {metric: float(np.mean(values)), "low": min(values), "high": max(values)}
            rows.append({"arm": own.model, "label": own.label, "epoch": epoch + 1, **done, **spread})
    return pd.DataFrame(rows)


def curves(found: Gathered, metric: str, title: str) -> Figure | None:
    """A metric against epochs, targets, steps and seconds: a panel each, a line for each arm, a band over its seeds."""
    numbers = curve_numbers(found, metric)
    if numbers.empty:
        return None
    figure, axes = canvas(2, 2, 7.4, 7.2)
    for axis, (column, name) in zip(axes.flat, AXES, strict=True):
        for arm, rows in numbers.groupby("arm", sort=False):
            colour, marker, line = _style(str(arm))
            axis.fill_between(rows[column], rows["low"], rows["high"], color=colour, alpha=0.12, linewidth=0)
            axis.plot(
                rows[column],
                rows[metric],
                color=colour,
                linestyle=line,
                marker=marker,
                markersize=4,
                linewidth=1.4,
                label=rows["label"].iloc[0],
            )
        axis.set(xlabel=name, ylabel=title)
        if column in ("steps", "seconds"):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.xaxis.set_minor_formatter(NullFormatter())
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def curves_alt(found: Gathered, metric: str, title: str) -> str:
    """The last value of each arm, in words."""
    numbers = curve_numbers(found, metric)
    if numbers.empty:
        return "No run"
    last = numbers.groupby("arm", sort=False).tail(1)
    values = "; ".join(
        f"{row['label']} {row[metric]:.3f} after {row['steps']:,.0f} steps" for _, row in last.iterrows()
    )
    return f"Four line plots of {title.lower()} against epochs, targets, steps and seconds. At the end: {values}"


def grid_numbers(found: Gathered, names: Sequence[str], metric: str = "best_valid_loss") -> pd.DataFrame:
    """grid, the value on each axis, and the metric; points that were not run are left out."""
    rows = [
        {"grid": f"{GRIDS[name].title}, over {' and '.join(GRIDS[name].axes)}"}
        | dict(zip(GRIDS[name].axes, values, strict=True))
        | {metric: record.metrics[metric]}
        for name in names
        for values, record in found.grids.get(name, [])
        if record is not None
    ]
    return pd.DataFrame(rows)


def sensitivity(found: Gathered, panels: Mapping[str, Sequence[str]]) -> Figure | None:
    """Best validation loss against a setting: one panel for each title, with its grids as lines.

    A loss far above a panel's least one, as after divergence, is cut off at the panel's upper edge. Hollow marks: grids
    of short runs.
    """
    shown = {title: [n for n in names if _ran(found.grids.get(n, []))] for title, names in panels.items()}
    shown = {title: names for title, names in shown.items() if names}
    if not shown:
        return None
    figure, axes = canvas(-(-len(shown) // 2), min(2, len(shown)), 7.4, 4.0 * -(-len(shown) // 2))
    for axis, (title, names) in zip(axes.flat, shown.items(), strict=False):
        for name in names:
            points = _ran(found.grids[name])
            colour, marker, line = _style(_arm_like(name))
            axis.plot(
                [values[0] for values, _ in points],
                [loss for _, loss in points],
                color=colour,
                marker=marker,
                linestyle=line,
                markerfacecolor=colour if GRIDS[name].full else "#ffffff",
                label=GRIDS[name].title,
            )
        axis.set(title=title, xscale="log", xlabel=GRIDS[names[0]].axes[0], ylabel="Best validation loss")
        shown_values = sorted({values[0] for name in names for values, _ in found.grids[name]})
        if shown_values[-1] < 1000 * shown_values[0]:  # too few decades for ticks at powers of ten
            axis.set_xticks(shown_values, [f"{value:g}" for value in shown_values])
            axis.xaxis.set_minor_locator(NullLocator())
        losses = [loss for name in names for _, loss in _ran(found.grids[name])]
        if max(losses) > min(losses) + CUT:
            axis.set_ylim(min(losses) - 0.08 * CUT, min(losses) + CUT)
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    return figure


def _arm_like(grid: str) -> str:
    """The arm whose style a grid's line has: the one that it tunes or, by its title, varies; else of its method."""
    titled = (name for name, arm in ARMS.items() if arm.label == GRIDS[grid].title)
    return GRIDS[grid].tunes or next(titled, grid.split("-")[0])


def _ran(points: Sequence[Point]) -> list[tuple[tuple[float, ...], float]]:
    return [(values, record.metrics["best_valid_loss"]) for values, record in points if record is not None]


def sensitivity_alt(numbers: pd.DataFrame) -> str:
    """What `sensitivity` shows, in words, from `grid_numbers`: where each line has its least loss, and its worst."""
    if numbers.empty:
        return "No grid"
    parts = []
    for title, rows in numbers.groupby("grid", sort=False):
        (axis,) = [name for name in rows if name not in ("grid", "best_valid_loss") and rows[name].notna().all()][:1]
        best = rows.loc[rows["best_valid_loss"].idxmin()]
        worst = rows.loc[rows["best_valid_loss"].idxmax()]
        parts.append(
            f"{title}: {best['best_valid_loss']:.3f} at {best[axis]:g}, at worst "
            f"{worst['best_valid_loss']:.3f} at {worst[axis]:g}"
        )
    return "Line plots of the best validation loss over single settings. " + "; ".join(parts)


def plane_numbers(points: Sequence[Point]) -> pd.DataFrame:
    """lr0, D and the loss of every point of `plane` that ran."""
    return pd.DataFrame(
        [{"lr0": v[0], "D": v[1], "best validation loss": loss} for v, loss in _ran(points)],
        columns=["lr0", "D", "best validation loss"],
    )


def plane_alt(points: Sequence[Point], title: str) -> str:
    """What `plane` shows, in words."""
    ran = plane_numbers(points)
    if ran.empty:
        return "No point"
    best, worst = (ran.loc[number] for number in (ran.iloc[:, 2].idxmin(), ran.iloc[:, 2].idxmax()))
    ends = " to ".join(f"{row.iloc[2]:.3f} at lr0 {row['lr0']:g} and D {row['D']:g}" for row in (best, worst))
    return f"Table of validation losses by lr0 and D, {title}: {ends}"


def plane(
    points: Sequence[Point], title: str, reference: float | None, failed: Collection[tuple[float, ...]] = ()
) -> Figure | None:
    """A grid over lr0 and D as cells with their loss; those within 0.05 of the reference are framed."""
    ran = _ran(points)
    if not ran:
        return None
    rates = sorted({values[0] for values, _ in points})
    distances = sorted({values[1] for values, _ in points})
    losses = np.full((len(rates), len(distances)), np.nan)
    for (rate, distance), loss in ran:
        losses[rates.index(rate), distances.index(distance)] = loss
    least = np.nanmin(losses)
    figure, axes = canvas(1, 1, 5.6, 0.6 * len(rates) + 1.6)
    axis: Axes = axes.flat[0]
    axis.grid(False)
    axis.imshow(losses, cmap="Greys", vmin=least - 0.2, vmax=2 * np.nanmax(losses) - least + 0.2, aspect="auto")
    for i, j in np.ndindex(losses.shape):
        close = reference is not None and losses[i, j] <= reference + 0.05
        no_loss = "failed" if (rates[i], distances[j]) in failed else "not run"
        text = no_loss if math.isnan(losses[i, j]) else f"{losses[i, j]:.3f}"
        frame = {"edgecolor": "#0072B2", "facecolor": "white", "linewidth": 2} if close else {"visible": False}
        axis.text(j, i, text, ha="center", va="center", color="black", bbox=frame)
    axis.set_xticks(range(len(distances)), [f"{value:g}" for value in distances])
    axis.set_yticks(range(len(rates)), [f"{value:g}" for value in rates])
    axis.set(xlabel="D", ylabel="lr0", title=title)
    return figure


def frontier_numbers(found: Gathered) -> pd.DataFrame:
    """Steps and best validation loss, one row per arm (means over seeds; low, high: their range) and one per point of
    the grid over the noise rule's share, which is one seed."""
    rows = []
    for own in found.arms:
        losses = [record.metrics["best_valid_loss"] for record in own.complete]
        if losses:
            steps = float(np.mean([record.cost["steps"] for record in own.complete]))
            spread = {"best_valid_loss": float(np.mean(losses)), "low": min(losses), "high": max(losses)}
            rows.append({"arm": own.model, "label": own.label, "share": math.nan, "steps": steps} | spread)
    for values, record in found.grids.get("share", []):
        if record is not None:
            loss = record.metrics["best_valid_loss"]
            label = f"{GRIDS['share'].title}, share {values[0]:g}"
            place = {"share": values[0], "steps": float(record.cost["steps"])}
            rows.append({"arm": "", "label": label, **place, "best_valid_loss": loss, "low": loss, "high": loss})
    return pd.DataFrame(rows)


def frontier(numbers: pd.DataFrame) -> Figure | None:
    """Best validation loss against optimizer steps, from `frontier_numbers`: what fewer, larger steps cost."""
    if numbers.empty:
        return None
    figure, axes = canvas(1, 1, 7.4, 4.8)
    axis: Axes = axes.flat[0]
    line = numbers[numbers["arm"] == ""].sort_values("steps")
    if len(line):
        colour = _style("probing")[0]
        axis.plot(line["steps"], line["best_valid_loss"], color=colour, marker=".", linewidth=1.2, label="by share")
        for place, rows in line.groupby(["steps", "best_valid_loss"]):  # points that coincide share a label
            shares = ", ".join(f"{share:g}" for share in sorted(rows["share"]))
            last = place[0] == line["steps"].max()  # where the arms that take every step stand
            beside, align = ((-6, -12), "right") if last else ((5, 5), "left")
            axis.annotate(shares, place, beside, textcoords="offset points", ha=align, fontsize=8, color=colour)
    for _, row in numbers[numbers["arm"] != ""].iterrows():
        colour, marker, style = _style(str(row["arm"]))
        mean = row["best_valid_loss"]
        axis.errorbar(
            row["steps"],
            mean,
            yerr=[[mean - row["low"]], [row["high"] - mean]],
            color=colour,
            marker=marker,
            markerfacecolor=colour if style == "-" else "none",
            linestyle="",
            capsize=3,
            label=row["label"],
        )
    axis.set(xlabel="Optimizer steps", ylabel="Best validation loss", xscale="log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def frontier_alt(numbers: pd.DataFrame) -> str:
    """What `frontier` shows, in words."""
    if numbers.empty:
        return "No run"
    ordered = numbers.sort_values("steps")
    points = (f"{row['label']} {row['best_valid_loss']:.3f} in {row['steps']:,.0f}" for _, row in ordered.iterrows())
    return f"Best validation loss against optimizer steps. {'; '.join(points)}"
