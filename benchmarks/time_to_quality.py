"""How long is it from the raw file to a good model? The seconds that a user waits, here and with RecTools.

    python -m benchmarks.time_to_quality --environments DIR   # hours, most of them RecTools'
    python -m benchmarks.time_to_quality --without-peers
    ... --save   # also writes benchmarks/results/time_to_quality.json

Good means: NDCG@10 of the validation items among all items, no seen one left out, within 1 % of the best that the
published runs of the model reached, in the mean over their seeds. Each side is a process of its own, one after another.
Its clock begins with the process, runs while it reads data, trains and validates, and stops at the end of the first
epoch that is good. Ours reads the raw file, with no cache, and trains by the study's recipe from a seed that no
published run has.

RecTools reads a csv of the interactions that are left after filtering. Its SASRec has its own blocks, batch and
learning rate, and in a second row ours. It trains until its own early stopping ends it (validation loss, a patience of
`PATIENCE` epochs); after each epoch its clock is paused and the same NDCG@10 is taken. So the record has both: when it
reached the goal for SASRec, if ever, and its own best.

On a machine that is busy with other jobs, ``--clock cpu --threads 1`` counts each process's own seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep
from benchmarks.train_speed import HERE, export, prepare_environment, sides
from seqrec_lib.experiments import accuracy
from seqrec_lib.experiments.base import key
from seqrec_lib.results import RunStore
from seqrec_lib.train.recipes import resolve

MODELS = ("sasrec", "mamba4rec", "2mamba4rec", "hydra4rec")
SEEDS = (0, 1, 2)  # of the published runs
SHARE = 0.99  # of their best validation NDCG@10
PATIENCE = 10
DEFAULT_RATE = 1e-3  # RecTools' learning rate where none is given


def published_best(dataset: str, model: str) -> float:
    """The best validation NDCG@10 of the published runs, in the mean over their seeds.

    Raises:
        SystemExit: there is none.
    """
    configs = accuracy.plan({"dataset": dataset, "models": [model], "seeds": SEEDS, "overrides": {}})
    found = [RunStore().find_published(key(accuracy, config)) for config in configs]
    best = [max(entry["valid_ndcg@10"] for entry in record.history) for record in found if record is not None]
    if not best:
        raise SystemExit(f"error: no published run of {model} on {dataset} says what is good; name another data set")
    return fmean(best)


def first_good(epochs: list[dict[str, float]], goal: float) -> dict[str, float] | None:
    """The first epoch whose quality reaches the goal.

    >>> first_good([{"epoch": 1, "ndcg": 0.1}, {"epoch": 2, "ndcg": 0.3}, {"epoch": 3, "ndcg": 0.2}], 0.15)
    {'epoch': 2, 'ndcg': 0.3}
    """
    return next((epoch for epoch in epochs if epoch["ndcg"] >= goal), None)


def summary(
    label: str, model: str, goal: float, facts: dict[str, Any], epochs: list[dict[str, float]]
) -> dict[str, Any]:
    """A row of the record. ``best`` is the epoch of the highest NDCG@10."""
    best = max(epochs, key=lambda epoch: epoch["ndcg"])
    return {"label": label, "model": model, "goal": goal, "reached": first_good(epochs, goal), "best": best} | facts


def epochs_of(command: list[str], threads: int, **where: Any) -> Iterator[dict[str, Any]]:
    """The JSON lines that a worker prints, as they come.

    Raises:
        SystemExit: it failed.
    """
    limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **limits}, **where
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"error: {command[1]} ended with {process.returncode}\n{log.read()[-3000:]}")


def follow(command: list[str], label: str, threads: int, **where: Any) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """(what the worker says of itself at first, its epochs), shown as they come."""
    lines = epochs_of(command, threads, **where)
    facts, epochs = next(lines), []
    for epoch in lines:
        epochs.append(epoch)
        print(f"{label}: epoch {epoch['epoch']}, {epoch['seconds']:,.0f} s, NDCG@10 {epoch['ndcg']:.4f}", flush=True)
    return facts, epochs


def main(
    environments: Annotated[Path | None, typer.Option(help="folder for RecTools' virtual environment")] = None,
    without_peers: Annotated[bool, typer.Option("--without-peers", help="ours only")] = False,
    dataset: Annotated[str, typer.Option(help="data set")] = "ml-1m",
    models: Annotated[str, typer.Option(help="ours, separated by commas")] = ",".join(MODELS),
    seed: Annotated[int, typer.Option(min=0, help="of our training; one that no published run has")] = 10,
    threads: Annotated[int, typer.Option(min=0, help="threads of every side; 0: all cores")] = 0,
    clock: Annotated[str, typer.Option(help="wall | cpu: what is compared; cpu needs one thread")] = "wall",
    most: Annotated[int, typer.Option(min=1, help="epochs of RecTools, at most")] = 200,
    save: Annotated[bool, typer.Option("--save", help="write the record")] = False,
) -> None:
    """Train each side until it is good."""
    import torch

    conditions = Conditions(threads, clock)
    if environments is None and not without_peers:
        raise SystemExit(
            "error: RecTools needs a folder for its packages; name one by --environments, or --without-peers"
        )
    shared: dict[str, Any] = {"dataset": dataset, "threads": conditions.threads, "clock": clock, "seed": seed}
    rows: list[dict[str, Any]] = []

    def add(label: str, model: str, command: list[str], given: dict[str, Any], **where: Any) -> None:
        goal = SHARE * published_best(dataset, model)
        command = [*command, json.dumps(shared | given | {"goal": goal})]
        rows.append(summary(label, model, goal, *follow(command, label, conditions.threads, **where)))
        if save:  # what is measured so far
            setting = {"share": SHARE, "patience": PATIENCE} | shared
            keep(conditions.record("time_to_quality", setting=setting, rows=rows))

    for model in models.split(","):
        add("ours", model, [sys.executable, str(HERE / "peers/seqrec_quality.py")], {"model": model})
    if environments is not None and not without_peers:
        architecture, config = resolve(dataset, "sasrec", 0)
        assert config is not None
        python = str(prepare_environment(environments, "rectools", torch.__version__.partition("+")[0]))
        size = architecture | {"d_inner": 4 * architecture["d_model"], "length": config.max_length}
        size |= {"learning_rate": config.learning_rate, "patience": PATIENCE, "epochs": most}
        contestants = sides(config.tokens_per_batch, config.max_length, 0)
        with tempfile.TemporaryDirectory() as folder:
            size["interactions"] = str(export(dataset, Path(folder)))
            for name, own in (("rectools-default", {"learning_rate": DEFAULT_RATE}), ("rectools", {})):
                side = contestants[name]
                command = [python, str(HERE / "peers/rectools_quality.py")]
                add(side.label, "sasrec", command, size | side.settings | own, cwd=folder)
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """The record as a table in the terminal."""
    table = Table("side", "model", "goal", "reached after, s", "epoch", "best NDCG@10", "after, s")
    for row in rows:
        reached, best = row["reached"], row["best"]
        when = (f"{reached['seconds']:,.0f}", f"{reached['epoch']}") if reached else ("never", "")
        table.add_row(
            row["label"], row["model"], f"{row['goal']:.4f}", *when, f"{best['ndcg']:.4f}", f"{best['seconds']:,.0f}"
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
