"""Figures of tuning on preferences: the paper's Figures 1 and 2 redone, and what each arm changes."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from seqrec_lib.evaluate.statistics import bootstrap_interval
from seqrec_lib.report import figures
from seqrec_lib.report.paper import METRICS, paper_row
from seqrec_lib.report.preferences import PAPER_ARMS, Change, before
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.report.tables import metric_name
from seqrec_lib.results import RunStore


def bars_frame(runs: Sequence[ModelRuns], store: RunStore, arm: str | None = None) -> pd.DataFrame:
    """Figures 1 and 2: metric, when, mean, low, high, paper of one arm (the paper's, where it was run)."""
    ran = [own for own in runs if own.complete]
    chosen = next((own for own in ran if arm and own.model.endswith(f"+{arm}")), None)
    chosen = chosen or next((own for own in ran if own.model.partition("+")[2] in PAPER_ARMS), ran[0] if ran else None)
    if chosen is None:
        return pd.DataFrame()
    printed = paper_row(chosen.dataset, "llamarec")
    found = []
    for metric in METRICS:
        for when, values in (("before", before(chosen, store, metric)), ("after", chosen.user_means(metric))):
            assert values is not None
            interval = bootstrap_interval(values)
            number = None if printed is None else printed.metric(metric)
            found.append(
                {
                    "arm": chosen.label,
                    "metric": metric,
                    "when": when,
                    "mean": float(values.mean()),
                    "low": interval.low,
                    "high": interval.high,
                    "paper": None if number is None or when == "after" else number.value,
                }
            )
    return pd.DataFrame(found)


def bars(frame: pd.DataFrame) -> Figure | None:
    """Before and after with intervals over users; the paper's LlamaRec hollow; None without a run."""
    if frame.empty:
        return None
    canvas, axes = figures.canvas(1, len(METRICS), 7.4, 3.2)
    for axis, metric in zip(axes.flat, METRICS, strict=True):
        for x, row in enumerate(frame[frame["metric"] == metric].itertuples()):
            look = {"color": "#882255"} if row.when == "after" else {"facecolor": "#dddddd", "hatch": "//"}
            axis.bar(x, row.mean, width=0.65, edgecolor="#444444", **look)
            axis.plot([x, x], [row.low, row.high], color="#000000", linewidth=2)
            if pd.notna(row.paper):
                axis.plot(x, row.paper, "o", mfc="white", mec="#444444", markersize=10, mew=1.4)
        axis.set_xticks([0, 1], ["before", "after"])
        axis.set(title=metric_name(metric), xlim=(-0.6, 1.6))
        axis.set_ylim(bottom=0)
    text = "lines: 95 % intervals over users"
    if frame["paper"].notna().any():
        text += "\nhollow: the paper's LlamaRec, from its tables (the numbers of its figures are not printed)"
    canvas.supxlabel(text, fontsize=9, color="#444444")
    return canvas


def bars_alt(frame: pd.DataFrame) -> str:
    """The bars in words."""
    parts = [f"{metric_name(r.metric)} {r.when} {r.mean:.4f}" for r in frame.itertuples()]
    return f"Bar chart, {frame['arm'].iloc[0]}. " + "; ".join(parts) if parts else "Not run."


def arms_figure(changes: Sequence[Change]) -> Figure | None:
    """Every arm's change with its interval; the paper's arms filled, the leak crossed; None without a run."""
    ran = [c for c in changes if c.difference is not None]
    if not ran:
        return None
    canvas, axes = figures.canvas(1, 1, 7.0, 0.36 * len(ran) + 1.3)
    axis = axes.flat[0]
    for y, change in enumerate(ran):
        assert change.difference is not None
        leak = change.own.model.endswith("leaky")
        colour, marker = ("#D55E00", "X") if leak else ("#882255", "o")
        filled = leak or change.own.model.partition("+")[2] in PAPER_ARMS
        axis.plot([change.difference.low, change.difference.high], [y, y], color=colour, linewidth=2)
        axis.plot(
            change.difference.estimate, y, marker, mfc=colour if filled else "white", mec=colour, markersize=7, mew=1.6
        )
    axis.axvline(0, color="#444444", linestyle="--", linewidth=1)
    axis.set_yticks(range(len(ran)), [c.own.label for c in ran])
    axis.set(xlabel="NDCG@10, after minus before", ylim=(len(ran) - 0.5, -0.5))
    return canvas


def arms_alt(changes: Sequence[Change]) -> str:
    """The arms in words."""
    return "Dot plot of changes in NDCG@10 with intervals. " + "; ".join(
        f"{c.own.label} {c.difference.estimate:+.4f}" for c in changes if c.difference is not None
    )
