"""How long each stage takes from raw files to Sequences: read, filter, order, and loading again from the
cache.

    python -m benchmarks.data_load ml-1m ml-100k
    python -m benchmarks.data_load --save        # also writes benchmarks/results/data_load.json

Each stage is timed ``--repeats`` times in one process; the table shows the median. Needs the data on disk
(SEQREC_DATA).
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep
from seqrec_lib.data import clean, load, simulate
from seqrec_lib.data.download import locate
from seqrec_lib.data.interactions import to_sequences
from seqrec_lib.data.registry import get
from seqrec_lib.errors import SeqRecError

STAGES = ("read", "filter", "order", "hash", "total", "cached")


def measure(name: str) -> dict[str, float]:
    """Seconds of each stage for one data set. Raises SeqRecError where its files are not on disk."""
    spec = get(name)
    found = None if name == "demo" else locate(spec)
    if name != "demo" and found is None:
        raise SeqRecError(f"data set {name!r} not found; set SEQREC_DATA")
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[stage] = time.perf_counter() - start
        return result

    rows = timed("read", simulate.simulate if found is None else lambda: found[0].read(found[1], True))
    rows = timed("filter", lambda: clean(spec, rows))
    sequences = timed("order", lambda: to_sequences(name, rows))
    timed("hash", lambda: sequences.split_hash)
    seconds["total"] = seconds["read"] + seconds["filter"] + seconds["order"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEQREC_CACHE"] = folder
        load(name)
        timed("cached", lambda: load(name))
    return seconds


def main(
    datasets: Annotated[list[str] | None, typer.Argument(help="data sets (default: ml-1m)")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="how often each stage is timed")] = 5,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Time the stages from raw files to Sequences."""
    table = Table("data set", *STAGES, title="seconds, median")
    conditions, results = Conditions(), {}
    for name in datasets or ["ml-1m"]:
        try:
            runs = [measure(name) for _ in range(repeats)]
        except SeqRecError as error:
            raise SystemExit(f"error: {error}") from None
        medians = {stage: round(statistics.median(run[stage] for run in runs), 4) for stage in STAGES}
        table.add_row(name, *(f"{medians[stage]:.3f}" for stage in STAGES))
        results[name] = medians
    Console().print(table)
    if save:
        setting = {"unit": "seconds, median", "repeats": repeats}
        keep(conditions.record("data_load", ("numpy", "pandas"), setting=setting, results=results))


if __name__ == "__main__":
    typer.run(main)
