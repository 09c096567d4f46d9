"""The chapter on the order of time (book/orders.md): its figures, its values, and what its conclusions rest on.

A *tie* is two interactions of a user at one time; an order of time says which of them comes first. Users have the same
ids in every order, so that each user's metric in one order pairs with the same user's in another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from seqrec_lib.data.registry import DATASETS
from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import bootstrap_interval
from seqrec_lib.report import benchmarks, kit
from seqrec_lib.report.frames import ORDERS, TRUE_ORDER, NotRun, Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.paper import METRICS, model_name, paper_row
from seqrec_lib.report.published import ORDER_NAMES, REPORTED
from seqrec_lib.report.statements import (
    Evidence,
    Model,
    ahead,
    change_of_lead,
    difference,
    none_told_apart,
    statement,
)
from seqrec_lib.report.values import exhibit, value

if TYPE_CHECKING:
    import pandas as pd

TRUE, RECBOLE = "ml-1m", "ml-1m-recbole"
MODELS = ("popularity", "markov", "sasrec", "mamba4rec", "2mamba4rec", "hydra4rec")
BOTH = (TRUE_ORDER, ORDERS["-recbole"])


# How many users are concerned


def measured(*path: str) -> Any:
    """What `benchmarks.time_order` has on record under these keys.

    Raises:
        NotRun: nothing.
    """
    found: Any = benchmarks.read(benchmarks.FOLDER, "time_order")
    for name in path:
        if not found or name not in found:
            raise NotRun(f"time_order: {' '.join(path)}")
        found = found[name]
    return found


def moved(dataset: str, split: str) -> float:
    """Share of users whose item of a split ("test", "valid") is another one than in the true order."""
    spec = DATASETS[dataset]
    apart = measured("orders", str(spec.base), spec.order)
    return float(apart[split] / apart["users"])


@value("recbole/users")
def _asked(runs: Runs) -> int:
    """Users of MovieLens 1M whose test items RecBole itself was asked for, by its defaults."""
    return int(measured("recbole")[0]["differences"]["recbole"]["users"])


@value("recbole/equal")
def _equal(runs: Runs) -> int:
    """Those of them for whom RecBole's item is that of the study's rounded order."""
    apart = measured("recbole")[0]["differences"]["recbole"]
    return int(apart["users"] - apart["test"])


@value("sasrec-file/blob")
def _blob(runs: Runs) -> str:
    """The git blob of SASRec's file as rebuilt; it has to be the published one."""
    file = measured("sasrec_file")
    if file["blob"] != file["published"]:
        raise SeqRecError(f"SASRec's file was rebuilt as {file['blob']}, published is {file['published']}")
    return str(file["blob"])


def _moved(dataset: str, split: str) -> Callable[[Runs], float]:
    return lambda runs: moved(dataset, split)


for _collection in ("ml-1m", "ml-100k"):
    for _suffix in ORDERS:
        for _split in ("test", "valid"):
            value(f"moved/{_collection}{_suffix}/{_split}")(_moved(f"{_collection}{_suffix}", _split))


@exhibit("orders-moved")
def _moved_users(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    rows = []
    for suffix, order in ORDERS.items():
        facts: dict[str, Any] = {"order": order}
        for collection in ("ml-1m", "ml-100k"):
            for split in ("test", "valid"):
                try:
                    facts[f"{collection} {split}"] = moved(collection + suffix, split)
                except NotRun:
                    facts[f"{collection} {split}"] = None
        rows.append(facts)
    names = {"ml-1m": "MovieLens 1M", "ml-100k": "MovieLens 100K"}
    splits = {"test": "test", "valid": "validation"}
    columns = [kit.Column("order", "Order")]
    columns += [
        kit.Column(f"{collection} {split}", f"{name}, {word}", ".1%")
        for collection, name in names.items()
        for split, word in splits.items()
    ]
    return partial(kit.table, pd.DataFrame(rows), columns)


@statement(
    "recbole-moves-one-test-item-in-five",
    measures="share of users with another test item in RecBole's order than in the true one",
    orders=None,
    device=None,
    seeds=None,
)
def _one_in_five(runs: Runs) -> Evidence:
    """On MovieLens 1M the share lies between 18 and 22 %. It is counted, not estimated."""
    share = moved(RECBOLE, "test")
    return Evidence(0.18 <= share <= 0.22, share, None, None, int(runs.newest("datasets", TRUE).metrics["users"]), ())


@statement(
    "tie-rules-move-a-quarter-of-the-test-items",
    measures="share of users with another test item than in the true order, ties by item id",
    orders=None,
    device=None,
    seeds=None,
)
def _a_quarter(runs: Runs) -> Evidence:
    """On MovieLens 1M the shares for ties by item id and for ties at random, with three seeds, all lie between 23 and
    28 %. They are counted, not estimated."""
    rules = [suffix for suffix in ORDERS if suffix.startswith("-ties")]
    shares = {suffix: moved(TRUE + suffix, "test") for suffix in rules}
    held = all(0.23 <= share <= 0.28 for share in shares.values())
    users = int(runs.newest("datasets", TRUE).metrics["users"])
    return Evidence(held, shares["-ties-item-id"], min(shares.values()), max(shares.values()), users, ())


# The figure of one evening

LETTERS = "ABCDEFG"
BREAK = 8 * 3600  # seconds between two evenings
RATED_AFTER = np.array([0, 0, 24, 24, 118, 140, 140])  # seconds: somebody goes through a list and rates what they know


def unstable_keys(n: int) -> np.ndarray:
    """Numbers by which n rows of a file come out of an unstable sort where they are tied: (n,)."""
    return np.random.default_rng(0).random(n)


@lru_cache
def evening() -> pd.DataFrame:
    """One simulated user's last evening in four orders: a row for each order and place, with the film's letter.

    User and films are the simulator's. It enters an evening's films at one moment; here they are rated within
    minutes, and stand in the file in another order than that of time, as in MovieLens. Taken is the first user with
    seven films whose first three orders end with three different films."""
    import pandas as pd

    from seqrec_lib.data.simulate import simulate

    data = simulate()
    starts = np.flatnonzero(np.diff(data.users, prepend=-1))
    for user, (start, stop) in enumerate(zip(starts, [*starts[1:], len(data.users)], strict=True)):
        entered = data.timestamps[start:stop]
        late = np.flatnonzero(np.diff(entered, prepend=entered[0] - BREAK - 1) > BREAK)[-1]
        if len(entered) - late != len(RATED_AFTER):
            continue
        rows = np.random.default_rng(user).permutation(len(RATED_AFTER))
        films, times = data.items[start:stop][late:][rows], entered[late] + RATED_AFTER[rows]
        orders = {
            "True order: by time, ties as in the file": np.lexsort((times,)),
            "RecBole: by rounded time, ties as in the file": np.lexsort((times.astype(np.float32),)),
            "LRURec: by time, ties by the film's number": np.lexsort((films, times)),
            "HSTU: by time, ties as the sort leaves them": np.lexsort((unstable_keys(len(rows)), times)),
        }
        if len({int(order[-1]) for order in list(orders.values())[:3]}) < 3:
            continue
        first, *_ = orders.values()
        letters = dict(zip(films[first], LETTERS, strict=True))
        return pd.DataFrame(
            {
                "order": title,
                "place": place,
                "letter": letters[films[row]],
                "film": data.titles[int(films[row])],
                "number": int(films[row]),
                "row of the file": int(row) + 1,
                "seconds": int(times[row] - times.min()),
                "tied as": int((times.astype(np.float32) if "RecBole" in title else times)[row]),
                "test item": place == len(rows),
            }
            for title, order in orders.items()
            for place, row in enumerate(order, 1)
        )
    raise AssertionError("no simulated user has such an evening")


@exhibit("orders-evening")
def _evening(runs: Runs) -> Callable[..., Html]:
    return partial(kit.figure, evening(), "lanes", lane="order", name="letter", tie="tied as", last="test item")


@exhibit("orders-films")
def _films(runs: Runs) -> Callable[..., Html]:
    frame = evening()
    first = frame[frame["order"] == frame["order"].iloc[0]].sort_values("row of the file")
    columns = [
        kit.Column("row of the file", "Row of the file", "d"),
        kit.Column("letter", "Letter"),
        kit.Column("number", "Film's number", "d"),
        kit.Column("seconds", "Seconds since the first", ",d"),
    ]
    return partial(kit.table, first, columns)


# Quality by order


def quality(runs: Runs, collection: str, metric: str, models: tuple[str, ...] = MODELS) -> pd.DataFrame:
    """For each model and order: mean of a metric over seeds, its interval over users; None where it was not run.
    Orders that no model was run on are left out, but for RecBole's."""
    import pandas as pd

    accuracy = {record.dataset["name"] for record in runs.records("accuracy")}
    run = [suffix for suffix in ORDERS if collection + suffix in accuracy]
    rows: list[dict[str, Any]] = []
    for model in models:
        for suffix, order in {"": TRUE_ORDER, **ORDERS}.items():
            if suffix not in run and suffix not in {"", "-recbole"}:
                continue
            facts: dict[str, Any] = {"model": model_name(model), "order": order.partition(" (")[0]}
            try:
                found = bootstrap_interval(runs.users(collection + suffix, model, metric))
                seeds = len(runs.seeds(collection + suffix, model))
                facts |= {"mean": found.estimate, "low": found.low, "high": found.high, "seeds": seeds}
            except NotRun:
                facts |= dict.fromkeys(("mean", "low", "high", "seeds"))
            rows.append(facts)
    return pd.DataFrame(rows)


def _quality(collection: str, metric: str) -> Callable[[Runs], Callable[..., Html]]:
    axis = f"{metric.partition('@')[0].upper()}@10"
    options = {
        "group": "model",
        "label": "order",
        "series": "order",
        "value": "mean",
        "axis": f"{axis}, with 95 % interval over users",
    }
    return lambda runs: partial(kit.figure, quality(runs, collection, metric), "dots", **options)


exhibit("orders-quality-ml-1m")(_quality("ml-1m", "ndcg@10"))
exhibit("orders-quality-ml-100k")(_quality("ml-100k", "ndcg@10"))


# RecBole's order beside the paper's rows


def beside_paper(runs: Runs, metrics: tuple[str, ...] = METRICS) -> pd.DataFrame:
    """The paper's rows on MovieLens 1M, ours on both orders: one row for each model, metric and source."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for model in ("sasrec", "mamba4rec", "2mamba4rec", "hydra4rec"):
        printed = paper_row("ml-1m", model)
        for metric in metrics:
            facts = {"model": model_name(model), "metric": metric.upper()}
            number = printed.metric(metric) if printed else None
            rows.append(facts | {"source": "the paper", "value": number.value if number else None})
            for dataset, source in ((RECBOLE, "RecBole's order"), (TRUE, "true order")):
                try:
                    found = bootstrap_interval(runs.users(dataset, model, metric))
                    mine: dict[str, Any] = {"value": found.estimate, "low": found.low, "high": found.high}
                except NotRun:
                    mine = {"value": None}
                rows.append(facts | {"source": source} | mine)
    return pd.DataFrame(rows, columns=["model", "metric", "source", "value", "low", "high"])


@exhibit("paper-and-orders")
def _paper_and_orders(runs: Runs) -> Callable[..., Html]:
    return partial(
        kit.figure, beside_paper(runs, ("ht@10",)), "dots", group="model", label="source", series="source",
        value="value",
        axis="HT@10, ours with 95 % interval over users", hollow=("the paper",),
    )  # fmt: skip


@exhibit("orders-verdicts")
def _verdicts(runs: Runs) -> Callable[..., Html]:
    frame = beside_paper(runs)
    wide = frame.pivot(index=["model", "metric"], columns="source")
    flat = wide.copy()
    flat.columns = [f"{source}, {part}" for part, source in wide.columns]
    flat = flat.reindex(list(dict.fromkeys(zip(frame["model"], frame["metric"], strict=True)))).reset_index()
    columns = [kit.Column("model", "Model"), kit.Column("metric", "Metric"), kit.Column("the paper, value", "Paper")]
    for source, title in (("RecBole's order", "Ours, RecBole's order"), ("true order", "Ours, true order")):
        columns.append(kit.Column(f"{source}, value", title, interval=(f"{source}, low", f"{source}, high")))
    return partial(kit.table, flat, columns)


@exhibit("orders-published")
def _published(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    rows = [
        {
            "source": row.source[0],
            "model": row.model,
            "order": ORDER_NAMES[row.order],
            "seen": "left out" if row.masked else "ranked",
            "ht": row.ht,
            "ndcg": row.ndcg or "–",
        }
        for row in REPORTED["ml-1m"]
    ]
    titles = {
        "source": "Source",
        "model": "Model",
        "order": "Order",
        "seen": "Seen items",
        "ht": "HT@10",
        "ndcg": "NDCG@10",
    }
    frame = pd.DataFrame(rows).sort_values(["order", "seen", "ht"])
    return partial(kit.table, frame, [kit.Column(key, title) for key, title in titles.items()])


# What the conclusions rest on


@statement(
    "true-order-mamba4rec-ahead-of-sasrec",
    measures="NDCG@10, Mamba4Rec minus SASRec",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=(0, 1, 2),
)
def _true_lead(runs: Runs) -> Evidence:
    """Seen items ranked; difference paired by user, each user's mean over the seeds; held where the whole 95 % interval
    lies above 0."""
    return ahead(runs, (TRUE, "mamba4rec"), (TRUE, "sasrec"), "ndcg@10")


def _printed_range(model: str, metric: str) -> tuple[float, float]:
    row = paper_row("ml-1m", model)
    printed = row.metric(metric) if row else None
    assert printed is not None, (model, metric)
    return printed.range(0.5)


def _every_metric(runs: Runs, model: Model, held: Callable[[float, float, tuple[float, float]], bool]) -> Evidence:
    """Held where ``held`` (low, high, the paper's range) is true of all three metrics; the estimate is that of
    HT@10."""
    users = [runs.users(*model, metric) for metric in METRICS]
    found = [bootstrap_interval(values) for values in users]
    paper = [_printed_range(model[1], metric) for metric in METRICS]
    answers = [held(own.low, own.high, printed) for own, printed in zip(found, paper, strict=True)]
    first = found[0]
    return Evidence(all(answers), first.estimate, first.low, first.high, len(users[0]), runs.ids([model]))


ONE_SEED: dict[str, Any] = {"orders": [ORDERS["-recbole"]], "device": "cpu", "seeds": (0,)}


@statement("recbole-order-mamba4rec-as-printed", measures="HT@10 of Mamba4Rec", **ONE_SEED)
def _mamba(runs: Runs) -> Evidence:
    """For HT@10, NDCG@10 and MRR@10 alike, our 95 % interval over users and the numbers that round to the paper's
    have a point in common."""
    return _every_metric(runs, (RECBOLE, "mamba4rec"), lambda low, high, paper: low <= paper[1] and high >= paper[0])


@statement("recbole-order-sasrec-above-print", measures="HT@10 of SASRec", **ONE_SEED)
def _sasrec(runs: Runs) -> Evidence:
    """For each of the three metrics, our whole 95 % interval over users lies above what rounds to the paper's
    number."""
    return _every_metric(runs, (RECBOLE, "sasrec"), lambda low, _, paper: low > paper[1])


@statement("recbole-order-2mamba4rec-below-print", measures="HT@10 of 2Mamba4Rec", **ONE_SEED)
def _2mamba(runs: Runs) -> Evidence:
    """For each of the three metrics, our whole 95 % interval over users lies below what rounds to the paper's
    number."""
    return _every_metric(runs, (RECBOLE, "2mamba4rec"), lambda _, high, paper: high < paper[0])


@statement(
    "recbole-order-three-models-not-told-apart",
    measures="NDCG@10, the largest difference of two of SASRec, Mamba4Rec and 2Mamba4Rec",
    **ONE_SEED,
)
def _three(runs: Runs) -> Evidence:
    """Paired by user; none of the three pairs has p below 0.05 after Holm's correction."""
    return none_told_apart(runs, [(RECBOLE, model) for model in ("sasrec", "mamba4rec", "2mamba4rec")], "ndcg@10")


@statement("recbole-order-hydra4rec-a-little-below-print", measures="HT@10 of Hydra4Rec", **ONE_SEED)
def _hydra(runs: Runs) -> Evidence:
    """Our 95 % interval over users lies below what rounds to the paper's number for HT@10 and NDCG@10, by less than a
    twentieth of that number; for MRR@10 the two have a point in common. The estimate is that of HT@10."""
    users = [runs.users(RECBOLE, "hydra4rec", metric) for metric in METRICS]
    found = [bootstrap_interval(values) for values in users]
    paper = [_printed_range("hydra4rec", metric) for metric in METRICS]
    below = [printed[0] * 0.95 < own.high < printed[0] for own, printed in zip(found, paper, strict=True)]
    held = below == [True, True, False] and found[2].high >= paper[2][0]
    first = found[0]
    return Evidence(held, first.estimate, first.low, first.high, len(users[0]), runs.ids([(RECBOLE, "hydra4rec")]))


@statement(
    "at-seed-0-the-lead-is-larger-in-the-true-order",
    measures="NDCG@10, (Mamba4Rec minus SASRec) in the true order minus the same in RecBole's",
    orders=BOTH,
    device="cpu",
    seeds=(0,),
)
def _lead(runs: Runs) -> Evidence:
    """Paired by user, one seed; held where the 95 % interval lies above 0."""
    first, second = (((name, "mamba4rec"), (name, "sasrec")) for name in (TRUE, RECBOLE))
    return change_of_lead(runs, first, second, "ndcg@10")


@statement(
    "every-model-scores-higher-in-recboles-order",
    measures="NDCG@10, the least gain of five models in RecBole's order",
    orders=BOTH,
    device="cpu",
    seeds=(0,),
)
def _higher(runs: Runs) -> Evidence:
    """NDCG@10 of Markov, SASRec, Mamba4Rec, 2Mamba4Rec and Hydra4Rec in RecBole's order minus the model's own in the
    true order, paired by user: each of the five 95 % intervals lies above 0. The estimate is the least of the five."""
    gains = [
        difference(runs, (RECBOLE, model), (TRUE, model), "ndcg@10", lambda _, low, __: low > 0)
        for model in ("markov", "sasrec", "mamba4rec", "2mamba4rec", "hydra4rec")
    ]
    least = min(gains, key=lambda gain: gain.estimate)
    ids = tuple(run_id for gain in gains for run_id in gain.run_ids)
    return Evidence(all(gain.held for gain in gains), least.estimate, least.low, least.high, least.n, ids)


@statement(
    "the-file-alone-predicts-more-than-the-true-order",
    measures="HT@10 of a first-order Markov count, order of the file minus true order",
    orders=[TRUE_ORDER, ORDERS["-file-order"]],
    device=None,
    seeds=None,
)
def _file(runs: Runs) -> Evidence:
    """Paired by user; held where the gain is above 0.2."""
    pair = ((TRUE + "-file-order", "markov"), (TRUE, "markov"))
    return difference(runs, *pair, "ht@10", lambda estimate, _, __: estimate > 0.2)


@statement(
    "masking-gives-most-of-the-repeat-bias",
    measures="NDCG@10 of SASRec with a repeat bias, minus SASRec with seen items left out",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=(0, 1),
)
def _mask(runs: Runs) -> Evidence:
    """With a, b and c for SASRec's NDCG@10 among all items, with seen items left out, and with a repeat bias among all
    items: b - a is at least four fifths of c - a. The estimate is c - b, paired by user."""
    plain, masked = (runs.users(TRUE, "sasrec", metric) for metric in ("ndcg@10", "masked_ndcg@10"))
    biased = runs.users(TRUE, "sasrec+repeats", "ndcg@10")
    rest = bootstrap_interval(biased - masked)
    share = float((masked - plain).mean() / (biased - plain).mean())
    ids = runs.ids([(TRUE, "sasrec"), (TRUE, "sasrec+repeats")])
    return Evidence(share >= 0.8, rest.estimate, rest.low, rest.high, len(plain), ids)


@statement(
    "models-rank-alike-in-both-orders",
    measures="Kendall's tau between the rankings of six models by NDCG@10 in the two orders",
    orders=BOTH,
    device="cpu",
    seeds=(0,),
)
def _tau(runs: Runs) -> Evidence:
    """Popularity, Markov, SASRec, Mamba4Rec, 2Mamba4Rec and Hydra4Rec. Held where tau is at least 0.5. The interval
    is the middle 95 % of 2,000 draws of users, the same users for both orders."""
    from scipy.stats import kendalltau

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
