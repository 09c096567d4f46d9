"""What a ranker of candidates reaches, beside its floors; and what the place of a candidate does to it.

Only a target that the retriever found can be ranked, so that every number comes twice: over all users, where a target
that was not found keeps its rank in the retriever's list, and (``subset_``) over those whose target is a candidate. For
cut-offs up to the number of candidates the first is the second times the share of users found. Floors have a prefix of
their own: ``random_`` (a random order of the candidates, by expectation), ``retriever_`` (its own order),
``popularity_``, ``blend_`` (retriever and letters' log-odds, weighed on validation users).

Glossary: n users, K candidates; place of the target in a pool, -1: nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.language.candidates import Pools
from seqrec_lib.language.corpus import letters
from seqrec_lib.language.orpo import token_log_odds

CUTOFFS = (5, 10)


class Assessment:
    """Metrics and every user's rank for one set of pools.

    Args:
        pools: the candidates of all users. retriever_rank: (n,) ranks in the retriever's whole lists.
        everyone: whether the ranker is asked about every user, or only about those whose target is a candidate.

    Attributes:
        found, asked: (n,) users whose target is a candidate; about whom the ranker is asked.
        letters: what `position_bias` gave, where it was asked.
    """

    def __init__(self, pools: Pools, retriever_rank: np.ndarray, *, everyone: bool = True) -> None:
        self.pools, self.retriever_rank, self.k = pools, retriever_rank, pools.items.shape[1]
        self.found = pools.place >= 0
        self.asked = self.found | everyone
        share = float(self.found.mean())
        self.letters: dict[str, np.ndarray] = {}
        self.columns: dict[str, np.ndarray] = {"place": pools.place.astype(np.int16)}
        self.metrics: dict[str, float] = {f"recall@{self.k}": share}
        self._take("retriever_", pools.place + 1)
        floor = rank_metrics(np.arange(1, self.k + 1), CUTOFFS)  # each rank is as likely as another
        self.metrics |= {f"random_{name}": value * share for name, value in floor.items()}
        self.metrics |= {f"random_subset_{name}": value for name, value in floor.items()}

    def add(self, prefix: str, scores: np.ndarray) -> None:
        """A ranking of the pools by (n, K) scores."""
        self._take(prefix, pool_ranks(scores, self.pools.place))

    def add_blend(self, logits: np.ndarray, weight: float) -> None:
        """The retriever's scores and the letters' log-odds, ``weight`` parts of the latter."""
        self.add("blend_", blend(self.pools.scores, log_odds(logits), weight))
        self.metrics["blend_weight"] = weight

    def subset(self, name: str, scores: np.ndarray) -> None:
        """NDCG@10 over users whose target was found, from scores (n_found, K)."""
        self.metrics[f"{name}_subset_ndcg@10"] = subset_ndcg(scores, self.pools.place[self.found])

    def _take(self, prefix: str, ranks: np.ndarray) -> None:
        """Ranks (n,) within the pools: the re-ranked candidates stand before the rest of the retriever's list."""
        overall = np.where(self.found, ranks, np.maximum(self.retriever_rank, self.k + 1)).astype(np.int32)
        subset = rank_metrics(ranks[self.found], CUTOFFS) if self.found.any() else {}
        self.metrics |= {f"{prefix}{name}": value for name, value in rank_metrics(overall, CUTOFFS).items()}
        self.metrics |= {f"{prefix}subset_{name}": value for name, value in subset.items()}
        self.columns[f"{prefix}rank"] = overall


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
        letter; how often stand there the target, the ranker's first choice, and (permuted) that over random orders;
        prior: the letter's probability in the prompt without content.
    """
    found, k = assessment.found, assessment.k
    own, pools = logits[found], assessment.pools.take(np.flatnonzero(found))
    first, total, each = np.zeros(k), np.zeros((len(pools), k)), []
    for _ in range(orders):
        order = rng.permuted(np.tile(np.arange(k), (len(pools), 1)), axis=1)
        arranged = pools.arranged(order)
        scores = score(arranged)
        each.append(subset_ndcg(scores, arranged.place))
        first += np.bincount(scores.argmax(1), minlength=k)
        total += np.take_along_axis(scores, np.argsort(order, axis=1), 1)  # back in the retriever's order
    assessment.metrics["permuted_subset_ndcg@10"] = float(np.mean(each))
    if len(each) > 1:
        assessment.metrics["permuted_subset_ndcg@10_sd"] = float(np.std(each, ddof=1))
    assessment.subset("averaged", total / orders)
    assessment.subset("empty_calibrated", own - empty)
    assessment.subset("mean_calibrated", own - logits[assessment.asked].mean(0))
    weights = np.exp(empty - empty.max())
    return {
        "letter": np.array(list(letters(k))),
        "target": np.bincount(pools.place, minlength=k) / len(pools),
        "first": np.bincount(own.argmax(1), minlength=k) / len(pools),
        "permuted": first / (orders * len(pools)),
        "prior": weights / weights.sum(),
    }


def log_odds(logits: np.ndarray) -> np.ndarray:
    """(n, K) log-odds of each letter among the letters, from their logits."""
    values = torch.from_numpy(logits.astype(np.float64))
    return token_log_odds(values, torch.arange(logits.shape[1]).expand(logits.shape)).numpy()


def pool_ranks(scores: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The target's rank within each pool, from 1; ties count against it. 0 where it is not in the pool.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("the ranker produced NaN or infinite scores: training has diverged")
    own = np.take_along_axis(scores, np.maximum(place, 0)[:, None], 1)
    return np.where(place >= 0, (scores >= own).sum(1), 0)


def subset_ndcg(scores: np.ndarray, place: np.ndarray) -> float:
    """NDCG@10 over the pools with scores (n, K) that hold their target; 0 where none does."""
    ranks = pool_ranks(scores, place)[place >= 0]
    return rank_metrics(ranks, (10,))["ndcg@10"] if len(ranks) else 0.0


def standardised(scores: np.ndarray) -> np.ndarray:
    """Each pool's scores with mean 0 and standard deviation 1 (0 where all are equal)."""
    centred = scores - scores.mean(1, keepdims=True)
    spread = centred.std(1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-12)


def blend(retriever: np.ndarray, ranker: np.ndarray, weight: float) -> np.ndarray:
    """``1 - weight`` parts of the retriever's scores and ``weight`` of the ranker's log-odds, both standardised."""
    return (1 - weight) * standardised(retriever) + weight * standardised(ranker)


def best_blend(retriever: np.ndarray, ranker: np.ndarray, place: np.ndarray) -> float:
    """The weight of the ranker with the best NDCG@10, by a grid over [0, 1]; for validation users, never for test.

    The least such weight: a ranker that adds nothing gets none. 0 where no target was retrieved.
    """
    weights = np.linspace(0, 1, 21)
    values = [subset_ndcg(blend(retriever, ranker, float(weight)), place) for weight in weights]
    return float(weights[int(np.argmax(values))])
