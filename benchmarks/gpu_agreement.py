"""Does a GPU train the same model? Runs from a GPU beside published ones of the same configuration from a CPU.

    python -m benchmarks.gpu_agreement RESULTS.tar [--others 11] [--save]   # the tar: from `seqrec results export`

Kernels, precision, order of sums and random draws all differ: two trainings of one recipe, not one training twice. But
their test users are the same, so each user's difference is known, and its mean has an interval. What the kernels'
preflight found before each run stands beside. ``--others`` says how many other processes shared the card: then the
seconds are upper bounds.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.conditions import keep
from seqrec_lib.evaluate.statistics import metric_values, paired_difference
from seqrec_lib.results import RunRecord, RunStore
from seqrec_lib.results.transfer import import_runs

NAME = "gpu_agreement"
COLUMNS = {"ndcg@10": "rank", "masked_ndcg@10": "masked_rank"}  # metric -> column of a run's table of ranks
KEPT = ("device", "precision", "loop", "git_commit")


def side(record: RunRecord) -> dict[str, Any]:
    """What a run was made on, what it took and what came out."""
    kept: dict[str, Any] = {name: record.environment.get(name) for name in KEPT}
    kept |= {name: record.cost.get(name) for name in ("train_seconds", "wall_seconds", "epochs")}
    return kept | {metric: record.metrics[metric] for metric in COLUMNS}


def compare(record: RunRecord, store: RunStore, other: RunRecord, its_store: RunStore) -> dict[str, Any]:
    """Both sides of one configuration, and the mean difference, GPU minus CPU, over users."""
    row: dict[str, Any] = {"model": record.config["model"], "seed": record.config["seed"]}
    row |= {"gpu": side(record), "cpu": side(other), "kernels": record.environment.get("mixers"), "difference": {}}
    here, there = store.table(record, "ranks"), its_store.table(other, "ranks")
    for metric, column in COLUMNS.items():
        kind = metric.removeprefix("masked_")
        a, b = (metric_values(table[column].to_numpy(), kind) for table in (here, there))
        interval, p = paired_difference(a, b)
        row["difference"][metric] = {"value": interval.estimate, "low": interval.low, "high": interval.high, "p": p}
    return row


def collect(tar: Path, published: RunStore, others: int) -> dict[str, Any]:
    """The record: one row for each trained accuracy run of the tar that has a published twin from a CPU.

    Raises:
        SystemExit: there is none.
        SeqRecError: the tar holds something else than runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "new", Path(folder) / "published")
        import_runs(store, tar)
        rows, day, where, datasets = [], "", {}, set()
        for record in store.records("accuracy"):
            twin = published.find(record.run_id)
            if record.config["training"] is None or record.environment["device_type"] != "cuda" or twin is None:
                continue
            if not twin.complete or twin.environment.get("device_type") == "cuda":
                continue
            rows.append(compare(record, store, twin, published))
            day, where = record.finished[:10], record.environment
            datasets.add(record.dataset["name"])
    if not rows:
        raise SystemExit(f"error: {tar} holds no accuracy run from a GPU whose twin from a CPU is published here")
    names = ("device", "device_type", "cpu", "cores", "kernels", "git_commit")
    return {
        "benchmark": NAME,
        "date": day,
        "environment": {name: where.get(name) for name in names},
        "versions": {"torch": where["versions"]["torch"]} | (where["kernels"] or {}),
        "dataset": ", ".join(sorted(datasets)),
        "other_processes": others,
        "rows": rows,
    }


def main(
    tar: Annotated[Path, typer.Argument(help="tar of runs that were made on a GPU")],
    others: Annotated[int, typer.Option(min=0, help="other processes on the GPU meanwhile")] = 0,
    save: Annotated[bool, typer.Option("--save", help="write the record that the book shows")] = False,
) -> None:
    """Compare GPU runs with their published twins from a CPU."""
    record = collect(tar, RunStore(), others)
    print(json.dumps(record, indent=1))
    if save:
        keep(record)


if __name__ == "__main__":
    typer.run(main)
