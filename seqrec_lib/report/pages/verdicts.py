"""The verdicts (book/verdicts.md): what each word on a claim of the paper rests on.

Many statements ask one question of several data sets; then the estimate is the least or the greatest, as said, and the
table in the chapter has them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from seqrec_lib.evaluate.statistics import average_difference, average_over_seeds, bootstrap_interval
from seqrec_lib.report import judges
from seqrec_lib.report.benchmarks import measured
from seqrec_lib.report.frames import NotRun, Runs, interval_columns
from seqrec_lib.report.judges import SEEDS
from seqrec_lib.report.kit import Column
from seqrec_lib.report.optimizers import beta_fits, sides_met
from seqrec_lib.report.pages.findings import mean_of
from seqrec_lib.report.paper import SSM, dataset_name, model_name
from seqrec_lib.report.statements import Evidence, of_several, over_runs, over_users, statement
from seqrec_lib.report.timings import Timings
from seqrec_lib.report.values import table

FILMS, SHOPS = ("ml-1m", "ml-100k"), ("amazon-2014-beauty", "amazon-2018-video-games")
ALL = (*FILMS, *SHOPS)
METRIC, MASKED = "ndcg@10", "masked_ndcg@10"


# Speed


@table(
    "verdict-speed",
    Column("data", "Data"),
    Column("model", "SASRec's time over that of"),
    Column("served", "compiled for serving", ".2f", ("served low", "served high")),
    Column("module", "PyTorch module", ".2f", ("module low", "module high")),
)
def _speed_table(runs: Runs) -> Iterator[dict[str, Any]]:
    for dataset in ALL:
        timings = Timings.newest(runs, dataset)
        for model in SSM:
            facts: dict[str, Any] = {"data": dataset_name(dataset), "model": model_name(model)}
            for path in ("served", "module"):
                facts |= interval_columns(path, judges.time_ratio(timings, "sasrec", model, path))
            yield facts


@statement("language-models-five-times-slower", orders=None, device=None)
def _language(runs: Runs) -> Evidence:
    """The least time of one request to a language model, in units of the slowest state space model.

    One core, random weights, MovieLens 1M and 100K, language models of the book's size, state space models compiled
    for serving. LlamaRec takes one pass; a model that writes queries is counted with the time of one of its steps,
    as a tuned one may stop early. The least ratio of medians over models and data sets lies above 5."""
    least, blocks = np.inf, 0
    for dataset in FILMS:
        own = measured("query_latency", "datasets", dataset)
        times = {(one["model"], one["path"]): np.median(one["block_milliseconds"]) for one in own["contestants"]}
        slowest = max(time for (model, path), time in times.items() if model in SSM and path == "served")
        ranked = [time for (_, path), time in times.items() if path == "ranker"]
        written = [time / own["steps"] for (_, path), time in times.items() if path in ("free", "held")]
        least = min(least, min([*ranked, *written]) / slowest)
        blocks = len(own["contestants"][0]["block_milliseconds"])
    return Evidence(bool(least > 5), float(least), None, None, blocks, (), "blocks")


# Quality


def _lead(runs: Runs, dataset: str, metric: str) -> np.ndarray:
    """Each user's metric, averaged over the three state space models, minus SASRec's."""
    mean = average_over_seeds([runs.users(dataset, model, metric) for model in SSM])
    return mean - runs.users(dataset, "sasrec", metric)


@statement("no-average-lead-of-state-space-models")
def _average(runs: Runs) -> Evidence:
    """NDCG@10, mean of the three state space models minus SASRec, the greatest of eight.

    MovieLens 1M and 100K, Beauty and Video Games, seen items ranked and left out, paired by user, published seeds: none
    of the eight 95 % intervals lies above 0."""
    leads = []
    for dataset, metric in itertools.product(ALL, (METRIC, MASKED)):
        ids = runs.ids([(dataset, model) for model in ("sasrec", *SSM)])
        leads.append(over_users(_lead(runs, dataset, metric), ids, lambda lead: lead.low <= 0))
    return of_several(leads, "greatest")


@table(
    "verdict-quality",
    Column("data", "Data"),
    Column("seeds", "Seeds", "d"),
    Column(METRIC, "seen items ranked", "+.4f", (f"{METRIC} low", f"{METRIC} high")),
    Column(MASKED, "seen items left out", "+.4f", (f"{MASKED} low", f"{MASKED} high")),
)
def _quality_table(runs: Runs) -> Iterator[dict[str, Any]]:
    for dataset in ALL:
        facts: dict[str, Any] = {"data": dataset_name(dataset), "seeds": len(runs.seeds(dataset, "sasrec"))}
        for metric in (METRIC, MASKED):
            facts |= interval_columns(metric, bootstrap_interval(_lead(runs, dataset, metric)))
        yield facts


@statement("films-hydra-a-little-behind-mamba", seeds=(0, 1, 2))
def _behind(runs: Runs) -> Evidence:
    """NDCG@10 on MovieLens 1M, Mamba4Rec minus Hydra4Rec.

    Seen items ranked, paired by user, each user's mean over the seeds; held where the 95 % interval lies above 0
    and below a twentieth of Mamba4Rec's NDCG@10."""
    twentieth = runs.mean(FILMS[0], "mamba4rec", METRIC) / 20
    pair = [(FILMS[0], "mamba4rec"), (FILMS[0], "hydra4rec")]
    lead = average_difference(*(runs.users(*model, METRIC) for model in pair))
    return over_users(lead, runs.ids(pair), lambda lead: lead.low > 0 and lead.high < twentieth)


# The optimizer


@statement("the-batch-fit-needs-steps-of-one-length")
def _fit(runs: Runs) -> Evidence:
    """R² of the fit over 1/sqrt(B) minus that over 1/B, for the steps that USGM takes.

    At one point of training on MovieLens 100K: for steps of one length the fit over 1/sqrt(B) is the better one,
    for the steps that the method takes the fit over 1/B is."""
    noisy = [record for record in runs.records("optimizers") if "noise" in record.tables]
    if not noisy:
        raise NotRun("optimizers, the measurement of beta")
    record = noisy[0]
    fits = beta_fits(runs.store.table(record, "noise"))
    gains = {step: float(fits["r2"][step, "1/sqrt(m)"] - fits["r2"][step, "1/m"]) for step in ("real", "fixed")}
    held = gains["real"] < 0 < gains["fixed"]
    return Evidence(held, gains["real"], None, None, 1, (record.run_id,), "point of training")


@statement("the-batch-rarely-reaches-its-plateau", seeds=SEEDS)
def _plateau(runs: Runs) -> Evidence:
    """Share of epochs at whose end the two terms of the paper's rule had met.

    Five runs on MovieLens 100K of ten epochs each: by the rule's own running fit, c1 is at least c2 / sqrt(B), and
    c2 above 0, at the end of less than half of the epochs, and of one or more."""
    met: list[bool] = []
    records = judges.contestant(runs, "USGM with the paper's rule for the batch")
    for record in records:
        met += sides_met(runs.store.table(record, "trace").to_pandas(), judges.RULE)
    share = float(np.mean(met))
    ids = tuple(record.run_id for record in records)
    return Evidence(0 < share < 0.5, share, None, None, len(met), ids, "epochs")


@statement("usgm-hangs-on-its-first-rate-and-not-on-d", seeds=(0,))
def _robust(runs: Runs) -> Evidence:
    """Validation loss, worst minus best of USGM's first rate within a factor of ten.

    Five epochs on MovieLens 100K, one seed. The loss ranges wider over USGM's first rate (0.1 to 10, D = 10) than
    over Adam's rate (0.001 to 0.1), and less over D (10 to 1,000, first rate 1)."""
    settings: dict[str, list[tuple[dict[str, Any], float]]] = {
        "first rate": [({"name": "usgm", "D": 10.0, "lr": rate}, 1e-3) for rate in (0.1, 1.0, 10.0)],
        "D": [({"name": "usgm", "D": far, "lr": 1.0}, 1e-3) for far in (10.0, 100.0, 1000.0)],
        "Adam": [(judges.ADAM, rate) for rate in (1e-3, 1e-2, 1e-1)],
    }
    records, ranges = [], {}
    for name, own in settings.items():
        made = [judges.trained(runs, optimizer, rate, {}, epochs=5, seeds=(0,))[0] for optimizer, rate in own]
        ranges[name] = float(np.ptp([record.metrics["best_valid_loss"] for record in made]))
        records += made
    return over_runs(ranges["D"] < ranges["Adam"] < ranges["first rate"], ranges["first rate"], records)


@table(
    "verdict-optimizer",
    Column("optimizer", "Optimizer"),
    Column("valid", "Best validation loss"),
    Column("ndcg", "NDCG@10", ".4f"),
    Column("steps", "Steps", ",.0f"),
)
def _optimizer_table(runs: Runs) -> Iterator[dict[str, Any]]:
    for name in judges.CONTESTANTS:
        records = judges.contestant(runs, name)
        steps = float(np.mean([record.cost["steps"] for record in records]))
        yield {"optimizer": name, "valid": mean_of(records), "ndcg": mean_of(records, "ndcg@10"), "steps": steps}


ORDERS = {
    "popularity_ndcg@10": "Candidates by popularity",
    "before_ndcg@10": "Ranker before",
    "ndcg@10": "after ORPO",
    "retriever_ndcg@10": "Its retriever",
}


@table(
    "verdict-orpo",
    Column("data", "Data"),
    Column("seeds", "Seeds", "d"),
    *(Column(key, title, ".4f") for key, title in ORDERS.items()),
)
def _orpo_table(runs: Runs) -> Iterator[dict[str, Any]]:
    for dataset in dict.fromkeys(record.dataset["name"] for record in runs.records("orpo", arm="orpo-paper")):
        own = runs.records("orpo", dataset, arm="orpo-paper")
        runs.given.update(record.run_id for record in own)
        yield {"data": dataset_name(dataset), "seeds": len(own)} | {key: mean_of(own, key) for key in ORDERS}
