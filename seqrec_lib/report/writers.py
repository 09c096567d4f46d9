"""Frames of the page about models that write queries (experiment `generative`): beside their floors, the two
architectures by user, and the ways from queries to a list.

A record of that experiment holds several lists, each under a prefix: see its docstring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.evaluate.statistics import metric_values, paired_difference
from seqrec_lib.language.recipes import ARCHITECTURES, FLOORS
from seqrec_lib.report import floors, frames
from seqrec_lib.results import RunStore

AGAINST = "Markov"
LISTS = {"": "K queries, one item each", "trie_": "held to titles, no search"}
BEYOND = ("list_length", "diversity@10", "coverage@10")  # metrics of a list beside its accuracy


def models(runs: pd.DataFrame, counted: pd.DataFrame, store: RunStore, metric: str = "ndcg@10") -> pd.DataFrame:
    """Every model that writes, and the floors: `floors.compare` with gaps to Markov, made, and masked: the metric with
    seen items left out. ``counted``: `frames.frame` of the counting models on the same data."""
    cheap = [(label, own) for label, own in counted.groupby("label", sort=False)]
    cheap += [(label, own) for label, own in runs[runs["model"].isin(FLOORS)].groupby("label", sort=False)]
    written = runs[runs["model"].isin(ARCHITECTURES)]
    parts = []
    for made in floors.MADE:
        own = written[written["made"] == made]
        if own.empty:
            continue
        entries = [floors.Entry(str(n), mine, metric, "ranker") for n, mine in own.groupby("label", sort=False)]
        entries += [floors.Entry(str(label), mine, metric, "floor") for label, mine in cheap]
        entries.append(floors.Entry("At random", _chance(counted, store, metric), metric, "floor"))
        table = floors.compare(entries, store, against=AGAINST)
        masked = [entry.runs.get(f"masked_{metric}", pd.Series(dtype=float)).mean() for entry in entries]
        parts.append(table.assign(made=made, masked=masked))
        parts.append(floors.printed(runs["dataset"].iloc[0], list(ARCHITECTURES), metric).assign(made=made))
    return pd.concat([part for part in parts if len(part)], ignore_index=True) if parts else pd.DataFrame()


def _chance(counted: pd.DataFrame, store: RunStore, metric: str) -> pd.DataFrame:
    """The expectation of a random order of all items, as a frame of no run; empty where the catalogue is not known."""
    for _, record in frames.complete(counted, store):
        if "n_items" in record.dataset:
            mean = metric_values(np.arange(1, record.dataset["n_items"] + 1), metric).mean()
            return pd.DataFrame({"status": ["expected"], "run_id": [None], "seed": [None], metric: [mean]})
    return pd.DataFrame({"status": [], "run_id": [], "seed": []})


def duels(runs: pd.DataFrame, store: RunStore, metrics: Sequence[str]) -> pd.DataFrame:
    """MamRec minus GPT4Rec, paired by user, each user with the mean over seeds: a row for each pair that is made the
    same way; a metric's difference, "<metric> low", "<metric> high" and "<metric> p"."""
    rows = []
    for _, own in runs.groupby("made", sort=False):
        named = {model: dict(list(own[own["model"] == model].groupby("label", sort=False))) for model in ARCHITECTURES}
        for first, mine in named["mamrec"].items():
            for second, other in named["gpt4rec"].items():
                row: dict[str, Any] = {"pair": f"{first} minus {second}"}
                for metric in metrics:
                    a, b = (frames.users(part, metric, store) for part in (mine, other))
                    gap, p = (None, np.nan) if a is None or b is None else paired_difference(a, b)
                    row |= frames.interval_columns(metric, gap) | {f"{metric} p": p}
                rows.append(row)
    return pd.DataFrame(rows)


def lists(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each model and way from its queries to a list: label, list, and the means over seeds of ht@10, ndcg@10,
    masked_ht@10 and `BEYOND`."""
    wanted = ("ht@10", "ndcg@10", "masked_ht@10", *BEYOND)
    rows = []
    for label, own in runs[runs["status"] == frames.COMPLETE].groupby("label", sort=False):
        for column in [name for name in own if str(name).endswith("list_length") and own[name].notna().any()]:
            prefix = str(column).removesuffix("list_length")
            name = LISTS.get(prefix) or f"{prefix[1:-1]} queries, K/{prefix[1:-1]} items each"
            if own["model"].iloc[0] == "bm25-last":
                name = "one query, K items"
            means = {metric: own[prefix + metric].mean() for metric in wanted}
            rows.append({"label": label, "list": name} | means)
    return pd.DataFrame(rows)


def curves(runs: pd.DataFrame, store: RunStore) -> pd.DataFrame:
    """Loss of training and of the next title in validation, per token, by epoch: label, line, epoch, mean, low and high
    (over seeds)."""
    rows = (
        {"label": row["label"], "line": line, "epoch": entry["epoch"], "loss": entry[key]}
        for row, record in frames.complete(runs, store)
        for entry in record.history
        for line, key in (("training", "loss"), ("validation", "valid_loss"))
    )
    return frames.over_range(rows, ["label", "line", "epoch"], "loss")
