"""Frames of the accuracy page: every model's metrics, the paper's beside them, the pairs of models that matter, how
training went.

A metric is named as in the records: "ndcg@10" among all items, "masked_ndcg@10" without the items of the history.
LlamaRec orders candidates that no history holds, so that its numbers are masked ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.evaluate.statistics import Interval
from seqrec_lib.report.frames import differences, means, over_range, users, wide
from seqrec_lib.report.paper import PAPER, in_its_order, model_name, paper_dataset, verdict
from seqrec_lib.report.sizes import about_the_same_data, explained_by, implied_ids
from seqrec_lib.results import RunRecord, RunStore

REFERENCE = "sasrec"
RANKER = "llamarec"  # an experiment


def metric_name(metric: str) -> str:
    """A metric's key as a reader writes it.

    >>> metric_name("masked_ndcg@10")
    'NDCG@10, seen left out'
    """
    masked, _, name = metric.rpartition("_")
    return name.upper() + (", seen left out" if masked else "")


def main_metric(metrics: Sequence[str]) -> str:
    """The metric that models are compared by: NDCG@10 where it is shown, else the first."""
    return "ndcg@10" if "ndcg@10" in metrics else metrics[0]


def models(runs: pd.DataFrame, metrics: Sequence[str], store: RunStore) -> pd.DataFrame:
    """`frames.wide` of the metrics and their masked twins, the best model by the `main_metric` first.

    Args:
        runs: of `frames.frame`, of one data set.
    """
    ranked = runs["experiment"] == RANKER
    masked = [f"masked_{metric}" for metric in metrics]
    table = wide(means(runs[~ranked], [*metrics, *masked], store))
    candidates = means(runs[ranked], metrics, store)
    table = pd.concat([table, wide(candidates.assign(metric="masked_" + candidates["metric"]))], ignore_index=True)
    main = main_metric(metrics)
    order = [name for name in (main, f"masked_{main}") if name in table]
    return table.sort_values(order, ascending=False, ignore_index=True) if order else table


def both_rankings(table: pd.DataFrame, metric: str, dataset: str) -> pd.DataFrame:
    """`models` as rows to draw: ranking (group), label, value, low, high, and the paper's number where it has any."""
    rows = [row for row in PAPER if row.dataset == paper_dataset(dataset) and metric in row.metrics]
    values = {row.model: row.metrics[metric].value for row in rows}
    parts = []
    for name, title in ((metric, "all items ranked"), (f"masked_{metric}", "seen items left out")):
        if name in table:
            own = table[table[name].notna()]
            facts = {"ranking": f"{metric.upper()}, {title}", "label": own["label"], "value": own[name]}
            facts |= {side: own[f"{name} {side}"] for side in ("low", "high")}
            printed = {"paper": own["model"].map(values if name == metric else {})} if values else {}
            parts.append(pd.DataFrame(facts | printed))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def beside_paper(table: pd.DataFrame, metrics: Sequence[str], dataset: str) -> pd.DataFrame:
    """The paper's numbers for this data set, each with ours: model, metric, ours, low, high, paper, difference, the
    catalogue that the paper's row was run on by its size, and the verdict by `paper.verdict`."""
    original = paper_dataset(dataset)
    rows: list[dict[str, Any]] = []
    for printed in (row for row in PAPER if row.dataset == original):
        older, same = "2014" in explained_by(printed), about_the_same_data(printed, dataset)
        mine = table[(table["model"] == printed.model) & ~table["label"].str.contains("from scratch")]
        for metric in (metric for metric in metrics if metric in printed.metrics):
            number = printed.metrics[metric]
            row = mine.iloc[0] if len(mine) else {}
            ours, low, high = (row.get(f"{metric}{end}", np.nan) for end in ("", " low", " high"))
            found = (None if np.isnan(ours) else ours, Interval(ours, low, high))
            word = verdict(number, *found, comparable=same, same_order=in_its_order(dataset))
            catalogue = "2014" if older else "2023" if implied_ids(printed) and "2023" in printed.dataset else None
            rows.append(
                {"model": model_name(printed.model), "metric": metric_name(metric), "catalogue": catalogue}
                | {"ours": ours, "low": low, "high": high, "paper": str(number), "verdict": word}
                | {"difference": ours - number.value if same else np.nan}
            )
    return pd.DataFrame(rows)


def pairs(runs: pd.DataFrame, table: pd.DataFrame, metric: str, store: RunStore) -> pd.DataFrame:
    """Each model minus SASRec, and each minus its neighbour in the order of ``table``, paired by user: pair,
    difference, low, high and p (Holm's correction over these pairs), for the metric and its masked twin.

    Args:
        runs, table: of `frames.frame` and of `models`.
    """
    labels = list(table["label"]) if len(table) else []
    base = next((label for label, model in zip(labels, table["model"], strict=True) if model == REFERENCE), None)
    named = [(label, base) for label in labels if base and label != base]
    named += [(a, b) for a, b in itertools.pairwise(labels) if base not in (a, b)]
    found = pd.DataFrame({"pair": [f"{_short(a)} − {_short(b)}" for a, b in named]})
    for name in (metric, f"masked_{metric}"):
        values = {label: _users(runs[runs["label"] == label], name, store) for label in labels}
        tests = differences([(values[a], values[b]) for a, b in named])
        found = found.join(tests.set_axis([name, f"{name} low", f"{name} high", f"{name} p"], axis=1))
    return found


def _short(label: str) -> str:
    return label.partition(" (from")[0]


def _users(runs: pd.DataFrame, metric: str, store: RunStore) -> np.ndarray | None:
    if len(runs) and runs["experiment"].iloc[0] == RANKER:
        return users(runs, metric.removeprefix("masked_"), store) if metric.startswith("masked_") else None
    return users(runs, metric, store)


def curves(runs: pd.DataFrame, records: Sequence[RunRecord | None]) -> pd.DataFrame:
    """Validation by epoch: label, epoch, and mean, low and high (over seeds) of NDCG@10."""
    labels = dict(zip(runs["run_id"], runs["label"], strict=True))
    entries = [
        {"label": labels[record.run_id]} | entry
        for record in records
        if record is not None and record.complete and record.run_id in labels
        for entry in record.history
        if entry.get("valid_ndcg@10") is not None
    ]
    return over_range(entries, ["label", "epoch"], "valid_ndcg@10")


def costs(runs: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Means over a model's runs: parameters (with the paper's), epochs, the best one, minutes of training, MiB."""
    keys = ["parameters", "parameters_without_embeddings", "epochs", "best_epoch", "train_seconds", "peak_memory_bytes"]
    done = runs[runs["status"] == "complete"].reindex(columns=["label", "model", *keys])
    table = done.groupby(["label", "model"], sort=False)[keys].mean().reset_index()
    printed = {row.model: str(row.parameters) for row in PAPER if row.dataset == paper_dataset(dataset)}
    return table.assign(
        paper=table["model"].map(printed),
        minutes=table["train_seconds"] / 60,
        memory=table["peak_memory_bytes"] / 2**20,
    )
