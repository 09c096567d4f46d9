"""Tables of what models are made of and what training them cost, beside what the paper prints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from seqrec_lib.report.footer import hardware_name
from seqrec_lib.report.html import NONE, Html, not_run, table
from seqrec_lib.report.paper import dataset_name, paper_row
from seqrec_lib.report.runs import ModelRuns
from seqrec_lib.report.tables import label_cell
from seqrec_lib.results import RunRecord


def size_table(runs: Sequence[ModelRuns], dataset: str) -> Html:
    """Parameters of each model, with and without embeddings, and what the paper prints for it."""
    every = [(own, paper_row(own.dataset, own.model)) for own in runs]
    rows = [(own, row) for own, row in every if own.complete or row is not None]
    if not rows:
        return not_run("Sizes")
    beside = any(row is not None for _, row in rows)
    body: list[list[str | Html]] = [
        [
            label_cell(own.label),
            _count(_mean(own, "parameters")),
            *([NONE if row is None else str(row.parameters)] if beside else []),
            _count(_mean(own, "parameters_without_embeddings")),
            *([NONE if row is None or row.body is None else str(row.body)] if beside else []),
        ]
        for own, row in rows
    ]
    headers = ["Model", "Parameters", *(["Paper"] if beside else []), "Without embeddings"]
    headers += ["Paper (without)"] if beside else []
    return table(headers, body, caption=f"Size on {dataset_name(dataset)}")


def cost_table(runs: Sequence[ModelRuns], dataset: str) -> Html:
    """What training cost: epochs, time and memory as means over runs; below, the hardware."""
    body: list[list[str | Html]] = []
    ratios = [1.0]
    for own in runs:
        if not own.complete:
            continue
        epochs, memory = (_mean(own, key) for key in ("epochs", "peak_memory_bytes"))
        wall = float(np.mean([_whole_seconds(record) for record in own.complete]))
        by_run = [[entry["seconds"] for entry in run.history if "seconds" in entry] for run in own.complete]
        seconds = [value for values in by_run for value in values]
        means = [np.mean(values) for values in by_run if values]
        ratios += [float(max(means) / min(means))] if means and min(means) > 0 else []
        body.append(
            [
                label_cell(own.label),
                NONE if epochs is None else f"{epochs:.0f}",
                f"{np.mean(seconds):.1f}" if seconds else NONE,
                f"{wall / 60:.1f}",
                NONE if not memory else f"{memory / 2**20:,.0f} MiB",
                f"{len(own.complete)} of {len(own.records)}",
            ]
        )
    if not body:
        return not_run("Training cost")
    devices = sorted({hardware_name(record) for own in runs for record in own.complete})
    headers = ["Model", "Epochs", "Seconds per epoch", "Minutes in all", "Peak memory", "Runs"]
    caption = f"Training cost on {dataset_name(dataset)}, means over runs"
    notes = [f"Hardware: {'; '.join(devices)}."] if devices else []
    if max(ratios) > 1.05:
        notes.append(
            f"By the clock, other work of the machine included: one model's seconds differ by up to {max(ratios):.1f}× "
            "from run to run. What is faster is measured side by side, on the page Speed."
        )
    return table(headers, body, caption=caption, notes=notes)


def _whole_seconds(record: RunRecord) -> float:
    """Seconds of a whole run. The clock of one that was resumed counts from there on, its epochs count from the
    first."""
    epochs = sum(entry.get("seconds", 0.0) for entry in record.history)
    return max(float(record.cost.get("wall_seconds", 0.0)), epochs)


def _mean(runs: ModelRuns, name: str) -> float | None:
    values = [record.cost[name] for record in runs.complete if record.cost.get(name) is not None]
    return float(np.mean(values)) if values else None


def _count(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"
