"""The chapter for practitioners (book/which_model.md): what each of its recommendations rests on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from seqrec_lib.report.benchmarks import measured
from seqrec_lib.report.frames import NotRun, Runs
from seqrec_lib.report.paper import SSM, model_name
from seqrec_lib.report.scaling import BEST, Scaling, growth
from seqrec_lib.report.statements import Evidence, over_users, statement
from seqrec_lib.report.timings import Timings
from seqrec_lib.report.values import figure, value

BEAUTY, FILMS = "amazon-2014-beauty", "ml-1m"
PLAIN = ("sasrec", *SSM)


# Quality


@statement("films-leaving-out-seen-items-gains-a-third", seeds=(0, 1, 2))
def _seen(runs: Runs) -> Evidence:
    """NDCG@10 of SASRec on MovieLens 1M, seen items left out minus ranked.

    Held where the gain is between a quarter and two fifths of the value with seen items ranked."""
    plain, masked = (runs.users(FILMS, "sasrec", metric) for metric in ("ndcg@10", "masked_ndcg@10"))
    ids, mean = runs.ids([(FILMS, "sasrec")]), float(plain.mean())
    return over_users(masked - plain, ids, lambda gain: 0.25 <= gain.estimate / mean <= 0.4)


@statement("small-llamarec-loses-to-its-retriever", seeds=(0, 1, 2))
def _llamarec(runs: Runs) -> Evidence:
    """NDCG@10 on MovieLens 1M, LlamaRec from scratch minus its candidates ordered by popularity.

    Seen items left out. In each run the ranker's NDCG@10 is below that of its candidates in popularity's order, and
    that below the retriever's own. The estimate is the mean over the runs."""
    every = runs.records("llamarec", FILMS)
    records = [record for record in every if record.config["source"].startswith("scratch:")]
    if len(records) < 3:
        raise NotRun("llamarec on ml-1m, three seeds")
    gaps = [record.metrics["ndcg@10"] - record.metrics["popularity_ndcg@10"] for record in records]
    below = all(record.metrics["popularity_ndcg@10"] < record.metrics["retriever_ndcg@10"] for record in records)
    ids = tuple(record.run_id for record in records)
    return Evidence(max(gaps) < 0 and below, float(np.mean(gaps)), min(gaps), max(gaps), len(gaps), ids, "seeds")


@figure(
    "which-model-quality",
    "dots",
    group="data",
    label="model",
    value="ndcg",
    axis="NDCG@10, seen items left out, 95 % interval over users",
)
def _quality(runs: Runs) -> Iterator[dict[str, Any]]:
    models = ("markov", *PLAIN, "sasrec+repeats", "2mamba4rec+repeats", "2mamba4rec+residual+repeats")
    for dataset, title in ((FILMS, "MovieLens 1M (films)"), (BEAUTY, "Amazon 2014 Beauty (shop)")):
        for model in models:
            if (dataset, model) != (FILMS, "2mamba4rec+residual+repeats"):  # of which no run is planned
                found = runs.interval(dataset, model, "masked_ndcg@10")
                row = {"data": title, "model": _variant(model), "ndcg": found.estimate}
                yield row | {"low": found.low, "high": found.high}


def _variant(model: str) -> str:
    name, *variants = model.split("+")
    return " + ".join([model_name(name), *variants]).replace("repeats", "bias")


# Time


@statement("one-event-costs-the-same-at-any-length")
def _event(runs: Runs) -> Evidence:
    """Time for one more event, 8,000 items in units of 50, the slowest of the state space models.

    One core. For Mamba4Rec, 2Mamba4Rec and Hydra4Rec the median time to take in one more event and keep the state
    is at 8,000 items at most 1.25 times that at 50. SASRec, which keeps a cache, takes over five times as long."""
    scaling = Scaling.newest(runs, FILMS)
    curves = {model: scaling.curve("event", model, "step") for model in PLAIN}
    medians = pd.DataFrame({model: curve.median(axis=1) for model, curve in curves.items()})
    growth = medians.loc[8_000] / medians.loc[50]
    worst, rounds = float(growth[list(SSM)].max()), curves["sasrec"].shape[1]
    held = worst <= 1.25 and bool(growth["sasrec"] > 5)
    return Evidence(held, worst, None, None, rounds, (scaling.record.run_id,), "rounds")


@statement("at-a-million-items-the-model-hardly-matters")
def _catalogue(runs: Runs) -> Evidence:
    """Time of one request with a million items to score, the slowest of the four models in units of the fastest.

    One core, batch 1, random weights, histories of 50 items, programs compiled for serving: the ratio of the medians
    over rounds is at most 1.1."""
    scaling = Scaling.newest(runs, FILMS)
    curves = [scaling.curve("catalogue", model, "served") for model in PLAIN]
    medians = [float(curve.loc[1_000_000].median()) for curve in curves]
    ratio, rounds = max(medians) / min(medians), curves[0].shape[1]
    return Evidence(ratio <= 1.1, ratio, None, None, rounds, (scaling.record.run_id,), "rounds")


@statement("films-all-answer-within-a-millisecond")
def _request(runs: Runs) -> Evidence:
    """Milliseconds of the median request on MovieLens 1M, the slowest of the four models.

    One core, batch 1, random weights, the last 200 items of a history at most, programs compiled for serving: the
    upper end of the 95 % interval of each model's median lies below 1 ms."""
    timings = Timings.newest(runs, FILMS)
    medians = [timings.median(model, "served") for model in PLAIN]
    worst, high = max(medians, key=lambda own: own.estimate), max(own.high for own in medians) / 1e3
    units = len(timings.units("sasrec", "served"))
    ids = (timings.record.run_id,)
    return Evidence(high < 1, worst.estimate / 1e3, worst.low / 1e3, high, units, ids, "processes")


def _growth(kind: str, path: str, runs: Runs) -> pd.DataFrame:
    """Milliseconds by length: of a whole history ("length") or of one more event ("event")."""
    frame = growth(Scaling.newest(runs, FILMS), kind, path).rename(columns={"size": "items"})
    return frame[["model", "items", "ms", "low", "high"]]


for _kind, _path in (("length", BEST), ("event", "step")):
    figure(
        f"which-model-{_kind}",
        "lines",
        series="model",
        x="items",
        y="ms",
        x_axis="Items in the history",
        y_axis="Milliseconds on one core; band: half of the rounds",
    )(partial(_growth, _kind, _path))


def _query_seconds(model: str, runs: Runs) -> float:
    """Seconds of one request at the paper's size, the median over blocks."""
    for own in measured("query_latency", "datasets", "ml-100k", "contestants"):
        if (own["model"], own["path"]) == (model, "paper"):
            return float(np.median(own["block_milliseconds"])) / 1e3
    raise NotRun(f"query_latency of {model}")


for _model in ("gpt4rec", "mamrec"):
    value(f"query-seconds/{_model}")(partial(_query_seconds, _model))
