"""How long does one user's top ten take here, in RecBole and in RecTools? One run, one machine, one size, same users.

    python -m benchmarks.recommend_speed --environments DIR         # DIR gets a virtual environment per package
    python -m benchmarks.recommend_speed --environments DIR --save  # and writes benchmarks/results/recommend_speed.json

Each side is a process (peers/) that holds its model and all histories; SASRec has the same width, layers, heads and
length everywhere, weights are random. In a round every way to recommend answers the same users, one at a time, and all
ways take turns. A factor is the median over rounds of the ratio of the rounds' median times. Then each way answers many
users at once, in batches of several sizes: a package that is slow for one user may be fast for many.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep
from benchmarks.train_speed import ENVIRONMENTS, Side, Worker, export, prepare_environment

GOALS = {"RecBole": 10.0, "RecTools": 5.0}
MODELS = ("sasrec", "mamba4rec", "2mamba4rec", "hydra4rec")
TOP = 10
# The packages' ways to recommend: worker, label, how it is meant.
PEER_WAYS = {
    "RecBole": {"documented": "RecBole, full_sort_topk", "model": "RecBole, its model alone"},
    "RecTools": {"recommend": "RecTools, recommend"},
}


@dataclass(frozen=True)
class Way:
    """One way to recommend: of which worker, with which model and longest history; its name is unique."""

    worker: str
    way: str
    label: str
    package: str | None  # None: ours
    length: int

    @property
    def name(self) -> str:
        return f"{self.worker}/{self.way}"


def ways(own: Mapping[str, tuple[str, int, str]], lengths: Sequence[int]) -> list[Way]:
    """Ours (way -> model, length, label), and each package's at every length."""
    ours = [Way("ours", way, label, None, length) for way, (_, length, label) in own.items()]
    return ours + [
        Way(f"{package.lower()}-{length}", way, label, package, length)
        for length in lengths
        for package, named in PEER_WAYS.items()
        for way, label in named.items()
    ]


def workers(lengths: Sequence[int], own: Mapping[str, Any]) -> dict[str, Side]:
    """The processes: one for us, and one per package and length."""
    sides = {"ours": Side("Ours", "seqrec_answers.py", None, {"models": dict(own)})}
    for length in lengths:
        for package in PEER_WAYS:
            name = package.lower()
            sides[f"{name}-{length}"] = Side(package, f"{name}_answers.py", name, {"length": length})
    return sides


Asked = dict[str, list[list[float]]]  # way -> for each round the seconds of its requests


class Panel:
    """All workers; asks any way for the time of some requests."""

    def __init__(self, log: IO[bytes], clock: str) -> None:
        self.log, self.clock = log, clock
        self.workers: dict[str, Worker] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.memory: dict[str, int] = {}

    def start(
        self, sides: Mapping[str, Side], pythons: Mapping[str, Path], shared: dict[str, Any], folder: Path
    ) -> None:
        """Start a process for each side, one after another."""
        for name, side in sides.items():
            self.workers[name] = Worker(side, dict(pythons), shared, folder, self.log)
            self.facts[name] = self.workers[name].report()
            print(f"{name}: ready after {self.facts[name]['prepare_seconds']:.0f} s", flush=True)

    def ask(self, way: Way, requests: Sequence[Sequence[int]]) -> list[float]:
        """Seconds of each request, a list of users."""
        turn = {"way": way.way, "clock": self.clock, "requests": [[int(u) for u in users] for users in requests]}
        report = self.workers[way.worker].ask(json.dumps(turn))
        self.memory[way.worker] = report["peak_memory_bytes"]
        return [float(x) for x in report["seconds"]]

    def stop(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.stop()


def take_rounds(panel: Any, field: Sequence[Way], draws: Iterator[Sequence[Sequence[int]]], rounds: int) -> Asked:
    """Every way answers the same requests in each round, in turning order. The first round warms up."""
    asked: Asked = {way.name: [] for way in field}
    for number in range(rounds + 1):
        requests = next(draws)
        for way in field if number % 2 == 0 else list(reversed(field)):
            seconds = panel.ask(way, requests)
            if number:
                asked[way.name].append(seconds)
    return asked


def times_as_fast(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Median over rounds of their median time in units of ours.

    >>> times_as_fast([[1.0, 1.0, 9.0], [2.0]], [[10.0, 30.0, 20.0], [20.0]])
    15.0
    """
    return statistics.median(statistics.median(b) / statistics.median(a) for a, b in zip(ours, theirs, strict=True))


def summarise(
    field: Sequence[Way],
    single: Asked,
    batched: Mapping[int, Asked],
    facts: Mapping[str, Any],
    memory: Mapping[str, int],
) -> list[dict[str, Any]]:
    """A row per way: its times for one user, and users per second in batches, whose size is the key."""
    rows = []
    for way in field:
        about, calls = facts[way.worker], sorted(x for seconds in single[way.name] for x in seconds)
        parameters = about["parameters"]
        rates = {
            str(size): round(size / statistics.median(x for seconds in asked[way.name] for x in seconds), 1)
            for size, asked in {1: single, **batched}.items()
        }
        rows.append(
            {
                "name": way.name,
                "label": way.label,
                "package": way.package,
                "length": way.length,
                "items": about["items"],
                "parameters": parameters[way.way] if isinstance(parameters, dict) else parameters,
                "versions": about["versions"],
                "milliseconds": round(1e3 * statistics.median(calls), 4),
                "p95_milliseconds": round(1e3 * calls[int(0.95 * (len(calls) - 1))], 4),
                "calls": len(calls),
                "users_per_second": rates,
                "peak_memory_bytes": memory[way.worker],
            }
        )
    return rows


def compare(
    field: Sequence[Way], single: Asked, rows: Sequence[Mapping[str, Any]], goals: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Each of our ways with each way of a package at the same length: one user, and the best batch of both."""
    best = {row["name"]: max(row["users_per_second"].values()) for row in rows}
    return [
        {
            "ours": a.name,
            "theirs": b.name,
            "times_as_fast": round(times_as_fast(single[a.name], single[b.name]), 2),
            "times_as_fast_in_batches": round(best[a.name] / best[b.name], 2),
            "goal": goals[b.package],
        }
        for a in field
        for b in field
        if a.package is None and b.package is not None and a.length == b.length
    ]


def main(
    environments: Annotated[Path, typer.Option(help="folder for the packages' virtual environments")],
    dataset: Annotated[str, typer.Option(help="data set")] = "ml-1m",
    threads: Annotated[int, typer.Option(min=0, help="threads of every side; 0: all cores")] = 0,
    clock: Annotated[str, typer.Option(help="wall | cpu: what is compared; cpu needs one thread")] = "wall",
    rounds: Annotated[int, typer.Option(min=1, help="rounds of single users")] = 30,
    users: Annotated[int, typer.Option(min=1, help="users in each of them")] = 10,
    batches: Annotated[str, typer.Option(help="batch sizes, with commas between")] = "16,64,256",
    batch_rounds: Annotated[int, typer.Option(min=1, help="rounds of batches")] = 5,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Recommend side by side and compare the time of one user, and users per second."""
    import numpy as np
    import torch

    from seqrec_lib.data import load
    from seqrec_lib.report.paper import model_name
    from seqrec_lib.train.recipes import resolve

    conditions = Conditions(threads, clock)
    threads = conditions.threads
    sizes = [int(size) for size in batches.split(",")]
    resolved = {model: resolve(dataset, model, 0) for model in MODELS}
    lengths = sorted({config.max_length for _, config in resolved.values()}, reverse=True)  # type: ignore[union-attr]
    own = {
        f"{model}-{length}": (model, length, resolved[model][0])
        for model in MODELS
        for length in (lengths if model == "sasrec" else [resolved[model][1].max_length])  # type: ignore[union-attr]
    }
    field = ways({way: (model, length, model_name(model)) for way, (model, length, _) in own.items()}, lengths)
    release = torch.__version__.partition("+")[0]
    pythons = {name: prepare_environment(environments, name, release) for name in ENVIRONMENTS}
    architecture, training = resolved["sasrec"]
    assert training is not None
    sequences = load(dataset)
    n_users = sequences.n_users
    size = architecture | {"d_inner": 4 * architecture["d_model"]}
    shared = size | {
        "dataset": dataset,
        "threads": threads,
        "learning_rate": training.learning_rate,
        "rows_per_batch": 128,
        "k": TOP,
        "users": n_users,
    }
    rng = np.random.default_rng(0)

    def draw(requests: int, each: int) -> Iterator[list[list[int]]]:
        while True:
            yield rng.choice(n_users, (requests, each), replace=False).tolist()

    with tempfile.TemporaryDirectory() as name, (Path(name) / "workers.log").open("wb") as log:
        folder = Path(name)
        shared["interactions"] = str(export(dataset, folder))
        panel = Panel(log, clock)
        try:
            panel.start(workers(lengths, own), pythons, shared, folder)
            single = take_rounds(panel, field, draw(users, 1), rounds)
            batched = {each: take_rounds(panel, field, draw(1, each), batch_rounds) for each in sizes}
        except RuntimeError as error:
            said = (folder / "workers.log").read_text(errors="replace")[-3000:]
            raise SystemExit(f"error: {error}\n{said}") from None
        finally:
            panel.stop()

    rows = summarise(field, single, batched, panel.facts, panel.memory)
    record = conditions.record(
        "recommend_speed",
        setting=size
        | {"dataset": dataset, "items": sequences.n_items, "k": TOP, "clock": clock, "rounds": rounds, "users": users}
        | {"batch_rounds": batch_rounds},
        rows=rows,
        pairs=compare(field, single, rows, GOALS),
    )
    show(record)
    if save:
        keep(record)


def show(record: dict[str, Any]) -> None:
    """The record as tables in the terminal."""
    sizes = list(record["rows"][0]["users_per_second"])
    table = Table("way", "parameters", "ms", "p95", *(f"users/s by {size}" for size in sizes), "GiB")
    for row in record["rows"]:
        table.add_row(
            f"{row['name']} ({row['length']})",
            f"{row['parameters']:,}",
            f"{row['milliseconds']:.3f}",
            f"{row['p95_milliseconds']:.3f}",
            *(f"{row['users_per_second'][size]:,.0f}" for size in sizes),
            f"{row['peak_memory_bytes'] / 2**30:.1f}",
        )
    Console().print(table)
    table = Table("ours", "theirs", "one user: ours is x", "goal", "in batches: x")
    for pair in record["pairs"]:
        table.add_row(
            pair["ours"],
            pair["theirs"],
            f"{pair['times_as_fast']:.1f}",
            f">= {pair['goal']:g}",
            f"{pair['times_as_fast_in_batches']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
