"""Tables and figures of the scaling page, from one run: exponents, crossing points, states, and the paper's catalogues.

Each round timed every cell once, so each round gives a slope and a crossing of its own; intervals are over rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqrec_lib.evaluate.statistics import Interval, interval
from seqrec_lib.report.claims import latency_ratios
from seqrec_lib.report.figures import canvas, style
from seqrec_lib.report.html import NONE, Html, not_run, paragraph, table
from seqrec_lib.report.paper import BEAUTY, VIDEO_GAMES, paper_name, paper_row
from seqrec_lib.report.timings import label, milliseconds, span, times
from seqrec_lib.results import RunRecord, RunStore

USERS = 100_000_000
READ = 200  # items of a history that any model of the study reads
DRAWS = 2000  # of the bootstrap of a crossing
_DASHES = ("-", "--", ":", "-.")
AXES = {"length": "Items in the history", "event": "Items in the history", "batch": "Histories in a batch"}
AXES["catalogue"] = "Items in the catalogue"


PROGRAMS = ("served", "module")
"""What can read a history on a CPU, and do the same."""

BEST = "best"
"""The path of the faster of `PROGRAMS`, size by size: what a claim about two architectures compares."""


@dataclass(frozen=True)
class Scaling:
    """One run: ``times`` and ``memory`` as the experiment describes them, times in microseconds."""

    record: RunRecord
    times: pd.DataFrame
    memory: pd.DataFrame

    @classmethod
    def read(cls, record: RunRecord | None, store: RunStore) -> Scaling | None:
        """The tables of a complete record; None where there is none."""
        if record is None or not record.complete:
            return None
        return cls(record, store.table(record, "times").to_pandas(), store.table(record, "memory").to_pandas())

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


def _missing() -> Html:
    return not_run("Scaling")


def exponent_table(scaling: Scaling | None) -> Html:
    """Fitted exponents of time in length, for one more event, in the batch and in the catalogue."""
    if scaling is None:
        return _missing()
    columns = [("length", "module"), ("length", "served"), ("event", "step"), ("catalogue", "served")]
    body: list[list[str | Html]] = []
    for model in scaling.models:
        cells: list[str | Html] = [label(model)]
        for kind, path in columns:
            found = exponent(scaling.curve(kind, model, path))
            cells.append(NONE if found is None else f"{found.estimate:.2f} ({span(found, '{:.2f}'.format)})")
        body.append(cells)
    headers = ["Model", "Encode, module", "Encode, as served", "One more event", "Catalogue, as served"]
    return table(
        headers, body, caption="Exponent p of time ~ size^p, with 95 % intervals over rounds",
        notes=["Fitted to the upper half of the sizes, on log axes. 1 is linear, 2 quadratic, 0 constant."],
    )  # fmt: skip


Curve = tuple[str, str]  # kind and path
WAYS: tuple[tuple[str, Curve, Curve], ...] = (  # text, SASRec's curve, the other's
    ("read the history, the faster program of each", ("length", BEST), ("length", BEST)),
    ("read the history, module", ("length", "module"), ("length", "module")),
    ("one more event, SASRec reads again", ("length", BEST), ("event", "step")),
    ("one more event, SASRec with a cache", ("event", "step"), ("event", "step")),
)
GPU_WAYS: tuple[tuple[str, Curve, Curve], ...] = (
    ("read the history, module", ("length", "module"), ("length", "module")),
    ("the whole request, CUDA graph", ("length", "graph"), ("length", "graph")),
)


def crossing_table(scaling: Scaling | None, ways: Sequence[tuple[str, Curve, Curve]] = WAYS) -> Html:
    """From which length on SASRec is slower than a state space model, by each of the ways."""
    if scaling is None:
        return not_run("Crossings on a GPU" if ways is GPU_WAYS else "Scaling")
    body: list[list[str | Html]] = []
    for text, theirs, ours in ways:
        cells: list[str | Html] = [text[0].upper() + text[1:]]
        for model in (m for m in scaling.models if m != "sasrec"):
            cells.append(
                _crossing_cell(scaling.curve(theirs[0], "sasrec", theirs[1]), scaling.curve(ours[0], model, ours[1]))
            )
        body.append(cells)
    headers = ["SASRec is slower from this many items on", *(label(m) for m in scaling.models if m != "sasrec")]
    return table(
        headers, body, caption="Where the curves cross, in items of history", left=(0,),
        notes=["Without an interval (–): drawn anew, more than a twentieth of the sets of rounds do not cross."],
    )  # fmt: skip


def gpu_setting(scaling: Scaling | None) -> Html:
    """Which GPU, and how often each cell was timed there."""
    if scaling is None:
        return not_run("Scaling on a GPU")
    config = scaling.record.config
    return paragraph(
        f"{scaling.record.environment['device']}, batch 1, float32, random weights; every cell timed in each of "
        f"{config['rounds']} rounds. A graph reads histories that are filled up to the next power of two, or to the "
        "longest that the model takes."
    )


def _crossing_cell(sasrec: pd.DataFrame, other: pd.DataFrame) -> str:
    if sasrec.empty or other.empty:
        return "not run"
    found = crossing(sasrec, other)
    if found is not None:
        return f"{found.estimate:,.0f} ({span(found, '{:,.0f}'.format)})"
    slower = bool(sasrec.iloc[-1].median() > other.iloc[-1].median())
    return f"slower at all, from {sasrec.index[0]:,}" if slower else f"not up to {sasrec.index[-1]:,}"


def state_table(scaling: Scaling | None) -> Html:
    """What a user's state takes by length, and what those of a hundred million users would."""
    if scaling is None:
        return _missing()
    data = scaling.memory[scaling.memory["path"] == "served"]
    lengths = sorted(data["length"].unique().tolist())
    shown = [lengths[0], lengths[len(lengths) // 2], lengths[-1]] if len(lengths) > 3 else lengths
    body = []
    for model in scaling.models:
        sizes = [int(data[(data["model"] == model) & (data["length"] == n)]["state"].iloc[0]) for n in shown]
        body.append([label(model), *(f"{size / 1024:,.1f}" for size in sizes), f"{sizes[-1] * USERS / 2**40:,.1f}"])
    headers = ["Model", *(f"KiB after {n:,} items" for n in shown), f"TiB for 100 million users of {shown[-1]:,} items"]
    return table(headers, body, caption="The state that one more event needs, float32")


def state_paragraph(scaling: Scaling | None) -> Html:
    """The cost of holding a hundred million users' states, from the measured sizes."""
    if scaling is None:
        return _missing()
    data = scaling.memory[scaling.memory["path"] == "served"].set_index(["model", "length"])["state"]
    longest = int(data.index.get_level_values("length").max())
    parts = []
    for model in scaling.models:
        size = int(data[(model, longest)])
        if model == "sasrec":
            per = size // longest
            even = [f"{int(data[(m, longest)]) / per:,.0f} ({label(m)})" for m in scaling.models if m != "sasrec"]
            cache = (
                f"SASRec's cache takes {per:,} bytes for each item of each user: {size * USERS / 2**40:,.1f} TiB at "
                f"{longest:,} items. It is as large as a state space model's state after {', '.join(even)} items."
            )
        else:
            parts.append(f"{label(model)} {size / 1024:,.1f} KiB, {size * USERS / 2**40:,.1f} TiB")
    fixed = "A hundred million users' states, whatever the length of their histories: " + "; ".join(parts) + "."
    return paragraph(fixed + (" " + cache if "sasrec" in scaling.models else ""))


def growth_figure(scaling: Scaling | None, panels: Sequence[tuple[str, str, str]]) -> Figure | None:
    """Time over size on log axes: a panel per (kind, path, title), a line per model, its range over rounds shaded."""
    if scaling is None:
        return None
    figure, axes = canvas(1, len(panels), 7.4, 3.6)
    for axis, (kind, path, title) in zip(axes.flat, panels, strict=True):
        for number, model in enumerate(scaling.models):
            curve = scaling.curve(kind, model, path) / 1e3
            if curve.empty:
                continue
            colour, marker = style(model)
            low, middle, high = (curve.quantile(q, axis=1) for q in (0.25, 0.5, 0.75))
            axis.fill_between(curve.index, low, high, color=colour, alpha=0.2, linewidth=0)
            axis.plot(
                curve.index, middle, _DASHES[number % 4], color=colour, marker=marker, markersize=5, label=label(model)
            )  # fmt: skip
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set(title=title, xlabel=AXES[kind], ylabel="Milliseconds" if axis is axes.flat[0] else "")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.flat[0].legend(frameon=False, fontsize=9)
    return figure


def growth_numbers(scaling: Scaling | None, panels: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Medians behind `growth_figure`, in milliseconds."""
    if scaling is None:
        return pd.DataFrame()
    return pd.DataFrame(
        [
            {"panel": title, "model": label(model), "size": int(size), "ms": float(row.median()) / 1e3}
            for kind, path, title in panels
            for model in scaling.models
            for size, row in scaling.curve(kind, model, path).iterrows()
        ]
    )


def growth_alt(scaling: Scaling | None, panels: Sequence[tuple[str, str, str]]) -> str:
    """What `growth_figure` shows, in words: first and last point of every line."""
    if scaling is None:
        return "No timings."
    parts = []
    for kind, path, title in panels:
        lines = []
        for model in scaling.models:
            curve = scaling.curve(kind, model, path).median(axis=1)
            if len(curve):
                first, last = milliseconds(float(curve.iloc[0])), milliseconds(float(curve.iloc[-1]))
                lines.append(f"{label(model)} {first} ms at {curve.index[0]:,} to {last} ms at {curve.index[-1]:,}")
        parts.append(f"{title}: {', '.join(lines)}")
    return "Lines on log axes. " + "; ".join(parts)


def paper_catalogues(scaling: Scaling | None) -> Html:
    """Tables 1 and 2's latency at their catalogue sizes, with random weights, as ratios beside the paper's."""
    if scaling is None:
        return _missing()
    body: list[list[str | Html]] = []
    for dataset, items in ((BEAUTY, 211_452), (VIDEO_GAMES, 26_355)):
        base = paper_row(dataset, "sasrec")
        for model in scaling.models:
            cells: list[str | Html] = [f"{label(model)}, {items:,} items ({paper_name(dataset)})"]
            for path in ("served", "module"):
                own, sasrec = (scaling.curve("catalogue", m, path) for m in (model, "sasrec"))
                if items not in own.index:
                    cells += ["not run", "not run"]
                    continue
                median = float(own.loc[items].median())
                cells.append(milliseconds(median))
                cells.append(times(median / float(sasrec.loc[items].median())) if len(sasrec) else NONE)
            row = paper_row(dataset, model)
            printed = row is not None and row.latency is not None and base is not None and base.latency is not None
            cells.append(times(row.latency.value / base.latency.value) if printed else NONE)  # type: ignore[union-attr]
            body.append(cells)
    headers = ["Model and catalogue", "As served, ms", "÷ SASRec", "Module, ms", "÷ SASRec", "The paper's ÷ SASRec"]
    length = scaling.record.config["catalogue_length"]
    return table(
        headers, body, caption=f"Tables 1 and 2's catalogues: random weights, random histories of {length} items",
        notes=["No data of these sets is used: only their sizes. Medians over rounds; ÷ SASRec is of medians."],
    )  # fmt: skip


def selection_share(scaling: Scaling | None) -> Html:
    """How much of a request is scoring and selecting, by catalogue size."""
    if scaling is None:
        return _missing()
    alone = scaling.curve("catalogue", "any", "scores and top 10").median(axis=1)
    body = []
    for items, value in alone.items():
        cells = [f"{items:,}", milliseconds(float(value))]
        for model in scaling.models:
            whole = float(scaling.curve("catalogue", model, "served").loc[items].median())
            cells.append(f"{float(value) / whole:.0%}")
        body.append(cells)
    headers = ["Items", "Scores and top 10, ms", *(f"Of {label(m)}'s request" for m in scaling.models)]
    return table(
        headers, body, caption="Scores and selection alone, and their share of each model's request",
        notes=["Timed apart from the requests: a share has the noise of both, and can pass 100 %."],
    )  # fmt: skip


def sasrec_ratios(scaling: Scaling, path: str = BEST) -> pd.Series:
    """SASRec's time to encode in units of Mamba4Rec's, by length of the history: ratios of medians over rounds."""
    own, other = (scaling.curve("length", m, path).median(axis=1) for m in ("sasrec", "mamba4rec"))
    return own / other


def sasrec_test(scaling: Scaling | None) -> Html:
    """Can attention explain the paper's 0.12 s for SASRec? Its ratio to Mamba4Rec here, by length."""
    if scaling is None or not {"sasrec", "mamba4rec"} <= set(scaling.models):
        return _missing()
    ratios = sasrec_ratios(scaling)
    if ratios.empty:
        return _missing()
    printed = latency_ratios("sasrec", "mamba4rec").values()
    reached = ratios[ratios >= min(printed)]
    text = "; ".join(f"{times(float(value))} at {size:,} items" for size, value in ratios.items())
    end = (
        f"It reaches the paper's least ratio at {reached.index[0]:,} items."
        if len(reached)
        else f"It does not reach the paper's least ratio up to {ratios.index[-1]:,} items."
    )
    does = "explains" if len(reached) and int(reached.index[0]) <= READ else "does not explain"
    return paragraph(
        f"The paper's SASRec takes {times(min(printed))} to {times(max(printed))} times as long as its Mamba4Rec. "
        "Here, each by the faster of its two programs (as served, or its own module), at batch 1 on one thread of a "
        f"CPU: {text}. {end} That the paper's SASRec takes as long on one data set as on another is what histories "
        "padded to one length would give, as RecBole pads them, and says nothing about attention. "
        f"On a CPU, up to the {READ} items that a model of this study reads, attention {does} how long it takes."
    )
