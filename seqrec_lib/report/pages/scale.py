"""The chapter on catalogues and audiences a thousand times larger (book/scale.md): what measured costs become there.

Nothing was run at these sizes. Each number is one that was measured, multiplied by how much larger the size is, or the
number of bytes that a table has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from seqrec_lib.report import benchmarks, kit
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.pages.which_model import FILMS, PLAIN
from seqrec_lib.report.paper import model_name
from seqrec_lib.report.scaling import CATALOGUES, USERS, Scaling
from seqrec_lib.report.values import exhibit, value

ITEMS = 100_000_000
WIDTH = 64  # of the study's item vectors
POSITIONS = 1600  # of a training step, in the study's recipes
ADAM = 3  # float32 numbers for each weight: itself and two moments

INDEXES = {
    "exact": 4 * WIDTH,
    "HNSW, 32 neighbours": 4 * WIDTH + 4 * 2 * 32,
    "inverted lists, 16-byte codes": 16 + 8,
}
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


@exhibit("scale-state")
def _state(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    scaling = Scaling.newest(runs, FILMS)
    served = scaling.memory[scaling.memory["path"] == "served"].pivot_table("state", "model", "length")
    rows = [
        {"model": model_name(model), "length": length, "kib": state / 1024, "all": state * USERS / 2**40}
        for model in PLAIN
        for length, state in served.loc[model, [50, 200, 8_000]].items()
    ]
    columns = [
        kit.Column("model", "Model"),
        kit.Column("length", "Items read", ",d"),
        kit.Column("kib", "State of a user, KiB", ",.0f"),
        kit.Column("all", "Of 100 million users, TiB", ",.1f"),
    ]
    return partial(kit.table, pd.DataFrame(rows), columns)


@exhibit("scale-index")
def _index(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    rows = [{"index": name, "bytes": size, "gb": size * ITEMS / 1e9} for name, size in INDEXES.items()]
    columns = [
        kit.Column("index", "Index"),
        kit.Column("bytes", "Bytes an item", "d"),
        kit.Column("gb", "100 million items, GB", ",.1f"),
    ]
    return partial(kit.table, pd.DataFrame(rows), columns)


@exhibit("large-data")
def _large_data(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    columns = [
        kit.Column("form", "Files"),
        kit.Column("reviews", "Reviews", ",d"),
        kit.Column("cpu_seconds", "Seconds, one core", ",.0f"),
        kit.Column("gb", "Peak memory, GB", ".1f"),
        kit.Column("users", "Users left", ",d"),
        kit.Column("items", "Items left", ",d"),
        kit.Column("interactions", "Interactions left", ",d"),
    ]
    rows = [row | {"gb": row["peak_memory_bytes"] / 1e9} for row in _rows("large_data")]
    return partial(kit.table, pd.DataFrame(rows).replace({"form": {"json": "JSON lines"}}), columns)


@exhibit("large-training")
def _large_training(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    columns = [
        kit.Column("model", "Model"),
        kit.Column("softmax", "Softmax"),
        kit.Column("epoch", "An epoch, minutes", ",.0f"),
        kit.Column("evaluation", "All users ranked, minutes", ",.0f", missing="–"),
        kit.Column("gb", "Peak memory, GB", ".1f"),
    ]
    rows = pd.DataFrame(_rows("large_training"))
    rows["model"] = rows["model"].map(model_name)
    rows["softmax"] = [f"{n:,} items drawn" if n else "exact, computed from some steps" for n in rows["negatives"]]
    rows["epoch"], rows["evaluation"] = rows["epoch_seconds"] / 60, rows["evaluation_seconds"] / 60
    rows["gb"] = rows["peak_memory_bytes"] / 1e9
    return partial(kit.table, rows, columns)


def _rows(name: str) -> list[dict[str, Any]]:
    """What a benchmark at the size of the paper's largest data set measured.

    Raises:
        NotRun: it was not run.
    """
    record = benchmarks.read(benchmarks.FOLDER, name)
    if record is None:
        raise NotRun(name)
    return list(record["rows"])


value("large-data/reviews")(lambda runs: min(int(row["reviews"]) for row in _rows("large_data")))
value("large-data/minutes")(lambda runs: max(float(row["cpu_seconds"]) for row in _rows("large_data")) / 60)
value("large-data/gb")(lambda runs: max(float(row["peak_memory_bytes"]) for row in _rows("large_data")) / 1e9)
value("large-training/drawn-hours")(
    lambda runs: max(float(row["epoch_seconds"]) for row in _rows("large_training") if row["negatives"]) / 3600
)
value("large-training/exact-hours")(
    lambda runs: max(float(row["epoch_seconds"]) for row in _rows("large_training") if not row["negatives"]) / 3600
)
value("large-training/gb")(lambda runs: max(float(row["peak_memory_bytes"]) for row in _rows("large_training")) / 1e9)
