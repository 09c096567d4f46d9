"""The chapter on the order of time (book/orders.md): its figures, its values, and what its conclusions rest on.

A *tie* is two interactions of a user at one time; an order of time says which of them comes first. Users have the same
ids in every order, so that each user's metric in one order pairs with the same user's in another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from seqrec_lib.data.registry import DATASETS
from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import bootstrap_interval
from seqrec_lib.report import kit
from seqrec_lib.report.benchmarks import measured
from seqrec_lib.report.frames import ORDERS, TRUE_ORDER, Runs, Scope
from seqrec_lib.report.html import Html
from seqrec_lib.report.paper import METRICS, Printed, Verdict, model_name, paper_number, verdict
from seqrec_lib.report.published import reported
from seqrec_lib.report.statements import (
    Evidence,
    ahead,
    change_of_lead,
    difference,
    least,
    none_told_apart,
    over_users,
    statement,
)
from seqrec_lib.report.values import exhibit, value

TRUE, RECBOLE = "ml-1m", "ml-1m-recbole"
PRINTED = ("sasrec", "mamba4rec", "2mamba4rec", "hydra4rec")  # the models that the paper has, too
MODELS = ("popularity", "markov", *PRINTED)
BOTH = (TRUE_ORDER, ORDERS["-recbole"])


# How many users are concerned


def moved(dataset: str, split: str) -> float:
    """Share of users whose item of a split ("test", "valid") is another one than in the true order."""
    spec = DATASETS[dataset]
    apart = measured("time_order", "orders", str(spec.base), spec.order)
    return float(apart[split] / apart["users"])


def _asked(key: str) -> int:
    """Of MovieLens 1M: "users" whose test items RecBole itself was asked for, by its defaults, and those for whom its
    "test" item is another one than in the study's rounded order."""
    return int(measured("time_order", "recbole")[0]["differences"]["recbole"][key])


value("recbole/users")(lambda runs: _asked("users"))
value("recbole/equal")(lambda runs: _asked("users") - _asked("test"))


@value("sasrec-file/blob")
def _blob(runs: Runs) -> str:
    """The git blob of SASRec's file as rebuilt; it has to be the published one."""
    file = measured("time_order", "sasrec_file")
    if file["blob"] != file["published"]:
        raise SeqRecError(f"SASRec's file was rebuilt as {file['blob']}, published is {file['published']}")
    return str(file["blob"])


@exhibit("orders-moved")
def _moved_users(runs: Runs) -> Callable[..., Html]:
    names = {"ml-1m": "MovieLens 1M", "ml-100k": "MovieLens 100K"}
    splits = {"test": "test", "valid": "validation"}
    columns, frame = [kit.Column("order", "Order")], pd.DataFrame({"order": ORDERS.values()})
    for (collection, name), (split, word) in itertools.product(names.items(), splits.items()):
        key = f"{collection} {split}"
        columns.append(kit.Column(key, f"{name}, {word}", ".1%"))
        frame[key] = [moved(collection + suffix, split) for suffix in ORDERS]
    return partial(kit.table, frame, columns)


@statement("recbole-moves-one-test-item-in-five", orders=None, device=None)
def _one_in_five(runs: Runs) -> Evidence:
    """Share of users with another test item in RecBole's order than in the true one.

    On MovieLens 1M the share lies between 18 and 22 %. It is counted, not estimated."""
    share = moved(RECBOLE, "test")
    return Evidence(0.18 <= share <= 0.22, share, None, None, int(runs.newest("datasets", TRUE).metrics["users"]), ())


@statement("tie-rules-move-a-quarter-of-the-test-items", orders=None, device=None)
def _a_quarter(runs: Runs) -> Evidence:
    """Share of users with another test item than in the true order, ties by item id.

    On MovieLens 1M the shares for ties by item id and for ties at random, with three seeds, all lie between 23 and
    28 %. They are counted, not estimated."""
    rules = [suffix for suffix in ORDERS if suffix.startswith("-ties")]
    shares = {suffix: moved(TRUE + suffix, "test") for suffix in rules}
    held = all(0.23 <= share <= 0.28 for share in shares.values())
    users = int(runs.newest("datasets", TRUE).metrics["users"])
    return Evidence(held, shares["-ties-item-id"], min(shares.values()), max(shares.values()), users, ())


# Quality by order


@exhibit("orders-quality-ml-1m")
def _quality(runs: Runs) -> Callable[..., Html]:
    """NDCG@10 of each model in each order that it was run in: mean over seeds, interval over users."""
    rows = [
        (model_name(model), order.partition(" (")[0], found.estimate, found.low, found.high)
        for model in MODELS
        for suffix, order in {"": TRUE_ORDER, **ORDERS}.items()
        if not np.isnan((found := runs.interval(TRUE + suffix, model, "ndcg@10")).estimate)
    ]
    frame = pd.DataFrame(rows, columns=["model", "order", "mean", "low", "high"])
    keys = {"group": "model", "label": "order", "series": "order", "value": "mean"}
    return partial(kit.figure, frame, "dots", axis="NDCG@10, with 95 % interval over users", **keys)


# RecBole's order beside the paper's rows


def beside_paper(runs: Runs, metrics: Sequence[str] = METRICS) -> pd.DataFrame:
    """The paper's rows on MovieLens 1M, ours on both orders: one row for each model, metric and source."""
    rows = []
    for model, metric in itertools.product(PRINTED, metrics):
        about = (model_name(model), metric.upper())
        rows.append((*about, "the paper", _printed(model, metric).value, np.nan, np.nan))
        for dataset, source in ((RECBOLE, "RecBole's order"), (TRUE, "true order")):
            found = runs.interval(dataset, model, metric)
            rows.append((*about, source, found.estimate, found.low, found.high))
    return pd.DataFrame(rows, columns=["model", "metric", "source", "value", "low", "high"])


def _printed(model: str, metric: str) -> Printed:
    printed = paper_number("ml-1m", model, metric)
    assert printed is not None, (model, metric)
    return printed


@exhibit("paper-and-orders")
def _paper_and_orders(runs: Runs) -> Callable[..., Html]:
    keys: dict[str, Any] = {"group": "model", "label": "source", "series": "source", "value": "value"}
    axis = "HT@10, ours with 95 % interval over users"
    return partial(kit.figure, beside_paper(runs, ["ht@10"]), "dots", axis=axis, hollow=["the paper"], **keys)


@exhibit("orders-verdicts")
def _verdicts(runs: Runs) -> Callable[..., Html]:
    frame = beside_paper(runs)
    wide = frame.pivot(index=["model", "metric"], columns="source")
    wide.columns = [f"{source}, {part}" for part, source in wide.columns]
    wide = wide.reindex(list(dict.fromkeys(zip(frame["model"], frame["metric"], strict=True)))).reset_index()
    columns = [kit.Column("model", "Model"), kit.Column("metric", "Metric"), kit.Column("the paper, value", "Paper")]
    for source, title in (("RecBole's order", "Ours, RecBole's order"), ("true order", "Ours, true order")):
        columns.append(kit.Column(f"{source}, value", title, interval=(f"{source}, low", f"{source}, high")))
    return partial(kit.table, wide, columns)


@exhibit("orders-published")
def _published(runs: Runs) -> Callable[..., Html]:
    titles = {"source": "Source", "model": "Model", "order": "Order", "seen": "Seen items"}
    columns = [kit.Column(key, title) for key, title in titles.items()]
    columns += [kit.Column("ht", "HT@10", ".4f"), kit.Column("ndcg", "NDCG@10", ".4f", missing="–")]
    return partial(kit.table, reported("ml-1m").sort_values(["order", "seen", "ht"]), columns)


# What the conclusions rest on


@statement("true-order-mamba4rec-ahead-of-sasrec", seeds=(0, 1, 2))
def _true_lead(runs: Runs) -> Evidence:
    """NDCG@10, Mamba4Rec minus SASRec.

    Seen items ranked; difference paired by user, each user's mean over the seeds; held where the whole 95 %
    interval lies above 0."""
    return ahead(runs, (TRUE, "mamba4rec"), (TRUE, "sasrec"), "ndcg@10")


def _beside_print(runs: Runs, model: str, words: Sequence[Verdict]) -> Evidence:
    """Held where `paper.verdict` says these words of HT@10, NDCG@10 and MRR@10; the estimate is that of HT@10."""
    users = [runs.users(RECBOLE, model, metric) for metric in METRICS]
    found = [bootstrap_interval(values) for values in users]
    said = [verdict(_printed(model, m), own.estimate, own) for m, own in zip(METRICS, found, strict=True)]
    return Evidence.of(said == [*words], found[0], len(users[0]), runs.ids([(RECBOLE, model)]))


@statement("recbole-order-mamba4rec-as-printed", orders=(ORDERS["-recbole"],), seeds=(0, 1, 2))
def _mamba(runs: Runs) -> Evidence:
    """HT@10 of Mamba4Rec.

    For HT@10, NDCG@10 and MRR@10 alike, our 95 % interval over users and the numbers that round to the paper's have a
    point in common."""
    return _beside_print(runs, "mamba4rec", ["matches"] * 3)


@statement("recbole-order-sasrec-above-print", orders=(ORDERS["-recbole"],), seeds=(0, 1, 2))
def _sasrec(runs: Runs) -> Evidence:
    """HT@10 of SASRec.

    For each of the three metrics, our whole 95 % interval over users lies above what rounds to the paper's number."""
    return _beside_print(runs, "sasrec", ["ours higher"] * 3)


@statement("recbole-order-2mamba4rec-below-print", orders=(ORDERS["-recbole"],), seeds=(0,))
def _2mamba(runs: Runs) -> Evidence:
    """HT@10 of 2Mamba4Rec.

    For each of the three metrics, our whole 95 % interval over users lies below what rounds to the paper's number."""
    return _beside_print(runs, "2mamba4rec", ["ours lower"] * 3)


@statement("recbole-order-three-models-not-told-apart", orders=(ORDERS["-recbole"],), seeds=(0,))
def _three(runs: Runs) -> Evidence:
    """NDCG@10, the largest difference of two of SASRec, Mamba4Rec and 2Mamba4Rec.

    Paired by user; none of the three pairs has p below 0.05 after Holm's correction."""
    return none_told_apart(runs, [(RECBOLE, model) for model in ("sasrec", "mamba4rec", "2mamba4rec")], "ndcg@10")


@statement("recbole-order-hydra4rec-a-little-below-print", orders=(ORDERS["-recbole"],), seeds=(0,))
def _hydra(runs: Runs) -> Evidence:
    """HT@10 of Hydra4Rec.

    Our 95 % interval over users lies below what rounds to the paper's number for HT@10 and NDCG@10, by less than a
    twentieth of that number; for MRR@10 the two have a point in common. The estimate is that of HT@10."""
    found = _beside_print(runs, "hydra4rec", ["ours lower", "ours lower", "matches"])
    near = [
        runs.interval(RECBOLE, "hydra4rec", metric).high > 0.95 * _printed("hydra4rec", metric).range()[0]
        for metric in METRICS
    ]
    return replace(found, held=found.held and all(near))


@statement("the-lead-is-larger-in-the-true-order", orders=BOTH, seeds=(0, 1, 2))
def _lead(runs: Runs) -> Evidence:
    """NDCG@10, (Mamba4Rec minus SASRec) in the true order minus the same in RecBole's.

    Paired by user, each user's mean over three seeds; held where the 95 % interval lies above 0."""
    first, second = (((name, "mamba4rec"), (name, "sasrec")) for name in (TRUE, RECBOLE))
    return change_of_lead(runs, first, second, "ndcg@10")


def _recbole_lead(seed: int, runs: Runs) -> float:
    """NDCG@10 of Mamba4Rec minus SASRec's in RecBole's order, at one seed."""
    mine = runs.within(Scope(orders=(ORDERS["-recbole"],), device="cpu", seeds=(seed,)))
    return mine.mean(RECBOLE, "mamba4rec", "ndcg@10") - mine.mean(RECBOLE, "sasrec", "ndcg@10")


for _seed in (0, 1, 2):
    value(f"recbole-lead/{_seed}")(partial(_recbole_lead, _seed))


@statement("every-model-scores-higher-in-recboles-order", orders=BOTH, seeds=(0,))
def _higher(runs: Runs) -> Evidence:
    """NDCG@10, the least gain of five models in RecBole's order.

    NDCG@10 of Markov, SASRec, Mamba4Rec, 2Mamba4Rec and Hydra4Rec in RecBole's order minus the model's own in the
    true order, paired by user: each of the five 95 % intervals lies above 0. The estimate is the least of the five."""
    return least([ahead(runs, (RECBOLE, model), (TRUE, model), "ndcg@10") for model in MODELS[1:]])


@statement("the-file-alone-predicts-more-than-the-true-order", orders=(TRUE_ORDER, ORDERS["-file-order"]), device=None)
def _file(runs: Runs) -> Evidence:
    """HT@10 of a first-order Markov count, order of the file minus true order.

    Paired by user; held where the gain is above 0.2."""
    pair = ((TRUE + "-file-order", "markov"), (TRUE, "markov"))
    return difference(runs, *pair, "ht@10", lambda gain: gain.estimate > 0.2)


@statement("masking-gives-most-of-the-repeat-bias", seeds=(0, 1))
def _mask(runs: Runs) -> Evidence:
    """NDCG@10 of SASRec with a repeat bias, minus SASRec with seen items left out.

    With a, b and c for SASRec's NDCG@10 among all items, with seen items left out, and with a repeat bias among all
    items: b - a is at least four fifths of c - a. The estimate is c - b, paired by user."""
    plain, masked = (runs.users(TRUE, "sasrec", metric) for metric in ("ndcg@10", "masked_ndcg@10"))
    biased = runs.users(TRUE, "sasrec+repeats", "ndcg@10")
    share = float((masked - plain).mean() / (biased - plain).mean())
    ids = runs.ids([(TRUE, "sasrec"), (TRUE, "sasrec+repeats")])
    return over_users(biased - masked, ids, lambda rest: share >= 0.8)


@statement("models-rank-alike-in-both-orders", orders=BOTH, seeds=(0,))
def _tau(runs: Runs) -> Evidence:
    """Kendall's tau between the rankings of six models by NDCG@10 in the two orders.

    Popularity, Markov, SASRec, Mamba4Rec, 2Mamba4Rec and Hydra4Rec. Held where tau is at least 0.5. The interval is
    the middle 95 % of 2,000 draws of users, the same users for both orders."""
    users = [np.stack([runs.users(name, model, "ndcg@10") for model in MODELS]) for name in (TRUE, RECBOLE)]
    n = users[0].shape[1]
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(2_000):
        weights = np.bincount(rng.integers(n, size=n), minlength=n)
        draws.append(kendalltau(*(values @ weights for values in users)).statistic)
    tau = float(kendalltau(*(values.mean(axis=1) for values in users)).statistic)
    low, high = (float(end) for end in np.quantile(draws, (0.025, 0.975)))
    ids = runs.ids([(name, model) for name in (TRUE, RECBOLE) for model in MODELS])
    return Evidence(tau >= 0.5, tau, low, high, n, ids)
