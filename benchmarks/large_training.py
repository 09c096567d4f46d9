"""What do training and evaluation cost at the size of the paper's largest data set? One core, made-up histories.

    python -m benchmarks.large_training                   # about an hour for each model
    python -m benchmarks.large_training --save            # also writes benchmarks/results/large_training.json
    python -m benchmarks.large_training --users 20000     # fewer users, of the same catalogue

Users, items and lengths are as many as the paper's Table 4 has of Amazon 2023 Beauty (`ranking_speed.simulated`). Each
model is trained by the study's recipe, each part in a process of its own: a whole epoch with a sampled softmax, after
which every user's validation item is ranked among all items; and some steps with the exact softmax, from whose rate the
time of a whole epoch is computed. What is learnt means nothing here, as there is no order in the histories.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
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
from benchmarks.ranking_speed import BEAUTY, simulated
from seqrec_lib.models import build
from seqrec_lib.train.contracts import Progress
from seqrec_lib.train.loop import train
from seqrec_lib.train.recipes import resolve

RECIPE = "amazon-2023-beauty-and-personal-care"  # whose recipe trains


class Enough(Exception):
    """Some steps were asked for, and are done."""


def train_once(model: str, users: int, negatives: int, steps: int | None) -> dict[str, Any]:
    """An epoch and its evaluation, right in a fresh process; or, of an epoch, some ``steps``.

    The seconds of steps leave out the first tenth of them, in which memory and kernels are prepared.
    """
    torch.set_num_threads(1)
    sequences = simulated(users)
    architecture, training = resolve(RECIPE, model, 0)
    if training is None:
        raise SystemExit(f"error: {model} is not trained")
    config = replace(training, epochs=1, negatives=negatives)
    torch.manual_seed(0)
    net = build(model, sequences.n_items, config.max_length, architecture)
    times: list[float] = []

    def listen(progress: Progress) -> None:
        times.append(time.perf_counter())
        if progress.step % 100 == 0:
            print(f"{model}, {negatives or 'all'} items: step {progress.step:,} of {progress.steps:,}", flush=True)
        if steps is not None and len(times) > steps:
            raise Enough

    row: dict[str, Any] = {"model": model, "negatives": negatives, "interactions": sequences.n_interactions}
    with TemporaryDirectory() as folder:
        try:
            result = train(net, sequences, config, Path(folder), listen=listen, loop="ordinary")
        except Enough:
            first = len(times) // 10
            row |= {"steps": steps, "seconds_per_step": (times[-1] - times[first]) / (len(times) - 1 - first)}
        else:
            seconds = result.history[0]["seconds"]
            row |= {"steps": len(times) - 1, "epoch_seconds": seconds}
            row |= {"evaluation_seconds": times[-1] - times[-2]}  # from the last step to the end of the epoch
    return row | {"peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def main(
    users: Annotated[int, typer.Option(min=10)] = BEAUTY["users"],
    negatives: Annotated[int, typer.Option(min=1, help="items drawn for each batch")] = 2048,
    steps: Annotated[int, typer.Option(min=10, help="of the exact softmax")] = 60,
    models: Annotated[str, typer.Option(help="separated by commas")] = "sasrec,mamba4rec",
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Train and evaluate at the size of the paper's largest data set."""
    conditions = Conditions(1)
    rows: list[dict[str, Any]] = []
    for model in models.split(","):
        for drawn, some in ((negatives, None), (0, steps)):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                rows.append(pool.submit(train_once, model, users, drawn, some).result())
        if "seconds_per_step" in rows[-1]:  # else so few users have an epoch of fewer steps, and it was carried out
            rows[-1]["epoch_seconds"] = rows[-1]["seconds_per_step"] * rows[-2]["steps"]
        if save:  # what is measured so far
            keep(conditions.record("large_training", users=users, items=BEAUTY["items"] - 1, rows=rows))
    table = Table("model", "softmax", "minutes of an epoch", "minutes of the evaluation", "peak GB")
    for row in rows:
        evaluation = f"{row['evaluation_seconds'] / 60:.1f}" if "evaluation_seconds" in row else "–"
        softmax = f"{row['negatives']} drawn" if row["negatives"] else f"exact, from {row['steps']} steps"
        peak = f"{row['peak_memory_bytes'] / 1e9:.1f}"
        table.add_row(row["model"], softmax, f"{row['epoch_seconds'] / 60:.1f}", evaluation, peak)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
