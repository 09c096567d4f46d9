"""Frames of the latency page, from one timing run (`timings.Timings`); milliseconds unless a name says otherwise.

Within a frame every ratio has one denominator: SASRec by the same program, timed in the same blocks of the same record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.evaluate.statistics import Interval, interval, ratio
from seqrec_lib.latency.statistics import false_difference_rate, outlier_shares
from seqrec_lib.report.benchmarks import Record
from seqrec_lib.report.footer import hardware_name
from seqrec_lib.report.frames import interval_columns, means, wide
from seqrec_lib.report.kit import Rows, rows_of
from seqrec_lib.report.paper import model_name, paper_number
from seqrec_lib.report.timings import PROGRAMS, STAGES, Timings
from seqrec_lib.results import RunStore

BASE = "sasrec"
LANGUAGE_PATHS = {
    "served": "list of items",
    "graph": "list of items",
    "free": "queries, then BM25",
    "held": "queries held to titles",
    "paper": "queries, the paper's size",
    "ranker": "one pass over candidates",
    "paper-ranker": "one pass, the paper's size",
}
"""The path of a contestant of the benchmark `query_latency` -> what it gives for a request."""
SERVED = ("served", "graph")  # paths by which a machine serves recommenders


@rows_of
def setting(timings: Timings) -> Rows:
    """What was timed, on what: what and value."""
    config, lengths = timings.record.config, timings.of(*timings.rows[0])["length"]
    facts = {
        "Machine": hardware_name(timings.record),
        "Processes, one after another": config["processes"],
        "Blocks of each, in random order": config["blocks"],
        "Users of a block": config["block_users"],
        "Calls of each model and program": len(timings.calls) // len(timings.rows),
        "Items of the catalogue": timings.record.dataset["n_items"],
        "Items of a history, median": round(float(lengths.median())),
        "Items of a history, at most": config["max_length"],
    }
    return ({"what": what, "value": f"{value:,}" if isinstance(value, int) else value} for what, value in facts.items())


@rows_of
def requests(timings: Timings, *paths: str) -> Rows:
    """The whole request at batch 1: model, program, ms (median, see `Timings.median`), times (that of SASRec's), both
    with intervals, p95, p99, and outliers (share of calls beyond Tukey's fences: counted, none removed)."""
    for model, path in timings.ordered(*paths):
        values = timings.of(model, path)["total"].to_numpy()
        row: dict[str, Any] = {"model": model_name(model), "program": PROGRAMS[path], "id": model}
        row |= interval_columns("ms", timings.median(model, path), 1e3)
        row |= interval_columns("times", timings.ratio((model, path), (BASE, path)))
        row |= dict(zip(("p95", "p99"), np.quantile(values, [0.95, 0.99]) / 1e3, strict=True))
        yield row | {"outliers": sum(outlier_shares(values))}


def fastest(timings: Timings | None, *paths: str) -> pd.DataFrame:
    """`requests` by the faster program of each model: what a comparison of two architectures compares."""
    rows = requests(timings, *paths)
    return rows.loc[rows.groupby("id", sort=False)["ms"].idxmin()].reset_index(drop=True) if len(rows) else rows


@rows_of
def stages(timings: Timings, *paths: str) -> Rows:
    """Medians of reading the history, scoring all items and selecting ten, and the share of reading."""
    for model, path in timings.ordered(*paths):
        medians = {stage: timings.median(model, path, stage).estimate / 1e3 for stage in STAGES}
        share = medians["encode"] / sum(medians.values())
        yield {"model": model_name(model), "program": PROGRAMS[path], **medians, "share": share}


@rows_of
def paper_protocol(timings: Timings, dataset: str) -> Rows:
    """The paper's estimand (ms, outliers removed) with its interval, the mean that keeps them, the share removed, and
    the estimand in units of SASRec's beside the paper's own."""
    for model, path in timings.ordered("served", "module"):
        estimate, base = timings.paper_estimate(model, path), timings.paper_estimate(BASE, path)
        if estimate is None:
            continue
        trimmed, mean, removed = estimate
        row = {"model": model_name(model), "program": PROGRAMS[path]} | interval_columns("ms", trimmed, 1e3)
        row |= {"kept": mean.estimate / 1e3, "removed": removed, "paper": printed_times(dataset, model)}
        yield row | {"times": trimmed.estimate / base[0].estimate if base else np.nan}


def printed_times(dataset: str, model: str) -> float:
    """The paper's latency of a model in units of its SASRec's; NaN where it does not print both."""
    own, base = (paper_number(dataset, name, "latency") for name in (model, BASE))
    return own.value / base.value if own and base else np.nan


@rows_of
def control(timings: Timings) -> Rows:
    """The A/A control: the model that was timed twice, the ratio of the two, and how often the procedure calls it
    different from itself when labels are swapped at random."""
    for model in (model for model, path in timings.rows if path == "again"):
        a, b = (timings.units(model, path) for path in ("served", "again"))
        facts = {"called_different": false_difference_rate(a, b), "units": len(a), "unit": timings.unit}
        times = interval_columns("times", timings.ratio((model, "served"), (model, "again")))
        yield {"model": model_name(model)} | times | facts


def batches(timings: Timings | None) -> pd.DataFrame:
    """Milliseconds per user of the models' own pass by batch: model, a column for each size, best, users_per_second."""
    if timings is None or timings.batches.empty:
        return pd.DataFrame()
    medians = timings.batches.groupby(["model", "size"], sort=False)["user"].median().unstack() / 1e3
    order = [model for model in timings.record.config["models"] if model in medians.index]
    medians = medians.loc[order, sorted(medians.columns)]
    table = medians.rename(columns=str).assign(
        best=medians.idxmin(axis=1).astype(str), users_per_second=1e3 / medians.min(axis=1)
    )
    return table.rename(index=model_name).rename_axis("model").reset_index()


@rows_of
def warm_up(timings: Timings) -> Rows:
    """Before the first timed call: first_ms, calls until times were steady, MiB held and MiB of work at the peak."""
    facts = timings.record.metrics
    for model, path in timings.ordered("served", "module", "step"):
        row: dict[str, Any] = {"model": model_name(model), "program": PROGRAMS[path]}
        for key, name in (("first_ms", "first_call_ms"), ("calls", "warm_up_calls")):
            row[key] = facts.get(f"{path}/{model}/{name}")
        for key, name in (("held", "held_bytes"), ("peak", "peak_memory_bytes")):
            row[key] = facts.get(f"{path}/{model}/{name}", np.nan) / 2**20
        yield row


@rows_of
def gpu(timings: Timings) -> Rows:
    """On a GPU: median milliseconds by the wall clock for each way to launch kernels."""
    for model in timings.record.config["architectures"]:
        row: dict[str, Any] = {"model": model_name(model)}
        for path in ("eager", "compiled", "graph"):
            row[path] = timings.median(model, path).estimate / 1e3 if (model, path) in timings.rows else np.nan
        yield row


def calls(timings: Timings | None) -> pd.DataFrame:
    """One row for each call: model, path, process, block, length (items of the history), ms."""
    columns = ["model", "path", "process", "block", "length"]
    if timings is None:
        return pd.DataFrame(columns=[*columns, "ms"]).astype({"length": float, "ms": float})
    table = timings.calls
    total = table[[*STAGES]].astype(float).sum(axis=1)
    return table[columns].assign(model=table["model"].map(model_name), ms=total / 1e3)


def appendix_b(runs: pd.DataFrame, timings: Timings | None, dataset: str, store: RunStore) -> pd.DataFrame:
    """The paper's Appendix B: each model's HT@10 against its latency in units of SASRec's, ours with intervals and the
    paper's. The latency is that of histories as long as those that the accuracy was measured with (its window).

    Args:
        runs: of `frames.frame`, the accuracy runs of one data set.
    """
    if timings is None or runs.empty or not runs["recipe"].any():
        return pd.DataFrame()
    windows = runs.groupby("model")["training.max_length"].max() if "training.max_length" in runs else {}
    table = wide(means(runs[runs["recipe"]], ["ht@10"], store))
    rows = []
    for own in table.dropna(subset="ht@10").to_dict("records"):
        model = str(own["model"])
        if (model, "served") not in timings.rows:
            continue
        window, base = (_window(windows, name, timings) for name in (model, BASE))
        a, b = timings.at_length(model, "served", window), timings.at_length(BASE, "served", base)
        paper = paper_number(dataset, model, "ht@10")
        rows.append(
            {"model": own["label"], "window": window}
            | interval_columns("ms", interval(a), 1e3)
            | interval_columns("latency", Interval(1.0) if model == BASE else _over(a, b))
            | {name: own[name] for name in ("ht@10", "ht@10 low", "ht@10 high")}
            | {"paper latency": printed_times(dataset, model), "paper": paper.value if paper else np.nan}
        )
    return pd.DataFrame(rows)


def _over(a: np.ndarray, b: np.ndarray) -> Interval:
    """The paired ratio; without an interval where the two have units of different kinds."""
    return ratio(a, b) if len(a) == len(b) else Interval(float(np.median(a) / np.median(b)))


def _window(windows: Any, model: str, timings: Timings) -> int:
    """How many items a model read when its accuracy was measured; a counting model reads what it is given."""
    longest = int(timings.record.config["max_length"])
    window = windows.get(model, longest)
    return longest if window != window else min(int(window), longest)


@rows_of
def benchmark(record: Record, dataset: str) -> Rows:
    """Every contestant of the benchmark `query_latency`, which takes turns with language models: model, does (what it
    gives), weights, ms, times (those of SASRec compiled for serving in that record), both with intervals over
    blocks, tokens per second, the paper's times."""
    contestants = (record["datasets"].get(dataset) or {}).get("contestants", [])
    blocks = {(own["model"], own["path"]): np.array(own["block_milliseconds"]) for own in contestants}
    base = next((values for (model, path), values in blocks.items() if model == BASE and path in SERVED), None)
    for own in contestants:
        values, over = blocks[own["model"], own["path"]], None
        if base is not None:
            both = min(len(values), len(base))  # the paper's sizes take part in the first blocks only
            over = Interval(1.0) if values is base else ratio(values[:both], base[:both])
        row = {"model": model_name(own["model"]), "does": LANGUAGE_PATHS.get(own["path"], own["path"])}
        row |= interval_columns("ms", interval(values, np.median)) | interval_columns("times", over)
        row |= {"weights": own["parameters"], "tokens": own["tokens_per_second"]}
        yield row | {"paper": printed_times(dataset, own["model"])}
