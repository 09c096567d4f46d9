"""What a ranker of candidates reaches, beside its floors; and what the place of a candidate does to it.

Every number comes twice: over all users, and (``subset_``) over those whose target is a candidate. Floors have a
prefix of their own: ``random_`` (a random order of the candidates, by expectation), ``retriever_`` (its own order),
``popularity_``, ``blend_`` (retriever and letters' log-odds, weighed on validation users).

Glossary: n users, K candidates; place of the target in a pool, -1: nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.language.candidates import Pools
from seqrec_lib.language.corpus import letters
from seqrec_lib.language.ranking import (
    blend,
    calibrated,
    log_odds,
    overall_ranks,
    permuted,
    pool_ranks,
    random_floor,
    subset_and_overall,
)

CUTOFFS = (5, 10)


class Assessment:
    """Metrics and every user's rank for one set of pools.

    Args:
        pools: the candidates of all users. retriever_rank: (n,) ranks in the retriever's whole lists.
        everyone: whether the ranker is asked about every user, or only about those whose target is a candidate, as
            for the others no order of the candidates changes anything.

    Attributes:
        found, asked: (n,) users whose target is a candidate; about whom the ranker is asked.
    """

    def __init__(self, pools: Pools, retriever_rank: np.ndarray, *, everyone: bool = True) -> None:
        self.pools, self.retriever_rank, self.k = pools, retriever_rank, pools.items.shape[1]
        self.found = pools.place >= 0
        self.asked = self.found | everyone
        share = float(self.found.mean())
        self.columns: dict[str, np.ndarray] = {"place": pools.place.astype(np.int16)}
        self.metrics: dict[str, float] = {f"recall@{self.k}": share}
        self._take("retriever_", pools.place + 1)
        floor = random_floor(self.k, CUTOFFS)
        self.metrics |= {f"random_{name}": value * share for name, value in floor.items()}
        self.metrics |= {f"random_subset_{name}": value for name, value in floor.items()}

    def add(self, prefix: str, scores: np.ndarray) -> None:
        """A ranking of the pools by (n, K) scores."""
        self._take(prefix, pool_ranks(scores, self.pools.place))

    def add_popularity(self, sequences: Sequences) -> None:
        """By the number of training interactions."""
        from seqrec_lib.models.popularity import Popularity

        self.add("popularity_", Popularity(sequences).counts.numpy()[self.pools.items])

    def add_blend(self, logits: np.ndarray, weight: float) -> None:
        """The retriever's scores and the letters' log-odds, ``weight`` parts of the latter."""
        self.add("blend_", blend(self.pools.scores, log_odds(logits), weight))
        self.metrics["blend_weight"] = weight

    def subset(self, name: str, scores: np.ndarray) -> None:
        """NDCG@10 over users whose target was found, from scores (n_found, K)."""
        ranks = pool_ranks(scores, self.pools.place[self.found])
        self.metrics[f"{name}_subset_ndcg@10"] = rank_metrics(ranks, (10,))["ndcg@10"] if len(ranks) else 0.0

    def _take(self, prefix: str, ranks: np.ndarray) -> None:
        place, retrieved = self.pools.place, self.retriever_rank
        found = subset_and_overall(ranks, place, retrieved, self.k, CUTOFFS)
        self.metrics |= {f"{prefix}{name}": value for name, value in found.items()}
        self.columns[f"{prefix}rank"] = overall_ranks(ranks, place, retrieved, self.k)


def position_bias(
    assessment: Assessment,
    score: Callable[[Pools], np.ndarray],
    logits: np.ndarray,
    empty: np.ndarray,
    orders: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Add what the candidates' places do to ``assessment``; return a table with one row for each letter.

    Of the users whose target was found: NDCG@10 over ``orders`` random orders (mean and standard deviation), with the
    scores averaged over them, and with the retriever's order but the letters' logits calibrated, by those of a prompt
    without content or by their mean over the users that the ranker is asked about.

    Args:
        score: (n_found, K) logits for pools of the users found. logits: (n, K) in the retriever's order. empty: (K,).

    Returns:
        letter; target: how often the target stands there; first: how often the ranker's first choice does; permuted:
        the same over random orders; prior: the letter's probability in the prompt without content.
    """
    found, k = assessment.found, assessment.k
    own, pools = logits[found], assessment.pools.take(np.flatnonzero(found))
    result = permuted(score, pools, orders, rng)
    each = [rank_metrics(ranks, (10,))["ndcg@10"] for ranks in result["ranks"]]
    assessment.metrics["permuted_subset_ndcg@10"] = float(np.mean(each))
    if len(each) > 1:
        assessment.metrics["permuted_subset_ndcg@10_sd"] = float(np.std(each, ddof=1))
    assessment.subset("averaged", result["mean_logits"])
    assessment.subset("empty_calibrated", calibrated(own, empty))
    assessment.subset("mean_calibrated", calibrated(own, logits[assessment.asked].mean(0)))
    weights = np.exp(empty - empty.max())
    return {
        "letter": np.array(list(letters(k))),
        "target": np.bincount(pools.place, minlength=k) / len(pools),
        "first": np.bincount(own.argmax(1), minlength=k) / len(pools),
        "permuted": result["letter_share"],
        "prior": weights / weights.sum(),
    }
