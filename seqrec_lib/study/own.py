"""The study of a reader's own data: which pages a file gets, and what is said of the file before they are executed.

The pages stand in the book beside those of study.yml. The candidates are compared on one page, `which_model`, which
plans the same timings as the page of latencies does, so that both read one record.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqrec_lib.data import load, own
from seqrec_lib.parameters import check, schema
from seqrec_lib.study.plans import Page, values_of

CANDIDATES = ("popularity", "markov", "sasrec", "2mamba4rec+residual+repeats")
TIMED = ("sasrec", "2mamba4rec+residual+repeats")  # of the candidates, those whose time grows with the history


def pages(dataset: str, root: Path, epochs: int | None = None) -> list[Page]:
    """The pages of a data set, in the order in which they are executed: the last reads the runs of those before.

    epochs: at most so many; None: the recipe's.
    """
    overrides = {} if epochs is None else {"overrides": {"epochs": epochs}}
    given: dict[str, dict[str, Any]] = {
        "datasets": {},
        "accuracy": {"models": list(CANDIDATES), "seeds": [0]} | overrides,
        "latency": {"models": list(CANDIDATES)},
        "scaling": {"models": list(TIMED)},
        "which_model": {"models": list(CANDIDATES), "seeds": [0]} | overrides,
    }
    return [
        Page(name, dataset, check({"dataset": dataset} | values, schema(root / "notebooks" / f"{name}.ipynb")))
        for name, values in given.items()
    ]


def lines_of(dataset: str) -> Iterator[str]:
    """Read a reader's file, and a line for each thing that was found (see `own.facts`)."""
    load(dataset, progress=True)
    facts = own.facts(dataset)
    columns = ", ".join(f"{role}={name}" for role, name in facts["columns"].items())
    pairs, last = facts["ties"]
    yield f"file: {facts['path']}"
    yield f"columns: {columns}"
    yield f"timestamps: {facts['form']}, unit {facts['unit']}, {facts['first']} to {facts['last']}"
    yield f"rows in the order of time for each user: {'yes' if facts['in_order'] else 'no; sorted by time'}"
    yield f"equal times, left in the file's order: {pairs:.1%} of consecutive rows, the last two of {last:.1%} of users"
    yield f"rows: {facts['interactions']:,}, {facts['skipped']:,} bad lines skipped"
    yield f"repeated pairs of user and item, kept: {facts['repeated']:,}; at the same time: {facts['duplicates']:,}"
    for role, counts in facts["like_missing"].items():
        for label, number in counts.items():
            yield f"{role} {label!r} reads like a missing value and is kept as an id, rows: {number:,}"
    yield f"items with a title: {facts['titled']:,} of {facts['items']:,}"
    for number, (rows, users, items) in enumerate(facts["rounds"]):
        yield f"5-core, round {number}: {rows:,} interactions, {users:,} users, {items:,} items"
    for complaint in facts["complaints"]:
        yield f"skipped: {complaint}"


def timing_parameters(dataset: str, models: list[str]) -> dict[str, Any]:
    """The parameters of the page of latencies for these models; its other ones have their defaults."""
    return values_of(Page("latency", dataset, {"dataset": dataset, "models": models}))
