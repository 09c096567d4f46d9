"""The paper's Appendix B: latency against HT@10, a point for each model, ours with both intervals, the paper's hollow.

Hardware differs, so latency is in units of SASRec's on the same machine, on a log axis: both SASRec points stand at 1.
A language model's latency comes from a benchmark that times it in turns with the models as served (`decoding`); where
there is no latency run, so does theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqrec_lib.evaluate.statistics import Interval, bootstrap_interval
from seqrec_lib.report.decoding import LANGUAGE
from seqrec_lib.report.figures import canvas, style
from seqrec_lib.report.html import Html, not_run, paragraph
from seqrec_lib.report.paper import model_name, paper_row
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.report.timings import Timings, times

METRIC = "ht@10"


@dataclass(frozen=True)
class Point:
    """One model: its latency in units of SASRec's and its HT@10, ours (None: not run) and the paper's (None: none)."""

    model: str
    label: str
    latency: Interval | None
    accuracy: float | None
    interval: Interval | None
    paper_latency: float | None
    paper_accuracy: float | None


def points(
    runs: Sequence[ModelRuns],
    timings: Timings | None,
    dataset: str,
    path: str = "served",
    benchmark: Mapping[str, Interval] | None = None,
) -> list[Point]:
    """A point for each of ``runs`` and each model that the paper prints for ``dataset``.

    ``benchmark``: latencies in units of SASRec's by model id, for models without one in ``timings``. Its language
    models are those from scratch; a pretrained one of the same name is another model, whose latency is not theirs.
    """
    base = paper_row(dataset, "sasrec")
    unit = None if base is None or base.latency is None else base.latency.value
    there: list[tuple[str, ModelRuns | None]] = [(own.model, own) for own in runs]
    names = {own.model for own in runs}
    there += [(m, None) for m in LANGUAGE if paper_row(dataset, m) and m not in names]
    found = []
    for model, own in there:
        row = paper_row(dataset, model)
        masked = own is not None and own.mean(METRIC) is None and own.mean(f"masked_{METRIC}") is not None
        metric = f"masked_{METRIC}" if masked else METRIC
        values = None if own is None else own.user_means(metric)
        latency = None if timings is None else timings.ratio((model, path), ("sasrec", path))
        if latency is None and own is not None and (own.other_model or not model.startswith(LANGUAGE)):
            latency = (benchmark or {}).get(model)
        found.append(
            Point(
                model,
                model_name(model) if own is None else own.label + (", seen items masked" if masked else ""),
                latency,
                None if own is None else own.mean(metric),
                None if values is None or len(values) < 2 else bootstrap_interval(values),
                None if row is None or row.latency is None or unit is None else row.latency.value / unit,
                None if row is None or row.ht is None else row.ht.value,
            )
        )
    return found


def waiting(found: Sequence[Point]) -> Html:
    """Which points are missing, and what they lack; one line where that is all of them."""
    if not any(p.latency is not None and p.accuracy is not None for p in found):
        return not_run("Latency against accuracy")
    lacks = {
        "neither accuracy nor latency": [p for p in found if p.latency is None and p.accuracy is None],
        "no latency": [p for p in found if p.latency is None and p.accuracy is not None],
        "no accuracy": [p for p in found if p.latency is not None and p.accuracy is None],
    }
    words = [f"{', '.join(p.label for p in points)} ({what})" for what, points in lacks.items() if points]
    return paragraph(
        f"Not run: {'; '.join(words)}." if words else "Every model has a point. SASRec's latency is the unit."
    )


def figure(found: Sequence[Point]) -> Figure | None:
    """HT@10 over latency; None where no model has both numbers of ours."""
    if not any(p.latency is not None and p.accuracy is not None for p in found):
        return None
    figure, axes = canvas(1, 1, 7.0, 4.2)
    axis: Axes = axes.flat[0]
    for point in found:
        colour, marker = style(point.model)
        drawn = False
        if point.latency is not None and point.accuracy is not None:
            x, y = point.latency.estimate, point.accuracy
            if point.latency.low == point.latency.low:
                axis.plot([point.latency.low, point.latency.high], [y, y], color=colour, linewidth=1.5)
            if point.interval is not None:
                axis.plot([x, x], [point.interval.low, point.interval.high], color=colour, linewidth=1.5)
            axis.plot(x, y, marker, color=colour, markersize=7, label=point.label)
            drawn = True
        if point.paper_latency is not None and point.paper_accuracy is not None:
            axis.plot(
                point.paper_latency, point.paper_accuracy, marker, mfc="none", mec=colour, markersize=10, mew=1.5,
                label=None if drawn else f"{point.label}: paper only",
            )  # fmt: skip
    axis.axvline(1.0, color="#7f7f7f", linestyle=":", linewidth=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set(xlabel="Latency in units of SASRec's (log scale)", ylabel="HT@10")
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    beside = "; hollow: the paper" if _has_paper(found) else ""
    figure.supxlabel(f"filled: ours with 95 % intervals{beside}", fontsize=9, color="#444444")
    return figure


def _has_paper(found: Sequence[Point]) -> bool:
    return any(p.paper_latency is not None and p.paper_accuracy is not None for p in found)


def caption(found: Sequence[Point], runs: Sequence[ModelRuns] = (), timings: Timings | None = None) -> str:
    """The caption of `figure`; it speaks of the paper where that has a point, and of models that rank with another
    length of history than they were timed with."""
    note = _other_lengths(runs, timings)
    if _has_paper(found):
        return (
            "HT@10 over latency, each side's SASRec at 1. Ours are filled, the paper's hollow: see how far apart."
            + note
        )
    return "HT@10 over latency, SASRec's at 1. Up is more accurate, left is faster." + note


def _other_lengths(runs: Sequence[ModelRuns], timings: Timings | None) -> str:
    if timings is None:
        return ""
    timed = timings.record.config["max_length"]
    shorter = []
    for own in runs:
        training = own.complete[0].config.get("training") if own.complete and not own.other_model else None
        length = (training or {}).get("max_length", timed)
        if length != timed:
            shorter.append(f"{own.label} ranks with the last {length}")
    return f" All were timed on histories of up to {timed} items; {', '.join(shorter)}." if shorter else ""


def alt(found: Sequence[Point]) -> str:
    """What `figure` shows, in words."""
    parts = []
    for p in found:
        ours = (
            "not run"
            if p.latency is None or p.accuracy is None
            else f"{times(p.latency.estimate)} times SASRec's latency, HT@10 {p.accuracy:.3f}"
        )
        paper = (
            ""
            if p.paper_latency is None or p.paper_accuracy is None
            else f" (paper {times(p.paper_latency)}, {p.paper_accuracy:.3f})"
        )
        parts.append(f"{p.label}: {ours}{paper}")
    return "Scatter plot of HT@10 over latency. " + "; ".join(parts)


def numbers(found: Sequence[Point]) -> pd.DataFrame:
    """The numbers behind `figure`."""
    return pd.DataFrame(
        [
            {
                "model": p.label,
                "latency / SASRec's": None if p.latency is None else p.latency.estimate,
                "latency low": None if p.latency is None else p.latency.low,
                "latency high": None if p.latency is None else p.latency.high,
                "HT@10": p.accuracy,
                "HT@10 low": None if p.interval is None else p.interval.low,
                "HT@10 high": None if p.interval is None else p.interval.high,
                "paper latency / SASRec's": p.paper_latency,
                "paper HT@10": p.paper_accuracy,
            }
            for p in found
        ]
    )
