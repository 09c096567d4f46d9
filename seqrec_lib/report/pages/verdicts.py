"""The verdicts (book/verdicts.md): what each word on a claim of the paper rests on.

Many statements ask one question of several data sets; then the estimate is the least or the greatest, as said, and the
table in the chapter has them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from seqrec_lib.evaluate.statistics import Interval, average_over_seeds, bootstrap_interval, metric_values
from seqrec_lib.report import benchmarks, kit
from seqrec_lib.report.claims import SSM
from seqrec_lib.report.frames import TRUE_ORDER, NotRun, Runs
from seqrec_lib.report.html import Html
from seqrec_lib.report.optimizers import beta_fits
from seqrec_lib.report.pages.findings import ADAM, SEEDS, gaps_of, over_seeds, trained
from seqrec_lib.report.paper import dataset_name, model_name
from seqrec_lib.report.statements import Evidence, difference, statement
from seqrec_lib.report.timings import Timings
from seqrec_lib.report.values import exhibit
from seqrec_lib.results import RunRecord

if TYPE_CHECKING:
    pass

FILMS, SHOPS = ("ml-1m", "ml-100k"), ("amazon-2014-beauty", "amazon-2018-video-games")
CPU: dict[str, Any] = {"orders": [TRUE_ORDER], "device": "cpu", "seeds": None}
METRIC = "ndcg@10"


# Speed


def _timings(runs: Runs, dataset: str) -> Timings:
    read = Timings.read(runs.newest("latency", dataset), runs.store)
    assert read is not None
    return read


def _ratio(timings: Timings, slow: str, fast: str, path: str) -> Interval:
    found = timings.ratio((slow, path), (fast, path))
    if found is None or found.low is None or found.high is None:
        raise NotRun(f"latency of {slow} and {fast}, {path}")
    return found


def _ratios(runs: Runs, datasets: Sequence[str], path: str) -> tuple[list[Interval], tuple[str, ...], int]:
    """SASRec in units of each state space model on each data set; the runs' ids; units of the interval."""
    read = [_timings(runs, dataset) for dataset in datasets]
    found = [_ratio(timings, "sasrec", model, path) for timings in read for model in SSM]
    return found, tuple(timings.record.run_id for timings in read), len(read[0].units("sasrec", path))


@statement(
    "served-state-space-models-faster-on-films",
    measures="SASRec's time in units of a state space model's, compiled for serving, the least of six",
    **CPU,
)
def _faster(runs: Runs) -> Evidence:
    """MovieLens 1M and 100K, every model reads at most 200 items, batch 1, one core: the 95 % interval of each of the
    six ratios lies above 2."""
    found, ids, units = _ratios(runs, FILMS, "served")
    least = min(found, key=lambda ratio: ratio.estimate)
    held = all(own.low is not None and own.low > 2 for own in found)
    return Evidence(held, least.estimate, least.low, least.high, units, ids, "processes")


@statement(
    "served-state-space-models-hardly-faster-on-shops",
    measures="SASRec's time in units of a state space model's, compiled for serving, the greatest of six",
    **CPU,
)
def _hardly(runs: Runs) -> Evidence:
    """Beauty and Video Games, where the median history has five or six items, batch 1, one core: each of the six ratios
    lies below 1.5."""
    found, ids, units = _ratios(runs, SHOPS, "served")
    most = max(found, key=lambda ratio: ratio.estimate)
    return Evidence(most.estimate < 1.5, most.estimate, most.low, most.high, units, ids, "processes")


@statement(
    "pytorch-state-space-models-slower",
    measures="SASRec's time in units of a state space model's, as PyTorch modules, the greatest of twelve",
    **CPU,
)
def _slower(runs: Runs) -> Evidence:
    """All four data sets, batch 1, one core: the 95 % interval of each of the twelve ratios lies below 1."""
    found, ids, units = _ratios(runs, (*FILMS, *SHOPS), "module")
    most = max(found, key=lambda ratio: ratio.estimate)
    held = all(own.high < 1 for own in found)
    return Evidence(held, most.estimate, most.low, most.high, units, ids, "processes")


@statement(
    "hydra-never-four-times-faster",
    measures="Mamba4Rec's time in units of Hydra4Rec's, the greatest of four data sets and two programs",
    **CPU,
)
def _hydra(runs: Runs) -> Evidence:
    """All four data sets, batch 1, one core, compiled for serving and as PyTorch modules: the upper end of each of the
    eight 95 % intervals lies below 3."""
    read = [_timings(runs, dataset) for dataset in (*FILMS, *SHOPS)]
    found = [_ratio(own, "mamba4rec", "hydra4rec", path) for own in read for path in ("served", "module")]
    most = max(found, key=lambda ratio: ratio.estimate)
    ids = tuple(own.record.run_id for own in read)
    held = all(own.high < 3 for own in found)
    return Evidence(held, most.estimate, most.low, most.high, len(read[0].units("sasrec", "served")), ids, "processes")


@exhibit("verdict-speed")
def _speed_table(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    rows = []
    for dataset in (*FILMS, *SHOPS):
        timings = _timings(runs, dataset)
        for model in SSM:
            facts: dict[str, Any] = {"data": dataset_name(dataset), "model": model_name(model)}
            for path in ("served", "module"):
                found = _ratio(timings, "sasrec", model, path)
                facts |= {path: found.estimate, f"{path} low": found.low, f"{path} high": found.high}
            rows.append(facts)
    columns = [kit.Column("data", "Data"), kit.Column("model", "SASRec's time over that of")]
    for path, title in (("served", "compiled for serving"), ("module", "PyTorch module")):
        columns.append(kit.Column(path, title, ".2f", (f"{path} low", f"{path} high")))
    return partial(kit.table, pd.DataFrame(rows), columns)


@statement(
    "language-models-five-times-slower",
    measures="the least time of one request to a language model, in units of the slowest state space model",
    orders=None,
    device=None,
    seeds=None,
)
def _language(runs: Runs) -> Evidence:
    """One core, random weights, MovieLens 1M and 100K, language models of the book's size, state space models
    compiled for serving. LlamaRec takes one pass; a model that writes queries is counted with the time of one of its
    steps, as a tuned one may stop early. The least ratio of medians over models and data sets lies above 5."""
    record = benchmarks.read(benchmarks.FOLDER, "query_latency")
    least, blocks = np.inf, 0
    for dataset in FILMS:
        own = (record or {}).get("datasets", {}).get(dataset)
        if own is None:
            raise NotRun(f"query_latency on {dataset}")
        times = {(one["model"], one["path"]): np.median(one["block_milliseconds"]) for one in own["contestants"]}
        slowest = max(time for (model, path), time in times.items() if model in SSM and path == "served")
        ranked = [time for (_, path), time in times.items() if path == "ranker"]
        written = [time / own["steps"] for (_, path), time in times.items() if path in ("free", "held")]
        least = min(least, min([*ranked, *written]) / slowest)
        blocks = len(own["contestants"][0]["block_milliseconds"])
    return Evidence(bool(least > 5), float(least), None, None, blocks, (), "blocks")


# Quality


def _mean_of(runs: Runs, dataset: str, metric: str) -> np.ndarray:
    """Each user's metric, averaged over the three state space models."""
    return average_over_seeds([runs.users(dataset, model, metric) for model in SSM])


@statement(
    "no-average-lead-of-state-space-models",
    measures="NDCG@10, mean of the three state space models minus SASRec, the greatest of eight",
    **CPU,
)
def _average(runs: Runs) -> Evidence:
    """MovieLens 1M and 100K, Beauty and Video Games, seen items ranked and left out, paired by user, published seeds:
    none of the eight 95 % intervals lies above 0."""
    found = []
    for dataset in (*FILMS, *SHOPS):
        for metric in (METRIC, f"masked_{METRIC}"):
            gap = _mean_of(runs, dataset, metric) - runs.users(dataset, "sasrec", metric)
            found.append((bootstrap_interval(gap), len(gap)))
    most, users = max(found, key=lambda own: own[0].estimate)
    ids = runs.ids([(dataset, model) for dataset in (*FILMS, *SHOPS) for model in ("sasrec", *SSM)])
    return Evidence(all(own.low <= 0 for own, _ in found), most.estimate, most.low, most.high, users, ids)


@exhibit("verdict-quality")
def _quality_table(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    rows = []
    for dataset in (*FILMS, *SHOPS):
        facts: dict[str, Any] = {"data": dataset_name(dataset), "seeds": len(runs.seeds(dataset, "sasrec"))}
        for metric in (METRIC, f"masked_{METRIC}"):
            found = bootstrap_interval(_mean_of(runs, dataset, metric) - runs.users(dataset, "sasrec", metric))
            facts |= {metric: found.estimate, f"{metric} low": found.low, f"{metric} high": found.high}
        rows.append(facts)
    columns = [kit.Column("data", "Data"), kit.Column("seeds", "Seeds", "d")]
    for metric, title in ((METRIC, "seen items ranked"), (f"masked_{METRIC}", "seen items left out")):
        columns.append(kit.Column(metric, title, "+.4f", (f"{metric} low", f"{metric} high")))
    return partial(kit.table, pd.DataFrame(rows), columns)


@statement(
    "the-public-initialisation-ranks-better-on-beauty",
    measures="NDCG@10 on Beauty 2014, 2Mamba4Rec with the public code's initialisation minus this study's",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=(0,),
)
def _public(runs: Runs) -> Evidence:
    """One seed, seen items ranked, paired by user; held where the 95 % interval lies above 0."""
    record = _public_run(runs)
    mine = runs.users(SHOPS[0], "2mamba4rec", METRIC)
    found = bootstrap_interval(_users(runs, record, METRIC) - mine)
    ids = (record.run_id, *runs.ids([(SHOPS[0], "2mamba4rec")]))
    return Evidence(found.low > 0, found.estimate, found.low, found.high, len(mine), ids)


@statement(
    "the-public-initialisation-leaves-sasrec-ahead-on-beauty",
    measures="NDCG@10 on Beauty 2014 with seen items left out, SASRec minus 2Mamba4Rec with the public initialisation",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=(0,),
)
def _still(runs: Runs) -> Evidence:
    """One seed, paired by user; held where the 95 % interval lies above 0."""
    record, metric = _public_run(runs), f"masked_{METRIC}"
    attention = runs.users(SHOPS[0], "sasrec", metric)
    found = bootstrap_interval(attention - _users(runs, record, metric))
    ids = (record.run_id, *runs.ids([(SHOPS[0], "sasrec")]))
    return Evidence(found.low > 0, found.estimate, found.low, found.high, len(attention), ids)


def _public_run(runs: Runs) -> RunRecord:
    for record in runs.records("accuracy"):
        architecture = record.config["architecture"]
        variant = architecture.get("initialisation") == "blanket" and architecture.get("n_layers") == 1
        if record.dataset["name"] == SHOPS[0] and record.config["model"] == "2mamba4rec" and variant:
            return record
    raise NotRun("2mamba4rec on amazon-2014-beauty with the public initialisation")


def _users(runs: Runs, record: RunRecord, metric: str) -> np.ndarray:
    column = "masked_rank" if metric.startswith("masked_") else "rank"
    return metric_values(runs.store.table(record, "ranks")[column].to_numpy(), metric.removeprefix("masked_"))


@statement(
    "films-hydra-a-little-behind-mamba",
    measures="NDCG@10 on MovieLens 1M, Mamba4Rec minus Hydra4Rec",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=(0, 1, 2),
)
def _behind(runs: Runs) -> Evidence:
    """Seen items ranked, paired by user, each user's mean over the seeds; held where the 95 % interval lies above 0 and
    below a twentieth of Mamba4Rec's NDCG@10."""
    twentieth = runs.mean(FILMS[0], "mamba4rec", METRIC) / 20
    pair = ((FILMS[0], "mamba4rec"), (FILMS[0], "hydra4rec"))
    return difference(runs, *pair, METRIC, lambda _, low, high: low > 0 and high < twentieth)


@statement(
    "shop-hydra-not-told-apart-from-mamba",
    measures="NDCG@10 on Beauty 2014, Hydra4Rec minus Mamba4Rec",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=SEEDS,
)
def _alike(runs: Runs) -> Evidence:
    """Seen items ranked, paired by user, each user's mean over the seeds; held where the 95 % interval contains 0."""
    pair = ((SHOPS[0], "hydra4rec"), (SHOPS[0], "mamba4rec"))
    return difference(runs, *pair, METRIC, lambda _, low, high: low <= 0 <= high)


# The optimizer

PAPERS = {"name": "usgm", "D": 100.0, "lr": 3.0}
RULE = {"rule": "paper", "lambda_": 2.0}


@statement(
    "adaptive-usgm-behind-tuned-adam",
    measures="best validation loss on MovieLens 100K, USGM with the paper's rule for the batch minus tuned Adam",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=SEEDS,
)
def _adaptive(runs: Runs) -> Evidence:
    """2Mamba4Rec, ten epochs, five seeds, Adam at a constant 0.003: USGM's loss is higher at each seed by 0.1 or
    more."""
    pair = trained(runs, PAPERS, batching=RULE), trained(runs, ADAM, 3e-3)
    gaps = gaps_of(*pair)
    return over_seeds(min(gaps) > 0.1, gaps, [*pair[0], *pair[1]])


@statement(
    "the-batch-fit-needs-steps-of-one-length",
    measures="R² of the fit over 1/sqrt(B) minus that over 1/B, for the steps that USGM takes",
    **CPU,
)
def _fit(runs: Runs) -> Evidence:
    """At one point of training on MovieLens 100K: for steps of one length the fit over 1/sqrt(B) is the better one, for
    the steps that the method takes the fit over 1/B is."""
    noisy = [record for record in runs.records("optimizers") if "noise" in record.tables]
    if not noisy:
        raise NotRun("optimizers, the measurement of beta")
    record = noisy[0]
    fits = beta_fits(runs.store.table(record, "noise"))
    gains = {step: fits[step, "1/sqrt(m)"].r2 - fits[step, "1/m"].r2 for step in ("real", "fixed")}
    held = gains["real"] < 0 < gains["fixed"]
    return Evidence(held, gains["real"], None, None, 1, (record.run_id,), "point of training")


@statement(
    "the-batch-rarely-reaches-its-plateau",
    measures="share of epochs at whose end the two terms of the paper's rule had met",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=SEEDS,
)
def _plateau(runs: Runs) -> Evidence:
    """Five runs on MovieLens 100K of ten epochs each: by the rule's own running fit, c1 is at least c2 / sqrt(B), and
    c2 above 0, at the end of less than half of the epochs, and of one or more."""
    met = []
    records = trained(runs, PAPERS, batching=RULE)
    for record in records:
        trace = runs.store.table(record, "trace").to_pandas()
        ends = trace.dropna(subset=["c1", "c2"]).groupby("epoch").tail(1)
        met += list((ends["c2"] > 0) & (ends["c1"] >= ends["c2"] / np.sqrt(ends["m"])))
    share = float(np.mean(met))
    ids = tuple(record.run_id for record in records)
    return Evidence(0 < share < 0.5, share, None, None, len(met), ids, "epochs")


@statement(
    "usgm-hangs-on-its-first-rate-and-not-on-d",
    measures="validation loss, worst minus best of USGM's first rate within a factor of ten",
    orders=[TRUE_ORDER],
    device="cpu",
    seeds=(0,),
)
def _robust(runs: Runs) -> Evidence:
    """Five epochs on MovieLens 100K, one seed. The loss ranges wider over USGM's first rate (0.1 to 10, D = 10) than
    over Adam's rate (0.001 to 0.1), and less over D (10 to 1,000, first rate 1)."""
    first = _spread(runs, [{"name": "usgm", "D": 10.0, "lr": rate} for rate in (0.1, 1.0, 10.0)])
    distance = _spread(runs, [{"name": "usgm", "D": far, "lr": 1.0} for far in (10.0, 100.0, 1000.0)])
    adam = _spread(runs, [ADAM] * 3, (1e-3, 1e-2, 1e-1))
    held = distance[0] < adam[0] < first[0]
    return Evidence(held, first[0], None, None, 9, (*first[1], *distance[1], *adam[1]), "runs")


def _spread(
    runs: Runs, optimizers: Sequence[Mapping[str, Any]], rates: Sequence[float] = (1e-3,) * 3
) -> tuple[float, tuple[str, ...]]:
    """Worst minus best validation loss of some settings, five epochs each, and the runs' ids."""
    records = [trained(runs, one, rate, epochs=5, seeds=(0,))[0] for one, rate in zip(optimizers, rates, strict=True)]
    losses = [float(record.metrics["best_valid_loss"]) for record in records]
    return max(losses) - min(losses), tuple(record.run_id for record in records)


@exhibit("verdict-optimizer")
def _optimizer_table(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    from seqrec_lib.report.pages.findings import SGD, USGM

    contestants = {
        "Adam, tuned": trained(runs, ADAM, 3e-3),
        "Adam, default": trained(runs, ADAM),
        "SGD, tuned": trained(runs, SGD),
        "USGM, tuned": trained(runs, USGM),
        "USGM with the paper's rule for the batch": trained(runs, PAPERS, batching=RULE),
    }
    rows = [
        {
            "optimizer": name,
            "valid": float(np.mean([record.metrics["best_valid_loss"] for record in records])),
            "ndcg": float(np.mean([record.metrics["ndcg@10"] for record in records])),
            "steps": float(np.mean([record.cost["steps"] for record in records])),
        }
        for name, records in contestants.items()
    ]
    columns = [kit.Column("optimizer", "Optimizer"), kit.Column("valid", "Best validation loss")]
    columns += [kit.Column("ndcg", "NDCG@10", ".4f"), kit.Column("steps", "Steps", ",.0f")]
    return partial(kit.table, pd.DataFrame(rows), columns)


@exhibit("verdict-orpo")
def _orpo_table(runs: Runs) -> Callable[..., Html]:
    import pandas as pd

    records = [record for record in runs.records("orpo") if record.config["arm"] == "orpo-paper"]
    rows = []
    for dataset in dict.fromkeys(record.dataset["name"] for record in records):
        own = [record.metrics for record in records if record.dataset["name"] == dataset]
        keys = ("popularity_ndcg@10", "before_ndcg@10", "ndcg@10", "retriever_ndcg@10")
        means = {key: float(np.mean([metrics[key] for metrics in own])) for key in keys}
        rows.append({"data": dataset_name(dataset), "seeds": len(own)} | means)
    titles = {
        "popularity_ndcg@10": "Candidates by popularity",
        "before_ndcg@10": "Ranker before",
        "ndcg@10": "after ORPO",
        "retriever_ndcg@10": "Its retriever",
    }
    columns = [kit.Column("data", "Data"), kit.Column("seeds", "Seeds", "d")]
    columns += [kit.Column(key, title, ".4f") for key, title in titles.items()]
    return partial(kit.table, pd.DataFrame(rows), columns)
