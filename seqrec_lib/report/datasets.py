"""Frames of a data set's page: its counts beside the paper's Table 4, its shape, how often time ties."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd

from seqrec_lib.report.paper import TABLE_4, paper_dataset, paper_name
from seqrec_lib.results import RunRecord, RunStore

_SHAPE = (  # what, its key among the metrics, its format, what it decides
    ("Interactions of a user, mean", "length_mean", ".1f", "how much a model can read"),
    ("Interactions of a user, median", "length_50%", ",.0f", ""),
    ("Interactions of a user, 95 % quantile", "length_95%", ",.0f", "which histories a window cuts"),
    ("Interactions of an item, mean", "popularity_mean", ".1f", "how much is known of an item"),
    ("Gini coefficient of popularity", "popularity_gini", ".3f", "0: all items equal; 1: one has all"),
    ("Density", "density", ".3%", "share of user and item pairs that occur"),
    ("Consecutive pairs with equal time", "tied_pairs", ".1%", "the rule for ties decides their order"),
    ("Users whose last two tie", "tied_last_two", ".1%", "the rule for ties decides their test item"),
    ("Repeated user and item pairs", "repeated_pairs", ",.0f", "a seen item can be the target"),
)


def counts(record: RunRecord | None, dataset: str) -> pd.DataFrame:
    """Users, items and interactions: ours, ours with the padding id, the paper's, and which data that counts."""
    original = paper_dataset(dataset)
    row = next((row for row in TABLE_4 if row.dataset == original), None)
    printed = {} if row is None else {"users": row.users, "items": row.items, "interactions": row.reviews}
    metrics = {} if record is None else record.metrics
    data = paper_name(original) if original else None
    rows = [
        (
            key.capitalize(),
            metrics.get(key),
            metrics.get(f"{key}_with_padding") if row else None,
            printed.get(key),
            data,
        )
        for key in ("users", "items", "interactions")
    ]
    return pd.DataFrame(rows, columns=["count", "ours", "padded", "paper", "paper_data"])


def shape(record: RunRecord | None) -> pd.DataFrame:
    """One row for each number that says how hard the ranking is: what, value (as text), decides."""
    if record is None or not record.complete:
        return pd.DataFrame()
    known = record.metrics
    rows: list[tuple[str, str | None, str]] = [
        (what, format(known[key], form) if key in known else None, decides) for what, key, form, decides in _SHAPE
    ]
    days = [_day(known[key]) for key in ("first_timestamp", "last_timestamp") if key in known]
    rows.append(("First and last day", " to ".join(days) or None, ""))
    split = str(record.dataset.get("split_sha256", ""))[:16] or None
    rows.append(("Split", split, "first 16 digits of its hash: equal data have equal ones"))
    return pd.DataFrame(rows, columns=["what", "value", "decides"])


def _day(moment: float) -> str:
    # Amazon 2023 counts milliseconds; seconds of this size would be the year 5138.
    return datetime.fromtimestamp(moment / 1000 if moment > 1e11 else moment, UTC).date().isoformat()


def numbers(record: RunRecord | None, name: str, store: RunStore) -> pd.DataFrame:
    """A table of the run, "lengths" or "popularity", as a data frame; empty where there is no run."""
    if record is None or name not in record.tables:
        return pd.DataFrame()
    return store.table(record, name).to_pandas()


def lengths(record: RunRecord | None, store: RunStore) -> pd.DataFrame:
    """How long histories are: interactions, share (of users with at most so many)."""
    table = numbers(record, "lengths", store)
    if table.empty:
        return table
    share = table["users"].cumsum() / table["users"].sum()
    return pd.DataFrame({"curve": "users", "interactions": table["to"].astype(int), "share": share})


def popularity(record: RunRecord | None, store: RunStore) -> pd.DataFrame:
    """How unequally items are chosen: items (share of them, most popular first), share (of interactions), by curve."""
    table = numbers(record, "popularity", store)
    if table.empty:
        return table
    real = {"curve": "items as they are", "items": table["rank_share"], "share": table["interaction_share"]}
    even = {"curve": "all equal", "items": [0.0, 1.0], "share": [0.0, 1.0]}
    return pd.concat([pd.DataFrame(real), pd.DataFrame(even)])
