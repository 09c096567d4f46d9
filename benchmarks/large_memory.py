"""How much memory do training and ranking take, by the number of users and of items? One core, made-up histories.

    python -m benchmarks.large_memory            # about half an hour
    python -m benchmarks.large_memory --save     # also writes benchmarks/results/large_memory.json

From the counts of the paper's Table 4 for Amazon 2023 Beauty downwards: fewer users of the whole catalogue, and fewer
items of all users. Each point is a process of its own, whose largest resident set is read after the histories were
made, after some training steps, and after some users were ranked among all items. Steps are those of the study's
recipe, with the exact softmax and with a sampled one. Every step needs what the first ones do, so that few are enough.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep
from benchmarks.large_training import RECIPE, Enough
from benchmarks.ranking_speed import BEAUTY, first, simulated
from seqrec_lib.evaluate.ranking import rank_split
from seqrec_lib.experiments.accuracy import peak_memory
from seqrec_lib.models import build
from seqrec_lib.train.contracts import Progress
from seqrec_lib.train.loop import train
from seqrec_lib.train.recipes import resolve

SHARES = (0.125, 0.25, 0.5, 1.0)
USERS, ITEMS = BEAUTY["users"], BEAUTY["items"] - 1
RANKED = 2000  # users


def points() -> list[tuple[int, int]]:
    """(users, items): all items with more and more users, then all users with more and more items."""
    by_users = [(int(share * USERS), ITEMS) for share in SHARES]
    return by_users + [(USERS, int(share * ITEMS)) for share in SHARES[:-1]]


def measure(model: str, users: int, items: int, negatives: int, steps: int) -> dict[str, Any]:
    """Bytes at their peak after each of the three parts, right in a fresh process."""
    torch.set_num_threads(1)
    sequences = simulated(users, n_items=items)
    row: dict[str, Any] = {"model": model, "users": users, "items": items, "negatives": negatives}
    row |= {"interactions": sequences.n_interactions, "data_bytes": peak_memory("cpu")}
    architecture, training = resolve(RECIPE, model, 0)
    assert training is not None
    net = build(model, sequences.n_items, training.max_length, architecture)

    def listen(progress: Progress) -> None:
        if progress.step >= steps:
            raise Enough

    with TemporaryDirectory() as folder:
        try:
            config = replace(training, epochs=1, negatives=negatives)
            train(net, sequences, config, Path(folder), listen=listen, loop="ordinary")
        except Enough:
            row["training_bytes"] = peak_memory("cpu")
    rank_split(net, sequences, first(sequences.split("valid"), RANKED))
    return row | {"ranking_bytes": peak_memory("cpu")}


def main(
    models: Annotated[str, typer.Option(help="separated by commas")] = "sasrec,mamba4rec",
    negatives: Annotated[int, typer.Option(min=1, help="items drawn for each batch of the sampled softmax")] = 2048,
    steps: Annotated[int, typer.Option(min=2, help="of training")] = 6,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Measure memory by users and by items."""
    conditions = Conditions(1)
    rows: list[dict[str, Any]] = []
    table = Table("model", "softmax", "users", "items", "GB of data", "GB in training", "GB after ranking")
    for model in models.split(","):
        for users, items in points():
            for drawn in (0, negatives):
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    row = pool.submit(measure, model, users, items, drawn, steps).result()
                rows.append(row)
                gb = (f"{row[key] / 1e9:.2f}" for key in ("data_bytes", "training_bytes", "ranking_bytes"))
                table.add_row(model, f"{drawn} drawn" if drawn else "exact", f"{users:,}", f"{items:,}", *gb)
                print(f"{model}, {users:,} users, {items:,} items, {drawn or 'all'} in the softmax: done", flush=True)
        if save:  # what is measured so far
            keep(conditions.record("large_memory", setting={"steps": steps, "ranked": RANKED}, rows=rows))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
