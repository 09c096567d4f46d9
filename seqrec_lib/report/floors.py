"""Models beside their floors: what needs no language model, and must be beaten for a ranking to say anything.

A *floor* is an order that costs next to nothing: random, popularity, what a retriever or a count gave. A model below a
floor tests nothing. Models from scratch and pretrained ones stand apart, each with the floors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from seqrec_lib.evaluate.statistics import Interval, bootstrap_interval, paired_difference
from seqrec_lib.language.pretrained import Size
from seqrec_lib.report import frames, kit
from seqrec_lib.report.frames import interval_columns
from seqrec_lib.report.html import Html
from seqrec_lib.report.paper import comparable, model_name, paper_number
from seqrec_lib.results import RunRecord, RunStore

MADE = ("from scratch", "pretrained")


def gather(
    experiment: str, configs: Sequence[Any], records: Sequence[RunRecord | None], store: RunStore
) -> tuple[pd.DataFrame, list[RunRecord | None]]:
    """(`frames.frame` of planned runs of one data set, and the records behind them), with what the store has on it
    besides: runs of pretrained models, and of models from scratch with another dropout. Column made: one of `MADE`."""
    shown, planned = list(records), list(configs)
    done = {record.run_id for record in records if record is not None}
    for other in store.records(experiment):
        same = other.complete and other.config["dataset"] == configs[0].dataset and other.run_id not in done
        config = other.config.get("base", other.config)
        if same and (_pretrained(str(config.get("source") or "")) or _other_dropout(config.get("size"))):
            planned.append(other.config)
            shown.append(other)
    runs = frames.frame(shown, planned, store)
    sources = runs["source"] if "source" in runs else runs["base.source"]
    runs["made"] = [MADE[_pretrained(str(source or ""))] for source in sources]
    return runs, shown


def _pretrained(source: str) -> bool:
    return bool(source) and not source.startswith("scratch:")


def _other_dropout(size: Mapping[str, Any] | None) -> bool:
    return size is not None and (bool(size.get("same_dropout")) or size["dropout"] != Size().dropout)


@dataclass(frozen=True)
class Entry:
    """A row to be: the runs behind it, its metric's column in them, and whether it is a floor for the others."""

    label: str
    runs: pd.DataFrame
    column: str
    kind: Literal["ranker", "floor"]


def compare(entries: Sequence[Entry], store: RunStore, against: str) -> pd.DataFrame:
    """One row for each entry: label, kind, mean, low and high (95 %, over users, each with the mean over seeds), seeds;
    gap (mean minus that of the entry labelled ``against``, paired by user) with gap low and gap high; and below: the
    floors that lie above a ranker ("no": none), by what their labels say after a colon. What was not run, and an
    interval without ranks, is NaN."""
    users = {entry.label: frames.users(entry.runs, entry.column, store) for entry in entries}
    means = {entry.label: mean_of(entry.runs, entry.column) for entry in entries}
    over = {entry.label.rpartition(": ")[2]: means[entry.label] for entry in entries if entry.kind == "floor"}
    rows = []
    for entry in entries:
        values, other, mean = users[entry.label], users.get(against), means[entry.label]
        found = None if values is None else bootstrap_interval(values)
        gap = None if entry.label == against else Interval(mean - means[against])
        if gap is not None and values is not None and other is not None:
            gap, _ = paired_difference(values, other)
        row: dict[str, Any] = {"label": entry.label, "kind": entry.kind}
        row |= interval_columns("mean", found) | {"mean": mean} | interval_columns("gap", gap)
        above = "; ".join(name for name, floor in over.items() if floor > mean) or "no"
        row["below"] = above if entry.kind == "ranker" and not np.isnan(mean) else None
        done = entry.runs[entry.column].notna() if entry.column in entry.runs else []
        rows.append(row | {"seeds": entry.runs.loc[done, "seed"].nunique() or np.nan})
    return pd.DataFrame(rows).rename(columns={"mean low": "low", "mean high": "high"})


def mean_of(runs: pd.DataFrame, column: str) -> float:
    """The mean of a column; NaN where the runs have none."""
    return float(runs[column].mean()) if column in runs else np.nan


def printed(dataset: str, models: Sequence[str], metric: str) -> pd.DataFrame:
    """The paper's numbers on this data set, of models with pretrained weights: label, model, mean; empty where the data
    are other ones."""
    rows = []
    for model in models if comparable(dataset) else ():
        number = paper_number(dataset, model, metric)
        if number is not None:
            rows.append({"label": f"{model_name(model)} as the paper prints it", "kind": "paper", "mean": number.value})
    return pd.DataFrame(rows)


def tables(frame: pd.DataFrame, columns: Sequence[kit.Column], *, caption: str) -> Html:
    """A `kit.table` for models from scratch and one for pretrained ones."""
    first, second = (
        kit.table(frame[frame["made"] == made] if len(frame) else frame, columns, caption=f"{caption}, {made}")
        for made in MADE
    )
    return first + second
