"""Can the paper's largest data set be read on a laptop? Raw files of its size, and the way from them to sequences.

    python -m benchmarks.large_data                   # about a gigabyte in a temporary folder, some ten minutes
    python -m benchmarks.large_data --save            # also writes benchmarks/results/large_data.json
    python -m benchmarks.large_data --users 100000    # smaller

The files are made up, with the size and the skew of Amazon's reviews of 2023 in Beauty and Personal Care: a csv with a
line for each review, the same as JSON lines with the text of a short review, and metadata. A user's reviews are
distributed as n^-2.1 exp(-n / 30), an item is drawn with a weight of (its rank + 400)^-1.2. What the 5-core leaves is
near the paper's 750,834 users, 211,451 items and 6,860,059 interactions. Each form is read in a process of its own,
without a cache.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep
from seqrec_lib.data import load

NAME, CATEGORY = "amazon-2023-beauty-and-personal-care", "Beauty_and_Personal_Care"
USERS, ITEMS_PER_USER = 11_300_000, 1_030_000 / 11_300_000  # of the raw reviews
BLOCK = 1_000_000
Form = Literal["csv", "json"]
FORMS: tuple[Form, ...] = ("csv", "json")
LETTERS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", dtype="S1")


def _labels(count: int, width: int, prefix: str) -> pa.Array:
    """Different texts of that width, in no order."""
    digits = np.empty((count, width), dtype="S1")
    number = np.arange(count, dtype=np.int64) * 2654435761 % 2**35
    for place in range(width):
        digits[:, place] = LETTERS[number % 32]
        number //= 32
    return pa.array(np.char.add(prefix, digits.view(f"S{width}").ravel().astype(f"U{width}")))


def reviews(users: int, seed: int = 0) -> tuple[pa.Array, Iterator[pa.Table]]:
    """The items' labels, and tables of reviews in random order, each of at most `BLOCK` rows."""
    rng = np.random.default_rng(seed)
    counts = np.arange(1, 2001)
    shares = counts**-2.1 * np.exp(-counts / 30)
    owners = np.repeat(np.arange(users, dtype=np.int32), rng.choice(counts, users, p=shares / shares.sum()))
    rng.shuffle(owners)
    items = max(int(users * ITEMS_PER_USER), 10)
    popularity = np.cumsum((np.arange(items) + 400.0) ** -1.2)
    user_labels, item_labels = _labels(users, 26, "AE"), _labels(items, 8, "B0")

    def tables() -> Iterator[pa.Table]:
        for begin in range(0, len(owners), BLOCK):
            own = owners[begin : begin + BLOCK]
            drawn = np.searchsorted(popularity, rng.random(len(own)) * popularity[-1])
            yield pa.table(
                {
                    "user_id": user_labels.take(pa.array(own)),
                    "parent_asin": item_labels.take(pa.array(drawn)),
                    "rating": rng.integers(1, 6, len(own)).astype(np.float64),
                    "timestamp": rng.integers(1_400_000_000_000, 1_690_000_000_000, len(own)),
                }
            )

    return item_labels, tables()


def write(folder: Path, users: int, form: Form) -> int:
    """Write reviews and metadata, gzipped, as a data set that `load` finds in ``folder``; how many reviews."""
    place = folder / NAME
    place.mkdir(parents=True)
    labels, tables = reviews(users)
    rows = 0
    with gzip.open(place / f"{CATEGORY}.{'csv' if form == 'csv' else 'jsonl'}.gz", "wb", compresslevel=1) as out:
        for table in tables:
            if form == "csv":
                options = pacsv.WriteOptions(include_header=rows == 0, quoting_style="none")
                pacsv.write_csv(table, out, options)
            else:
                out.write(b"".join(map(_line, *(column.to_pylist() for column in table.columns))))
            rows += len(table)
    with gzip.open(place / f"meta_{CATEGORY}.jsonl.gz", "wt", compresslevel=1) as out:
        for number, label in enumerate(labels.to_pylist()):
            facts = {"main_category": "All Beauty", "title": f"Silent Comet cream number {number}", "price": None}
            out.write(json.dumps(facts | {"features": ["soft", "smells of rain"], "parent_asin": label}) + "\n")
    return rows


def _line(user: str, item: str, rating: float, timestamp: int) -> bytes:
    text = (
        f'{{"rating":{rating},"title":"Good","text":"It smells of rain, and lasts.","images":[],"asin":"{item}",'
        f'"parent_asin":"{item}","user_id":"{user}","timestamp":{timestamp},"helpful_vote":0,"verified_purchase":true}}\n'
    )
    return text.encode()


def read(folder: str) -> dict[str, Any]:
    """From raw files to sequences, right in a fresh process: seconds by both clocks, peak memory, what is left."""
    os.environ["SEQREC_DATA"] = folder
    wall, cpu = time.perf_counter(), time.process_time()
    sequences = load(NAME, cache=False)
    return {
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "users": sequences.n_users,
        "items": sequences.n_items,
        "interactions": sequences.n_interactions,
    }


def measure(users: int, form: Form) -> dict[str, Any]:
    """One form of the files, made and read."""
    with tempfile.TemporaryDirectory() as folder:
        rows = write(Path(folder), users, form)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return {"form": form, "reviews": rows} | pool.submit(read, folder).result()


def main(
    users: Annotated[int, typer.Option(min=1, help="who wrote reviews, before the 5-core")] = USERS,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Make raw files of the size of the paper's largest data set, and read them."""
    conditions = Conditions(1)
    record = conditions.record("large_data", packages=("pyarrow", "numpy"), rows=[measure(users, f) for f in FORMS])
    table = Table("form", "reviews", "CPU s", "peak GB", "users", "items", "interactions")
    for row in record["rows"]:
        counts = [f"{row[name]:,}" for name in ("users", "items", "interactions")]
        peak = row["peak_memory_bytes"] / 1e9
        table.add_row(row["form"], f"{row['reviews']:,}", f"{row['cpu_seconds']:.0f}", f"{peak:.1f}", *counts)
    Console().print(table)
    if save:
        keep(record)


if __name__ == "__main__":
    typer.run(main)
