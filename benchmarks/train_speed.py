"""How long does an epoch of SASRec take here, in RecTools and in RecBole? One run, one machine, the same data and size.

    python -m benchmarks.train_speed --environments DIR          # DIR gets a virtual environment per package
    python -m benchmarks.train_speed --environments DIR --save   # also writes benchmarks/results/train_speed.json

``--lengths`` are those of the windows. Each side is a process of its own (peers/), with its own trainer and batches.
They take turns of ``--turn`` seconds, so that another job on the machine slows all of them alike. A side's rate is what
it trained in all its turns; how much faster ours is, is the median over rounds. The unit is the *trained target*, a
position at which the loss is taken: an epoch of RecTools has fewer of them, as it drops what is older than a window. An
epoch that did not fit the turns is extrapolated from the rate, and the record says how much of it was run.

On a machine that is busy with other jobs, wall time says little: ``--clock cpu --threads 1`` counts each process's own
CPU seconds instead, and the record says so.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.conditions import Conditions, keep

HERE = Path(__file__).resolve().parent
OURS, OURS_FP32 = "ours", "ours-fp32"
# Every environment also gets the torch release that this one has. `alone` is installed without what it asks for:
# RecBole pins a ray release that no longer exists for this Python, and needs it for its parameter search only.
ENVIRONMENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "rectools": {"packages": ("RecTools[torch]==0.19.0",)},
    "recbole": {
        "alone": ("recbole==1.2.1",),
        "packages": (
            *("numpy<2", "pandas<3", "scipy", "scikit-learn", "colorlog==4.7.2", "colorama==0.4.4", "pyyaml", "tqdm"),
            *("tabulate", "texttable", "thop", "psutil", "tensorboard", "plotly"),
        ),
    },
}


@dataclass(frozen=True)
class Side:
    """One contestant: its label, its worker under peers/, its environment (None: this one), settings of its own."""

    label: str
    worker: str
    environment: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    goal: float | None = None  # how many times as fast ours should be, per trained target


def sides(tokens: int, length: int, recbole_rows: int) -> dict[str, Side]:
    """Who takes part. ``tokens`` are our positions per step: RecTools gets as many in its first row."""
    equal = {"rows_per_batch": max(1, tokens // length)}
    rectools = ("rectools_epoch.py", "rectools")
    return {
        OURS: Side("Ours (recipe: item softmax in bf16)", "seqrec_epoch.py", None, {"precision": "softmax-bf16"}),
        "rectools": Side("RecTools, our size and batch", *rectools, equal, 3.0),
        OURS_FP32: Side("Ours, fp32", "seqrec_epoch.py", None, {"precision": "fp32"}),
        "recbole": Side("RecBole, our size", "recbole_epoch.py", "recbole", {"rows_per_batch": recbole_rows}, 50.0),
        "rectools-default": Side(
            "RecTools, its own blocks and batch", *rectools, {"rows_per_batch": 128, "d_inner": None}, None
        ),
    }


def prepare_environment(folder: Path, name: str, torch: str, needs: dict[str, tuple[str, ...]] | None = None) -> Path:
    """Make the package's virtual environment, once; returns its Python. ``needs``: by default as in ENVIRONMENTS."""
    needs = needs or ENVIRONMENTS[name]
    home = folder / name
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = json.dumps([needs, torch])
    stamp = home / "ready.json"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    for package in needs.get("alone", ()):
        subprocess.run([*pip, "--no-deps", package], check=True)
    subprocess.run([*pip, f"torch=={torch}", *needs["packages"]], check=True)
    stamp.write_text(wanted)
    return python


def export(dataset: str, folder: Path) -> Path:
    """All interactions as RecBole reads them (tab separated, typed header), in order.

    The time is the position in the user's history: no other sort can then change our order of ties.
    """
    import numpy as np

    from seqrec_lib.data import load

    sequences = load(dataset)
    users = np.repeat(np.arange(1, sequences.n_users + 1), sequences.lengths)
    times = np.arange(len(users)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    path = folder / dataset / f"{dataset}.inter"
    path.parent.mkdir(parents=True)
    header = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(path, np.stack([users, sequences.items, times], 1), "%d", "\t", header=header, comments="")
    return path


class Worker:
    """A side's process: started, warmed up, then asked for one turn after another."""

    def __init__(
        self, side: Side, pythons: dict[str, Path], shared: dict[str, Any], folder: Path, log: IO[bytes]
    ) -> None:
        self.worker = side.worker
        threads = str(shared["threads"])
        python = pythons[side.environment] if side.environment else Path(sys.executable)
        self.process = subprocess.Popen(
            [str(python), str(HERE / "peers" / side.worker), json.dumps(shared | side.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=folder if side.environment else None,  # RecBole leaves logs where it runs
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )

    def report(self) -> dict[str, Any]:
        """The next line from the worker."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.worker} ended with {self.process.wait()}")
        return json.loads(line)

    def turn(self, clock: str, seconds: float) -> dict[str, Any]:
        """Train for about this long."""
        return self.ask(f"{clock} {seconds}")

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line, wait for the report."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.report()

    def stop(self) -> None:
        """End the process: it notices that its input is closed."""
        try:
            self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def rate(turn: dict[str, Any], clock: str = "wall") -> float:
    """Trained targets per second of a turn."""
    return float(turn["targets"]) / float(turn[clock])


def times_as_fast(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], clock: str = "wall") -> float:
    """Median over rounds of our rate in units of theirs.

    >>> slow, fast = {"targets": 10, "wall": 5.0}, {"targets": 60, "wall": 3.0}
    >>> times_as_fast([fast, fast, slow], [slow, slow, slow])
    10.0
    """
    return statistics.median(rate(a, clock) / rate(b, clock) for a, b in zip(ours, theirs, strict=True))


def summarise(facts: dict[str, Any], turns: list[dict[str, Any]], clock: str = "wall") -> dict[str, Any]:
    """One row of the record, from what a worker said about itself and its turns."""
    total = {key: sum(turn[key] for turn in turns) for key in turns[0]}
    share = total["targets"] / facts["targets_per_epoch"]
    return facts | {
        "steps": total["steps"],
        "wall_seconds": round(total["wall"], 2),
        "cpu_seconds": round(total["cpu"], 2),
        "share_of_epoch": round(share, 4),
        "targets_per_second": round(rate(total, clock), 1),
        "epoch_seconds": round(facts["targets_per_epoch"] / rate(total, clock) + facts["epoch_setup_seconds"], 1),
        "padding": round(1 - total["tokens"] / total["positions"], 4),
        "positions_per_target": round(total["positions"] / total["targets"], 2),
        "peak_memory_bytes": max(turn["peak_memory_bytes"] for turn in turns),
    }


def summaries(
    contestants: dict[str, Side],
    facts: dict[str, dict[str, Any]],
    turns: dict[str, list[dict[str, Any]]],
    clock: str = "wall",
) -> list[dict[str, Any]]:
    """A row per side, ours first. ``turns``: side -> one report per round."""
    return [
        {"name": name, "label": side.label, "goal": side.goal}
        | summarise(facts[name], turns[name], clock)
        | {
            "ours_times_as_fast": round(times_as_fast(turns[OURS], turns[name], clock), 2),
            "ours_fp32_times_as_fast": round(times_as_fast(turns[OURS_FP32], turns[name], clock), 2),
        }
        for name, side in sorted(contestants.items(), key=lambda item: not item[0].startswith(OURS))
    ]


def main(
    environments: Annotated[Path, typer.Option(help="folder for the packages' virtual environments")],
    dataset: Annotated[str, typer.Option(help="data set")] = "ml-1m",
    lengths: Annotated[str, typer.Option(help="of the windows, with commas between")] = "50,200",
    threads: Annotated[int, typer.Option(min=0, help="threads of every side; 0: all cores")] = 0,
    clock: Annotated[str, typer.Option(help="wall | cpu: what is compared; cpu needs one thread")] = "wall",
    rounds: Annotated[int, typer.Option(min=1, help="turns of each side")] = 20,
    turn: Annotated[float, typer.Option(min=0.1, help="seconds of a turn, at least one step")] = 10.0,
    recbole_rows: Annotated[int, typer.Option(min=1, help="samples in a batch of RecBole (its default: 2048)")] = 256,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Train side by side and compare trained targets per second."""
    import torch

    from seqrec_lib.train.recipes import resolve

    conditions = Conditions(threads, clock)
    threads = conditions.threads
    architecture, config = resolve(dataset, "sasrec", 0)
    assert config is not None
    release = torch.__version__.partition("+")[0]
    pythons = {name: prepare_environment(environments, name, release) for name in ENVIRONMENTS}
    size = architecture | {"d_inner": 4 * architecture["d_model"]}
    shared = size | {"dataset": dataset, "threads": threads, "learning_rate": config.learning_rate}

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        shared["interactions"] = str(export(dataset, Path(folder)))
        for length in (int(text) for text in lengths.split(",")):
            contestants = sides(config.tokens_per_batch, length, recbole_rows)
            given = shared | {"length": length}
            facts, turns = take_turns(contestants, pythons, given, Path(folder), (clock, turn), rounds)
            rows += [{"length": length} | row for row in summaries(contestants, facts, turns, clock)]

    record = conditions.record(
        "train_speed",
        setting=size | {"dataset": dataset, "clock": clock, "rounds": rounds, "turn_seconds": turn},
        rows=rows,
    )
    show(record)
    if save:
        keep(record)


def take_turns(
    contestants: dict[str, Side],
    pythons: dict[str, Path],
    shared: dict[str, Any],
    folder: Path,
    turn: tuple[str, float],
    rounds: int,
) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """Start every worker, then go round: (facts per side, reports per side and round)."""
    workers: dict[str, Worker] = {}
    facts: dict[str, dict[str, Any]] = {}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    log = folder / "workers.log"
    try:
        with log.open("wb") as stream:
            for name, side in contestants.items():
                workers[name] = Worker(side, pythons, shared, folder, stream)
                facts[name] = workers[name].report()
                print(f"{name}: ready after {facts[name]['prepare_seconds']:.0f} s", flush=True)
        for number in range(rounds):
            for name in contestants if number % 2 == 0 else reversed(contestants):
                turns[name].append(workers[name].turn(*turn))
            rates = ", ".join(f"{name} {rate(done[-1], turn[0]):,.0f}" for name, done in turns.items())
            print(f"round {number + 1} of {rounds}, targets/s: {rates}", flush=True)
    except RuntimeError as error:
        raise SystemExit(f"error: {error}\n{log.read_text(errors='replace')[-3000:]}") from None
    finally:
        for worker in workers.values():
            worker.stop()
    return facts, turns


def show(record: dict[str, Any]) -> None:
    """The record as a table in the terminal."""
    table = Table("length", "side", "epoch, s", "run", "targets/s", "padding", "ours is x", "fp32 is x", "goal")
    for row in record["rows"]:
        table.add_row(
            str(row["length"]),
            row["name"],
            f"{row['epoch_seconds']:,.0f}",
            f"{row['share_of_epoch']:.1%}",
            f"{row['targets_per_second']:,.0f}",
            f"{row['padding']:.1%}",
            f"{row['ours_times_as_fast']:.2f}",
            f"{row['ours_fp32_times_as_fast']:.2f}",
            f">= {row['goal']:g}" if row["goal"] else "",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
