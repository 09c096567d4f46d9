"""From ranks to HT@k, NDCG@k and MRR@k (protocol "recbole", one target per user). How ranks are counted: `ranking`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CUTOFFS = (5, 10, 20)


def rank_metrics(ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Means over users of HT@k, NDCG@k and MRR@k.

    HT@k = [rank <= k], NDCG@k = [rank <= k] / log2(rank + 1), MRR@k = [rank <= k] / rank.

    >>> {name: round(value, 4) for name, value in rank_metrics(np.array([1, 3, 11]), (10,)).items()}
    {'ht@10': 0.6667, 'ndcg@10': 0.5, 'mrr@10': 0.4444}
    """
    return {f"{name}@{k}": float(values.mean()) for k in cutoffs for name, values in per_user(ranks, k).items()}


def per_user(ranks: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Each user's HT@k, NDCG@k and MRR@k, float64 arrays of the shape of ``ranks``.

    Raises:
        ValueError: a rank is below 1, or there is none.
    """
    ranks = np.asarray(ranks)
    if ranks.size == 0 or ranks.min() < 1:
        raise ValueError("ranks count from 1, and there must be at least one")
    hit = ranks <= k
    return {"ht": hit.astype(float), "ndcg": hit / np.log2(ranks + 1.0), "mrr": hit / ranks}
