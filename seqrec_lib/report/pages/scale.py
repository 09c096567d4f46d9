"""The chapter on catalogues and audiences a thousand times larger (book/scale.md): what measured costs become there.

Nothing was run at these sizes. Each number is one that was measured, multiplied by how much larger the size is, or the
number of bytes that a table has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from seqrec_lib.report.benchmarks import measured
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.kit import Column
from seqrec_lib.report.pages.which_model import FILMS, PLAIN
from seqrec_lib.report.paper import model_name
from seqrec_lib.report.scaling import CATALOGUES, USERS, Scaling
from seqrec_lib.report.values import figure, table, value

ITEMS = 100_000_000
WIDTH = 64  # of the study's item vectors
POSITIONS = 1600  # of a training step, in the study's recipes
ADAM = 3  # float32 numbers for each weight: itself and two moments

INDEXES = {"exact": 4 * WIDTH, "HNSW, 32 neighbours": 4 * WIDTH + 4 * 2 * 32, "inverted lists, 16-byte codes": 16 + 8}
"""Bytes for each vector, by Faiss's guidelines: vectors as they are; with a graph of neighbours in 4-byte numbers; or
as product-quantised codes with an 8-byte id."""

value("scale/items-gb")(lambda runs: 4 * WIDTH * ITEMS / 1e9)
value("scale/trained-gb")(lambda runs: 4 * WIDTH * ITEMS * ADAM / 1e9)
value("scale/step-tflop")(lambda runs: 3 * 2 * POSITIONS * WIDTH * ITEMS / 1e12)


value("scale/paper-items")(lambda runs: max(items for _, items in CATALOGUES))


@value("scale/ranked-items")
def _ranked(runs: Runs) -> int:
    """The largest catalogue of a published run on accuracy."""
    sizes = [int(record.dataset["n_items"]) for record in runs.records("accuracy")]
    if not sizes:
        raise NotRun("accuracy")
    return max(sizes)


def _largest(runs: Runs) -> tuple[int, float]:
    """The largest catalogue in which served SASRec was timed, and the median seconds of one request there."""
    curve = Scaling.newest(runs, FILMS).curve("catalogue", "sasrec", "served").median(axis=1)
    return int(curve.index[-1]), float(curve.iloc[-1]) / 1e6


def _seconds(runs: Runs) -> float:
    """One request among `ITEMS` items."""
    items, seconds = _largest(runs)
    return seconds * ITEMS / items


value("scale/timed-items")(lambda runs: _largest(runs)[0])
value("scale/request-milliseconds")(lambda runs: 1e3 * _largest(runs)[1])
value("scale/request-seconds")(_seconds)
value("scale/core-years")(lambda runs: _seconds(runs) * USERS / (365.25 * 86_400))


@table(
    "scale-state",
    Column("model", "Model"),
    Column("length", "Items read", ",d"),
    Column("kib", "State of a user, KiB", ",.0f"),
    Column("all", "Of 100 million users, TiB", ",.1f"),
)
def _state(runs: Runs) -> Iterator[dict[str, Any]]:
    scaling = Scaling.newest(runs, FILMS)
    served = scaling.memory[scaling.memory["path"] == "served"].pivot_table("state", "model", "length")
    for model in PLAIN:
        for length, state in served.loc[model, [50, 200, 8_000]].items():
            sizes = {"kib": state / 1024, "all": state * USERS / 2**40}
            yield {"model": model_name(model), "length": length} | sizes


@table(
    "scale-index",
    Column("index", "Index"),
    Column("bytes", "Bytes an item", "d"),
    Column("gb", "100 million items, GB", ",.1f"),
)
def _index(runs: Runs) -> Iterator[dict[str, Any]]:
    return ({"index": name, "bytes": size, "gb": size * ITEMS / 1e9} for name, size in INDEXES.items())


@table(
    "large-data",
    Column("form", "Files"),
    Column("reviews", "Reviews", ",d"),
    Column("cpu_seconds", "Seconds, one core", ",.0f"),
    Column("gb", "Peak memory, GB", ".1f"),
    Column("users", "Users left", ",d"),
    Column("items", "Items left", ",d"),
    Column("interactions", "Interactions left", ",d"),
)
def _large_data(runs: Runs) -> pd.DataFrame:
    rows = pd.DataFrame(measured("large_data", "rows")).replace({"form": {"json": "JSON lines"}})
    return rows.assign(gb=rows["peak_memory_bytes"] / 1e9)


@table(
    "large-training",
    Column("model", "Model"),
    Column("softmax", "Softmax"),
    Column("epoch", "An epoch, minutes", ",.0f"),
    Column("evaluation", "All users ranked, minutes", ",.0f", missing="–"),
    Column("gb", "Peak memory, GB", ".1f"),
)
def _large_training(runs: Runs) -> pd.DataFrame:
    rows = pd.DataFrame(measured("large_training", "rows"))
    rows["model"] = rows["model"].map(model_name)
    rows["softmax"] = [f"{n:,} items drawn" if n else "exact, computed from some steps" for n in rows["negatives"]]
    rows["epoch"], rows["evaluation"] = rows["epoch_seconds"] / 60, rows["evaluation_seconds"] / 60
    return rows.assign(gb=rows["peak_memory_bytes"] / 1e9)


def _memory() -> pd.DataFrame:
    """Peak memory by what grows to the paper's counts, the other one being there already: model, softmax, grows, share
    (percent) and gb."""
    rows = pd.DataFrame(measured("large_memory", "rows"))
    rows["softmax"] = [f"{n:,} items drawn" if n else "exact softmax" for n in rows["negatives"]]
    rows["gb"] = rows[["training_bytes", "ranking_bytes"]].max(axis=1) / 1e9
    parts = []
    for name, other in (("users", "items"), ("items", "users")):
        part = rows[rows[other] == rows[other].max()].sort_values(name)
        share = 100 * part[name] / rows[name].max()
        parts.append(part.assign(grows=f"more {name}, all {other}", share=share))
    return pd.concat(parts, ignore_index=True)[["model", "softmax", "grows", "share", "gb"]]


@figure(
    "large-memory",
    "panels",
    panel="panel",
    series="grows",
    columns=(2, 1),
    x="share",
    x_axis="% of the paper's count",
    y="gb",
)
def _large_memory(runs: Runs) -> pd.DataFrame:
    rows = _memory()
    rows["panel"] = rows["model"].map(model_name) + ", " + rows["softmax"]
    rows = rows.sort_values(["panel", "grows", "share"], ascending=[False, True, True])
    return rows[["panel", "grows", "share", "gb"]]


def _growth(grows: str) -> float:
    """By what factor memory grows from an eighth to all, the largest over models and softmaxes."""
    rows = _memory()
    own = rows[rows["grows"].str.startswith(f"more {grows}")].sort_values("share")
    ends = own.groupby(["model", "softmax"])["gb"].agg(["first", "last"])
    return float((ends["last"] / ends["first"]).max())


value("large-memory/users")(lambda runs: _growth("users"))
value("large-memory/items")(lambda runs: _growth("items"))


def _large(name: str, key: str) -> pd.Series:
    """What a benchmark at the size of the paper's largest data set measured, row by row."""
    return pd.DataFrame(measured(name, "rows"))[key]


def _epoch(drawn: bool) -> float:
    """The longest epoch at that size, in seconds, with items drawn for the softmax or all of them."""
    return float(_large("large_training", "epoch_seconds")[(_large("large_training", "negatives") > 0) == drawn].max())


value("large-data/reviews")(lambda runs: int(_large("large_data", "reviews").min()))
value("large-data/minutes")(lambda runs: float(_large("large_data", "cpu_seconds").max()) / 60)
value("large-data/gb")(lambda runs: float(_large("large_data", "peak_memory_bytes").max()) / 1e9)
value("large-training/drawn-hours")(lambda runs: _epoch(drawn=True) / 3600)
value("large-training/exact-hours")(lambda runs: _epoch(drawn=False) / 3600)
value("large-training/gb")(lambda runs: float(_large("large_training", "peak_memory_bytes").max()) / 1e9)
