"""The front page (book/index.md) and the opening pages of the chapters on language models and the optimizer: what they
rest on besides ``statements.yml``. The front page's figure is the one of the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from seqrec_lib.evaluate.statistics import ratio
from seqrec_lib.report import judges
from seqrec_lib.report.frames import Runs
from seqrec_lib.report.judges import SEEDS
from seqrec_lib.report.scaling import BEST, Scaling
from seqrec_lib.report.statements import Evidence, over_runs, statement
from seqrec_lib.report.values import value
from seqrec_lib.results import RunRecord

# The front page


@statement("at-8000-items-attention-takes-over-ten-times-as-long")
def _attention(runs: Runs) -> Evidence:
    """Time to read 8,000 items, SASRec in units of Mamba4Rec.

    One core, batch 1, random weights. Each model by the faster of its two programs, its PyTorch module and the one
    compiled for serving, chosen by the median over rounds. The interval is over rounds and lies above 10."""
    scaling = Scaling.newest(runs, "ml-1m")
    slow, fast = (scaling.curve("length", name, BEST).loc[8_000].to_numpy() for name in ("sasrec", "mamba4rec"))
    found = ratio(slow, fast)
    return Evidence.of(found.low > 10, found, len(slow), (scaling.record.run_id,), "rounds")


# Language models


@statement("mamrec-without-dropout-ahead-of-gpt4rec-with-it", seeds=(0, 1, 2))
def _mamrec(runs: Runs) -> Evidence:
    """NDCG@10 on MovieLens 100K, MamRec minus GPT4Rec, both from scratch with 0.3 million weights.

    Each as its library makes it: GPT-2 with a dropout of 0.1, Mamba-2 with none. Seen items ranked. MamRec's NDCG@10 is
    higher at each of the three seeds; the estimate is the mean difference."""
    mamrec, gpt4rec = judges.writer(runs, "mamrec", 0), judges.writer(runs, "gpt4rec", 0.1)
    return judges.by_seed(mamrec, gpt4rec, "least > 0", "ndcg@10")


@statement("an-untuned-pretrained-ranker-orders-by-place", seeds=(0,))
def _untuned(runs: Runs) -> Evidence:
    """NDCG@10 among 20 candidates in random order, Gemma 3 270M without tuning minus chance.

    MovieLens 100K, the users whose next film is among SASRec's 20 candidates. With the candidates in the
    retriever's order the ranker's NDCG@10 is above chance by 0.05 or more; with their order drawn at random it is
    within 0.02 of chance. The estimate is that of the random order."""
    record = judges.ranker(runs, "paper-ranking")
    chance = record.metrics[judges.CHANCE]
    shuffled = record.metrics["permuted_subset_ndcg@10"] - chance
    held = record.metrics["subset_ndcg@10"] - chance >= 0.05 and abs(shuffled) <= 0.02
    users = round(record.metrics["recall@20"] * record.dataset["n_users"])
    return Evidence(held, shuffled, None, None, users, (record.run_id,))


TUNED: dict[str, Any] = {"prompt": "next-title", "tuned": True}  # on rows of titles
value("titles/rows")(lambda runs: int(judges.ranker(runs, **TUNED).config["teaching"]["prompts"]))
value("titles/below")(lambda runs: -judges.rankers(runs, TUNED, "retriever_rank", "high < 0").estimate)


# The optimizer


@statement("tuned-usgm-is-sgd", seeds=SEEDS)
def _usgm(runs: Runs) -> Evidence:
    """Best validation loss on MovieLens 100K, tuned USGM minus SGD at rate 1.

    2Mamba4Rec, ten epochs, USGM with D = 100 and a first rate of 1, as tuned. At each of the five seeds the two
    losses differ by less than 0.002, and USGM's H moves by less than 2 % from its first value in each run."""
    found = judges.losses(runs, "USGM, tuned", "SGD, tuned", "least > -0.002 and greatest < 0.002")
    return replace(found, held=found.held and _moved(runs) < 0.02)


@statement("from-zero-the-diameter-decides", seeds=(0,))
def _diameter(runs: Runs) -> Evidence:
    """Best validation loss on MovieLens 100K of USGM from H = 0, three times the best diameter minus the best.

    2Mamba4Rec, ten epochs, one seed, diameters 10, 30 and 100: with a third and with three times the best diameter the
    loss is higher by 0.3 or more."""
    records = [
        judges.trained(runs, judges.FROM_ZERO | {"D": D, "radius": D / 2}, 1e-3, {}, seeds=(0,))[0]
        for D in (10.0, 30.0, 100.0)
    ]
    small, best, large = (mean_of([record]) for record in records)
    return over_runs(min(small, large) - best >= 0.3, large - best, records)


def _moved(runs: Runs) -> float:
    """By which part of its first value H has grown at the end of a run, the most of tuned USGM's."""
    traces = [runs.store.table(record, "trace")["H"].to_numpy() for record in judges.contestant(runs, "USGM, tuned")]
    return max(float(step[-1] / step[0] - 1) for step in traces)


value("usgm-h-moved")(_moved)


def mean_of(records: Sequence[RunRecord], metric: str = "best_valid_loss") -> float:
    """Mean of a metric over runs."""
    return float(np.mean([record.metrics[metric] for record in records]))


def _loss(name: str, runs: Runs) -> float:
    return mean_of(judges.contestant(runs, name))


for _name in ("USGM", "SGD", "Adam"):
    value(f"{_name.lower()}-loss")(partial(_loss, f"{_name}, tuned"))
