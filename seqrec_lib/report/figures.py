"""Figures of a results page, and `show`, which puts one on the page with alt text, caption and its numbers.

Figures are made without pyplot: nothing is drawn twice and no global state is left. They have an opaque white
ground, so that they read the same on a dark page. A model keeps its colour and its marker on every page; the
colours are told apart by readers with any common colour vision (after Okabe and Ito 2008), and no message
rests on colour alone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from seqrec_lib.report import html
from seqrec_lib.report.html import Html, not_run, paragraph
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.report.tables import metric_name, to_show

STYLES = {
    "popularity": ("#7f7f7f", "v"),
    "markov": ("#000000", "^"),
    "bm25-last": ("#A6761D", "d"),
    "title-markov": ("#4B5320", "p"),
    "sasrec": ("#0072B2", "o"),
    "mamba4rec": ("#D55E00", "s"),
    "2mamba4rec": ("#E69F00", "D"),
    "2mamba4rec+repeats": ("#332288", "*"),
    "2mamba4rec+residual+repeats": ("#117733", "*"),
    "sasrec+repeats": ("#999933", "*"),
    "hydra4rec": ("#009E73", "P"),
    "gpt4rec": ("#56B4E9", "<"),
    "mamrec": ("#CC79A7", ">"),
    "llamarec": ("#882255", "X"),
    "llamarec+2mamba4rec": ("#CC6677", "H"),
}
"""Colour and marker of each model; others share the last entry of `style`."""

_LINES = ("-", "--", ":", "-.")
_SHOWN_ROWS = 60  # longer tables come as a download only


def style(model: str) -> tuple[str, str]:
    """Colour and marker of a model; a variant ("llamarec+orpo") without its own has those of its base."""
    return STYLES.get(model) or STYLES.get(model.partition("+")[0], ("#661100", "h"))


def canvas(rows: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """An empty figure of ``width`` by ``height`` inches in the study's look, and its axes, shape (rows, columns)."""
    with mpl.rc_context({**sns.axes_style("whitegrid"), "font.size": 10, "axes.titlesize": 11}):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        sns.despine(ax=axis)
    return figure, axes


def learning_curves(runs: Sequence[ModelRuns]) -> Figure | None:
    """Training loss and validation NDCG@10 by epoch, one line per run; None where no run has a history.

    Colour is the model's, the dash pattern tells seeds apart. Where a loss is infinite or missing the line
    breaks.
    """
    curves = [
        (own, number, record.history)
        for own in runs
        for number, record in enumerate(own.records)
        if record is not None and record.complete and record.history
    ]
    if not curves:
        return None
    figure, axes = canvas(1, 2, 7.4, 3.2)
    named: set[str] = set()
    for own, number, history in curves:
        colour, marker = style(own.model)
        for axis, key in zip(axes.flat, ("loss", "valid_ndcg@10"), strict=True):
            points = [(entry["epoch"], entry[key]) for entry in history if entry.get(key) is not None]
            axis.plot(
                [epoch for epoch, _ in points],
                [value for _, value in points],
                color=colour,
                linestyle=_LINES[number % len(_LINES)],
                linewidth=1.5,
                marker=marker if len(points) < 25 else None,
                markersize=4,
                label=None if own.label in named else own.label,
            )
        named.add(own.label)
    for axis, title in zip(axes.flat, ("Training loss", "Validation NDCG@10"), strict=True):
        axis.set(title=title, xlabel="Epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.flat[0].legend(frameon=False)
    return figure


def still_rising(runs: Sequence[ModelRuns]) -> Html:
    """Which runs validated best at their last epoch: with more of them they might have ranked better."""
    rising, asked = [], 0
    for own in runs:
        curves = [[entry.get("valid_ndcg@10") for entry in record.history] for record in own.complete]
        scored = [curve for curve in curves if curve and curve[-1] is not None]
        late = sum(curve[-1] == max(value for value in curve if value is not None) for curve in scored)
        asked += len(scored)
        rising += [f"{own.label} {late} of {len(scored)}"] if late else []
    if not asked:
        return not_run("Validation by epoch")
    if not rising:
        return paragraph("No run validated best at its last epoch.")
    return paragraph(
        f"Runs that validated best at their last epoch: {'; '.join(rising)}. More epochs might have ranked these "
        "better. Where the learning rate falls to zero, a curve flattens at its end whatever is left to learn."
    )


def learning_curve_numbers(runs: Sequence[ModelRuns]) -> pd.DataFrame:
    """The numbers behind `learning_curves`: model, seed, epoch, loss, valid_ndcg@10, seconds."""
    return pd.DataFrame(
        [
            {"model": own.label, "seed": seed}
            | {key: entry.get(key) for key in ("epoch", "loss", "valid_ndcg@10", "seconds")}
            for own in runs
            for seed, record in zip(own.seeds, own.records, strict=True)
            if record is not None and record.complete
            for entry in record.history
        ]
    )


def metric_dots(frame: pd.DataFrame) -> Figure | None:
    """Models against each metric of an `accuracy_frame`: our mean with its user interval, the paper's number
    hollow; None where nothing was run.

    A model that was not run has the paper's number alone, or no line where that has none either.
    """
    if not frame["mean"].notna().any():
        return None
    frame = to_show(frame)
    metrics = list(dict.fromkeys(frame["metric"]))
    labels = list(dict.fromkeys(frame["label"]))
    figure, axes = canvas(1, len(metrics), 7.4, 0.42 * len(labels) + 1.3)
    for axis, metric in zip(axes.flat, metrics, strict=True):
        for y, row in enumerate(frame[frame["metric"] == metric].itertuples()):
            colour, marker = style(row.model)
            if row.interval is not None:
                axis.plot([row.interval.low, row.interval.high], [y, y], color=colour, linewidth=2, zorder=2)
            if row.mean is not None:
                axis.plot(row.mean, y, marker=marker, color=colour, markersize=7, linestyle="none", zorder=3)
            if row.paper is not None:
                axis.plot(row.paper.value, y, "o", mfc="none", mec="#444444", markersize=11, mew=1.4, zorder=4)
        axis.set(title=metric_name(metric), ylim=(len(labels) - 0.5, -0.5))
        axis.set_xlim(0, axis.get_xlim()[1] * 1.05)  # a ring at the edge stays whole
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_yticks(range(len(labels)), labels if axis is axes.flat[0] else [""] * len(labels))
    text = "filled: ours, line: 95 % interval over users"
    if frame["paper"].notna().any():
        text += "; ring: the paper"
    figure.supxlabel(text, fontsize=9, color="#444444")
    return figure


def metric_caption(frame: pd.DataFrame) -> str:
    """The caption of `metric_dots`; it speaks of the paper where that has a number."""
    paper = ""
    if frame["paper"].notna().any():
        paper = "; the ring is the paper's number, of whatever data and model the table's verdict names"
    return f"Each metric by model, over all users: ours with its 95 % interval{paper}."


def metric_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers behind `metric_dots`."""
    return pd.DataFrame(
        [
            {
                "metric": row.metric,
                "model": row.label,
                "ours": row.mean,
                "low": None if row.interval is None else row.interval.low,
                "high": None if row.interval is None else row.interval.high,
                "paper": None if row.paper is None else row.paper.value,
            }
            for row in to_show(frame).itertuples()
        ]
    )


def seen_items(frame: pd.DataFrame, metric: str) -> Figure | None:
    """What a user's own items cost: each model's metric among all items and, hollow, without the items of the history.

    None where no model of the `accuracy_frame` has both.
    """
    rows = _both_ways(frame, metric)
    if rows.empty:
        return None
    figure, axes = canvas(1, 1, 6.5, 0.34 * len(rows) + 1.2)
    axis: Axes = axes.flat[0]
    for y, row in enumerate(rows.itertuples()):
        colour, marker = style(row.model)
        axis.plot([row.mean, row.masked_mean], [y, y], color=colour, linewidth=1.5, zorder=2)
        axis.plot(row.masked_mean, y, marker=marker, mfc="white", mec=colour, markersize=8, mew=1.4, zorder=3)
        axis.plot(row.mean, y, marker=marker, color=colour, markersize=5, zorder=4)
    axis.set(xlabel=f"{metric_name(metric)}; filled: among all items, hollow: without those of the history")
    axis.set(xlim=(0, None), ylim=(len(rows) - 0.5, -0.5))
    axis.set_yticks(range(len(rows)), list(rows["label"]))
    return figure


def seen_items_numbers(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The numbers behind `seen_items`."""
    rows = _both_ways(frame, metric)
    return pd.DataFrame({"model": rows["label"], "all items": rows["mean"], "seen items masked": rows["masked_mean"]})


def seen_items_alt(frame: pd.DataFrame, metric: str) -> str:
    """What `seen_items` shows, in words."""
    pairs = [f"{row.label} {row.mean:.3f} and {row.masked_mean:.3f}" for row in _both_ways(frame, metric).itertuples()]
    return f"Pairs of dots, {metric_name(metric)} among all items and with seen items masked: {', '.join(pairs)}"


def _both_ways(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    return frame[(frame["metric"] == metric) & frame["mean"].notna() & frame["masked_mean"].notna()]


def length_histogram(first: np.ndarray, last: np.ndarray, users: np.ndarray, dataset: str) -> Figure:
    """How many users have a history of ``first[i]`` to ``last[i]`` interactions, both included: ``users[i]``.

    The axis is logarithmic, since a few users have very long histories.
    """
    figure, axes = canvas(1, 1, 6.5, 3.2)
    axis: Axes = axes.flat[0]
    axis.bar(first, users, width=last + 1 - first, align="edge", color="#0072B2", edgecolor="white", linewidth=0.5)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set(title=f"Length of users' histories, {dataset_name(dataset)}", xlabel="Interactions", ylabel="Users")
    return figure


def popularity_curve(item_share: np.ndarray, interaction_share: np.ndarray, dataset: str) -> Figure:
    """Share of all interactions that the most popular items draw, from 0 to 1; the diagonal: all equal."""
    figure, axes = canvas(1, 1, 4.6, 3.8)
    axis: Axes = axes.flat[0]
    axis.plot(item_share, interaction_share, color="#0072B2", linewidth=2, label="items as they are")
    axis.plot([0, 1], [0, 1], color="#7f7f7f", linestyle=":", label="all equally popular")
    axis.set(
        title=f"Popularity, {dataset_name(dataset)}",
        xlabel="Share of items, most popular first",
        ylabel="Share of interactions",
        xlim=(0, 1),
        ylim=(0, 1.01),
    )
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, loc="lower right")
    return figure


def rounding_chart(labels: Sequence[str], needed: Sequence[float], rounding: float) -> Figure:
    """Least rounding that makes each row of the paper possible, in units of its last digit, from 0.01."""
    figure, axes = canvas(1, 1, 6.8, 0.24 * len(labels) + 1.1)
    axis: Axes = axes.flat[0]
    shown = np.maximum(needed, 0.01)
    for y, value in enumerate(shown):
        fits = needed[y] <= rounding
        colour, marker = ("#0072B2", "o") if fits else ("#D55E00", "X")
        axis.plot([0.01, value], [y, y], color=colour, linewidth=1.2)
        axis.plot(value, y, marker=marker, color=colour, markersize=7)
    line = max(rounding, 0.01)
    axis.axvline(line, color="#444444", linestyle="--")
    axis.text(line * 1.06, -0.9, f"allowed: {rounding:g}", color="#444444", fontsize=9)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set(xlabel="Rounding needed, in units of the last printed digit", ylim=(len(labels) - 0.5, -1.4))
    axis.set_yticks(range(len(labels)), list(labels))
    return figure


def figure_html(figure: Figure, *, alt: str, caption: str, numbers: pd.DataFrame | None = None) -> html.Html:
    """SVG inside an <img> with alt text, a caption, and the numbers to unfold and to download."""
    stream = io.BytesIO()
    # Text as paths looks the same everywhere; fixed ids and no date make equal figures equal files.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "seqrec"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    source = f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue()).decode()}"
    below = "" if numbers is None or numbers.empty else _numbers_html(numbers, caption)
    return html.figure(source, alt=alt, caption=caption, below=below)


def _numbers_html(numbers: pd.DataFrame, caption: str) -> str:
    csv = base64.b64encode(numbers.to_csv(index=False).encode()).decode()
    address = f"data:text/csv;base64,{csv}"
    link = f'<p><a download="numbers.csv" href="{address}">Download as CSV ({len(numbers)} rows)</a></p>'
    shown = ""
    if len(numbers) <= _SHOWN_ROWS:
        rows = [[_cell(value) for value in row] for row in numbers.itertuples(index=False)]
        shown = html.table(list(map(str, numbers.columns)), rows, caption=f"Numbers: {caption}").html
    return f"<details><summary>{escape('The numbers behind this figure')}</summary>{shown}{link}</details>"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return html.NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show(
    figure: Figure | None,
    *,
    alt: str,
    caption: str,
    numbers: pd.DataFrame | None = None,
    missing: str = "not run",
) -> None:
    """Display a figure on the page; where there is none, a sentence that says why (``missing``)."""
    if figure is None:
        display(html.Html(f'<p class="{html.NOT_RUN}">No figure: {escape(missing)}.</p>', f"No figure: {missing}."))
    else:
        display(figure_html(figure, alt=alt, caption=caption, numbers=numbers))


def metric_dots_alt(frame: pd.DataFrame) -> str:
    """What `metric_dots` shows, in words: every model's number and the paper's."""
    parts = []
    for metric, rows in to_show(frame).groupby("metric", sort=False):
        models = [
            f"{row.label} {_word(row) if row.mean is None else format(row.mean, '.3f')}"
            + ("" if row.paper is None else f" (paper {row.paper})")
            for row in rows.itertuples()
        ]
        parts.append(f"{metric_name(str(metric))}: {', '.join(models)}")
    return "Dot plot. " + "; ".join(parts)


def _word(row: Any) -> str:
    return "masked only" if row.done else "not run"


def learning_curves_alt(runs: Sequence[ModelRuns]) -> str:
    """What `learning_curves` shows, in words: the best validation NDCG@10 of each run and its epoch."""
    parts = []
    for own in runs:
        for seed, record in zip(own.seeds, own.records, strict=True):
            history = [] if record is None or not record.complete else record.history
            scored = [entry for entry in history if entry.get("valid_ndcg@10") is not None]
            if scored:
                best = max(scored, key=lambda entry: entry["valid_ndcg@10"])
                value = f"{best['valid_ndcg@10']:.3f} at epoch {best['epoch']} of {len(history)}"
                parts.append(f"{own.label}, seed {seed}: best validation NDCG@10 {value}")
    return "Two line plots, training loss and validation NDCG@10 by epoch. " + "; ".join(parts)
