"""Tables and figures of a data set's page: its counts beside the paper's Table 4, its shape, how often time
ties."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqrec_lib.data.registry import DATASETS
from seqrec_lib.report import figures
from seqrec_lib.report.html import NONE, Html, not_run, paragraph, table
from seqrec_lib.report.paper import TABLE_4, comparable, dataset_name, paper_dataset
from seqrec_lib.results import RunRecord, RunStore

_COUNTS = (("users", "Users"), ("items", "Items"), ("interactions", "Interactions"))


def counts_table(record: RunRecord | None, dataset: str) -> Html:
    """Counts after the 5-core beside Table 4; "equal" allows for the padding id that the paper counts."""
    paper = next((row for row in TABLE_4 if row.dataset == paper_dataset(dataset)), None)
    printed = {} if paper is None else {"users": paper.users, "items": paper.items, "interactions": paper.reviews}
    rows = []
    for key, name in _COUNTS:
        ours = _number(record, key)
        padded = _number(record, f"{key}_with_padding")
        theirs = printed.get(key)
        rows.append(
            [
                name,
                "not run" if ours is None else f"{ours:,.0f}",
                NONE if padded is None else f"{padded:,.0f}",
                NONE if theirs is None else f"{theirs:,}",
                _reading(ours, padded, theirs, comparable(dataset)),
            ]
        )
    return table(
        ["Count", "Ours", "With padding id", "Paper", "Verdict"],
        rows,
        caption=f"{dataset_name(dataset)} after the 5-core, beside the paper's Table 4",
        left=(0, 4),
    )


def _reading(ours: float | None, padded: float | None, theirs: int | None, same_data: bool) -> str:
    if ours is None:
        return "○ not run"
    if theirs is None:
        return "· not in the paper"
    if not same_data:
        return "≠ other data"
    if theirs == ours:
        return "= equal"
    return "= equal, padding id included" if theirs == padded else f"{ours - theirs:+,.0f}"


def _number(record: RunRecord | None, key: str) -> float | None:
    value = None if record is None else record.metrics.get(key)
    return None if value is None else float(value)


def shape_table(record: RunRecord | None, dataset: str) -> Html:
    """Lengths, popularity, ties and repeats: what decides how hard the ranking is and how much the tie rule
    matters."""
    if record is None:
        return not_run(dataset_name(dataset))
    if not record.complete:
        return paragraph(f"{dataset_name(dataset)}: the run failed: {record.error}")

    def shown(key: str, form: str) -> str:
        value = _number(record, key)
        return NONE if value is None else format(value, form)

    rows = [
        ["Interactions of a user, mean", shown("length_mean", ".1f"), "how much a model can read"],
        ["... median", shown("length_50%", ",.0f"), ""],
        ["... 5 % and 95 % quantile", f"{shown('length_5%', ',.0f')} and {shown('length_95%', ',.0f')}", ""],
        ["Interactions of an item, mean", shown("popularity_mean", ".1f"), "how much is known of an item"],
        [
            "Gini coefficient of popularity",
            shown("popularity_gini", ".3f"),
            "0: all items equal; 1: one has all",
        ],
        ["Density", shown("density", ".3%"), "share of user and item pairs that occur"],
        ["Consecutive pairs with equal time", shown("tied_pairs", ".1%"), _tie_rule(dataset)],
        ["Users whose last two tie", shown("tied_last_two", ".1%"), "the tie rule decides their test item"],
        ["Repeated user and item pairs", shown("repeated_pairs", ",.0f"), "a seen item can be the target"],
        ["First and last day", _days(record), ""],
        ["Split", str(record.dataset.get("split_sha256", NONE))[:16], _verified(record)],
    ]
    return table(
        ["What", "Value", "What it decides"],
        rows,
        caption=f"The shape of {dataset_name(dataset)}",
        left=(0, 2),
        wrap=(2,),
    )


def _tie_rule(dataset: str) -> str:
    """What decides the order of interactions with equal timestamps, in the data set's order of time."""
    order = DATASETS[dataset].order if dataset in DATASETS else "true"
    if order.startswith("ties-random"):
        return "their order is random"
    rules = {
        "recbole": "their order is the file's, and so is that of times equal in float32",
        "ties-item-id": "their order is that of the items' ids",
        "file-order": "the order is the file's, whatever the times",
    }
    return rules.get(order, "their order is the file's")


def _verified(record: RunRecord) -> str:
    if record.dataset["name"] == "demo":
        return "first 16 digits of its hash; made by the simulator"
    known = "as" if record.dataset.get("verified") else "unverified: not known to be as"
    return f"first 16 digits of its hash; {known} in the published results"


def _days(record: RunRecord) -> str:
    moments = [_number(record, key) for key in ("first_timestamp", "last_timestamp")]
    days = []
    for moment in moments:
        if moment is None:
            return NONE
        # Amazon 2023 counts milliseconds; seconds of this size would be the year 5138.
        seconds = moment / 1000 if moment > 1e11 else moment
        days.append(datetime.fromtimestamp(seconds, UTC).date().isoformat())
    return f"{days[0]} to {days[1]}"


def numbers(record: RunRecord | None, name: str, store: RunStore) -> pd.DataFrame:
    """A table of the run, "lengths" or "popularity", as a data frame; empty where there is no run."""
    if record is None or name not in record.tables:
        return pd.DataFrame()
    return pd.DataFrame(store.table(record, name).to_pydict())


def lengths_figure(lengths: pd.DataFrame, dataset: str) -> Figure | None:
    """The histogram of history lengths from the table "lengths" (from, to, users); None where it is empty."""
    if lengths.empty:
        return None
    first, last, users = (lengths[key].to_numpy() for key in ("from", "to", "users"))
    return figures.length_histogram(first, last, users, dataset)


def popularity_figure(popularity: pd.DataFrame, dataset: str) -> Figure | None:
    """The popularity curve from the table "popularity"; None where it is empty."""
    if popularity.empty:
        return None
    items, interactions = (popularity[key].to_numpy() for key in ("rank_share", "interaction_share"))
    return figures.popularity_curve(items, interactions, dataset)


def lengths_alt(lengths: pd.DataFrame) -> str:
    """What the histogram of lengths shows, in words."""
    if lengths.empty:
        return "Histogram of history lengths: not run"
    peak = lengths.iloc[int(np.argmax(lengths["users"]))]
    return (
        f"Histogram of history lengths, log axis, from {lengths['from'].min()} to {lengths['to'].max()} "
        f"interactions; most users ({peak['users']}) have {peak['from']} to {peak['to']}"
    )


def popularity_alt(popularity: pd.DataFrame) -> str:
    """What the popularity curve shows, in words."""
    if popularity.empty:
        return "Curve of item popularity: not run"
    tenth = float(np.interp(0.1, popularity["rank_share"], popularity["interaction_share"]))
    return f"Curve of item popularity: the most popular tenth of items has {tenth:.0%} of interactions"
