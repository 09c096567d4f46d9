"""Frames of the scaling page, from one run: curves, exponents, crossing points, states, and the paper's catalogues.

Each round timed every cell once, so each round gives a slope and a crossing of its own; intervals are over rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.evaluate.statistics import Interval, interval, ratio
from seqrec_lib.report.frames import interval_columns
from seqrec_lib.report.kit import Rows, rows_of
from seqrec_lib.report.latency import printed_times
from seqrec_lib.report.paper import BEAUTY, VIDEO_GAMES, model_name, paper_name
from seqrec_lib.report.timings import Tables

USERS = 100_000_000
DRAWS = 2000  # of the bootstrap of a crossing
BASE = "sasrec"
CATALOGUES = ((BEAUTY, 211_452), (VIDEO_GAMES, 26_355))
"""The items of the paper's two large catalogues."""

PROGRAMS = ("served", "module")
"""What can read a history on a CPU, and do the same."""

BEST = "best"
"""The path of the faster of `PROGRAMS`, size by size: what a claim about two architectures compares."""


@dataclass(frozen=True)
class Scaling(Tables):
    """One run: ``times`` and ``memory`` as the experiment describes them, times in microseconds."""

    experiment = "scaling"
    times: pd.DataFrame
    memory: pd.DataFrame

    @property
    def models(self) -> list[str]:
        """The models, in the configuration's order."""
        return list(self.record.config["models"])

    def curve(self, kind: str, model: str, path: str) -> pd.DataFrame:
        """Times by size (rows) and round (columns); of path `BEST`, by the model's faster program at each size."""
        data = self.times
        if path == BEST:
            return _best([self.curve(kind, model, program) for program in PROGRAMS])
        mine = data[(data["kind"] == kind) & (data["model"] == model) & (data["path"] == path)]
        return mine.pivot_table(index="size", columns="round", values="time")


def _best(curves: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """At each size the times of the curve with the least median over rounds there."""
    present = [curve for curve in curves if not curve.empty]
    if not present:
        return pd.DataFrame()
    medians = pd.concat([curve.median(axis=1) for curve in present], axis=1)
    fastest = medians.to_numpy().argsort(axis=1)[:, 0]  # NaN, a size that was not timed, comes last
    rows = [present[place].loc[size] for size, place in zip(medians.index, fastest, strict=True)]
    return pd.DataFrame(rows, index=medians.index).sort_index()


def exponent(curve: pd.DataFrame) -> Interval | None:
    """p in time ~ size^p over the upper half of the sizes (on a log scale), where fixed costs weigh least."""
    if len(curve) < 2:
        return None
    middle = np.sqrt(float(curve.index.min()) * float(curve.index.max()))  # the sizes are int32
    upper = curve[curve.index >= middle]
    if len(upper) < 2:
        upper = curve.iloc[-2:]
    slopes = np.polyfit(np.log(upper.index), np.log(upper.to_numpy(np.float64)), 1)[0]
    return interval(slopes)


def crossing(rising: pd.DataFrame, other: pd.DataFrame) -> Interval | None:
    """The size at which ``rising`` becomes slower than ``other``, interpolated on log axes.

    That of the median gap over rounds; for the interval, rounds are drawn again and again, each time with the crossing
    of their own median gap. None where that of all rounds has no crossing within the sizes measured; no interval
    where a twentieth of the draws or more have none.
    """
    sizes = np.log(np.array(rising.index, np.float64))
    gaps = np.log(rising.to_numpy(np.float64)) - np.log(other.loc[rising.index].to_numpy(np.float64))
    value = _zero(sizes, np.median(gaps, axis=1))
    if value is None:
        return None
    rounds = gaps.shape[1]
    chosen = np.random.default_rng(0).integers(rounds, size=(DRAWS, rounds))
    drawn = [x for x in (_zero(sizes, np.median(gaps[:, draw], axis=1)) for draw in chosen) if x is not None]
    if rounds < 2 or len(drawn) <= 0.95 * DRAWS:
        return Interval(float(np.exp(value)))
    low, high = np.exp(np.quantile(drawn, (0.025, 0.975)))
    return Interval(float(np.exp(value)), float(low), float(high))


def _zero(x: np.ndarray, gap: np.ndarray) -> float | None:
    """The last place where ``gap`` turns from below to above 0, by linear interpolation."""
    turns = np.flatnonzero((gap[:-1] <= 0) & (gap[1:] > 0))
    if not len(turns):
        return None
    i = int(turns[-1])
    return float(x[i] + (x[i + 1] - x[i]) * -gap[i] / (gap[i + 1] - gap[i]))


Curve = tuple[str, str]  # kind and path
Way = tuple[str, Curve, Curve]  # text, SASRec's curve, the other's
WAYS: tuple[Way, ...] = (
    ("read the history, the faster program of each", ("length", BEST), ("length", BEST)),
    ("read the history, PyTorch modules", ("length", "module"), ("length", "module")),
    ("one more event, SASRec reads again", ("length", BEST), ("event", "step")),
    ("one more event, SASRec with a cache", ("event", "step"), ("event", "step")),
)
GPU_WAYS: tuple[Way, ...] = (
    ("read the history, PyTorch modules", ("length", "module"), ("length", "module")),
    ("the whole request, CUDA graph", ("length", "graph"), ("length", "graph")),
)


def times(scaling: Scaling | None) -> pd.DataFrame:
    """One row for each cell and round: kind ("length", "event", "batch", "catalogue"), model, path, size, round, ms."""
    columns = ["kind", "model", "path", "size", "round"]
    if scaling is None:
        return pd.DataFrame(columns=[*columns, "ms"]).astype({"size": float, "ms": float})
    return scaling.times[columns].assign(ms=scaling.times["time"] / 1e3)


@rows_of
def growth(scaling: Scaling, kind: str, path: str) -> Rows:
    """Time over size: model, size, and ms (median over rounds) with the quartiles as low and high."""
    for model in scaling.models:
        for size, times in (scaling.curve(kind, model, path) / 1e3).iterrows():
            low, middle, high = times.quantile([0.25, 0.5, 0.75])
            yield {"size": size, "model": model_name(model), "ms": middle, "low": low, "high": high}


@rows_of
def ratios(scaling: Scaling) -> Rows:
    """SASRec's time to read a history in units of each model's, the faster program of each: model, size, times, low and
    high (95 %, paired by round)."""
    base = scaling.curve("length", BASE, BEST)
    for model in (model for model in scaling.models if model != BASE):
        curve = scaling.curve("length", model, BEST)
        for size in base.index.intersection(curve.index):
            found = ratio(base.loc[size].to_numpy(), curve.loc[size].to_numpy())
            ends = {"times": found.estimate, "low": found.low, "high": found.high}
            yield {"model": model_name(model), "size": int(size)} | ends


@rows_of
def exponents(scaling: Scaling) -> Rows:
    """`exponent` of time in the length, for one more event and in the catalogue, with intervals."""
    curves = {"read": ("length", BEST), "module": ("length", "module"), "event": ("event", "step")}
    curves |= {"catalogue": ("catalogue", "served")}
    for model in scaling.models:
        row: dict[str, Any] = {"model": model_name(model)}
        for name, (kind, path) in curves.items():
            row |= interval_columns(name, exponent(scaling.curve(kind, model, path)))
        yield row


@rows_of
def crossings(scaling: Scaling, ways: Sequence[Way]) -> Rows:
    """From how many items on SASRec is slower than each other model: way, model, items with its interval, and what
    was seen where no length measured has a crossing."""
    for text, theirs, ours in ways:
        for model in (model for model in scaling.models if model != BASE):
            sasrec, other = scaling.curve(theirs[0], BASE, theirs[1]), scaling.curve(ours[0], model, ours[1])
            row: dict[str, Any] = {"way": text[0].upper() + text[1:], "model": model_name(model)}
            row |= {"items": np.nan, "low": np.nan, "high": np.nan, "seen": "not run"}
            if not (sasrec.empty or other.empty):
                found = crossing(sasrec, other)
                slower = bool(sasrec.iloc[-1].median() > other.iloc[-1].median())
                row["seen"] = "slower at each length" if slower else "faster at each length"
                if found is not None:
                    row |= {"items": found.estimate, "low": found.low, "high": found.high, "seen": "crosses"}
            yield row


def states(scaling: Scaling | None) -> pd.DataFrame:
    """What a user's state takes: model, KiB at the shortest, a middle and the longest length (a column each), TiB of
    a hundred million users at the longest, and the length at which SASRec's cache is as large."""
    if scaling is None:
        return pd.DataFrame()
    data = scaling.memory[scaling.memory["path"] == "served"]
    sizes = data.pivot_table(index="model", columns="length", values="state").loc[scaling.models]
    lengths = sorted(sizes.columns)
    shown = [lengths[0], lengths[len(lengths) // 2], lengths[-1]] if len(lengths) > 3 else lengths
    table = (sizes[shown] / 1024).rename(columns=str).assign(all_users=sizes[lengths[-1]] * USERS / 2**40)
    per_item = sizes.loc[BASE, lengths[-1]] / lengths[-1] if BASE in sizes.index else np.nan
    even = sizes[lengths[-1]] / per_item
    table["even"] = even.where(even.index != BASE)
    return table.rename(index=model_name).rename_axis("model").reset_index()


@rows_of
def catalogues(scaling: Scaling) -> Rows:
    """Latency at the paper's large catalogues: model, data, items, and for the faster program of each model and for
    PyTorch modules the ms and its times (in units of SASRec's); the paper's times."""
    for dataset, items in CATALOGUES:
        for model in scaling.models:
            row: dict[str, Any] = {"model": model_name(model), "data": paper_name(dataset), "items": items}
            for path in (BEST, "module"):
                own, sasrec = (scaling.curve("catalogue", m, path) for m in (model, BASE))
                median, base = (
                    float(curve.loc[items].median()) if items in curve.index else np.nan for curve in (own, sasrec)
                )
                row |= {path: median / 1e3, f"{path} times": median / base}
            yield row | {"paper": printed_times(dataset, model)}


@rows_of
def selection(scaling: Scaling) -> Rows:
    """Scores and selection alone: items, ms, and the share of each model's request (columns by model)."""
    alone = scaling.times[scaling.times["path"] == "scores and top 10"].groupby("size")["time"].median()
    for items, time in alone.items():
        row: dict[str, Any] = {"items": items, "ms": time / 1e3}
        for model in scaling.models:
            curve = scaling.curve("catalogue", model, "served")
            row[model_name(model)] = time / float(curve.loc[items].median()) if items in curve.index else np.nan
        yield row
