"""From scores to ranks, and from ranks to HT@k, NDCG@k and MRR@k (protocol "recbole", one target per user).

A rank is counted, not sorted: rank = 1 + #{items that score above the target} + #{other items that score the same},
compared in float32. Ties count against the model: a model that gives every item one score ranks last, not first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

CUTOFFS = (5, 10, 20)


def target_ranks(scores: Tensor, targets: Tensor, seen: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Ranks among all items, and among the items that the history does not contain.

    Args:
        scores: (B, V) float32; column 0 is -inf.
        targets: (B,) int64 ids in 1..V-1.
        seen: (rows, items), int64 pairs of a row of ``scores`` and an item of its history, repeats allowed. The target
            stays a candidate even when it is in the history.

    Returns:
        (ranks, masked ranks), (B,) int64 each, from 1; equal when ``seen`` is None.

    Raises:
        ValueError: a score is NaN, the target's is not finite, or ``scores`` is not float32.

    >>> scores = torch.tensor([[-torch.inf, 3.0, 2.0, 2.0, 1.0]])
    >>> target_ranks(scores, torch.tensor([3]))[0]  # item 1 is above, item 2 ties
    tensor([3])
    >>> target_ranks(scores, torch.tensor([3]), (torch.tensor([0]), torch.tensor([1])))[1]  # item 1 was seen
    tensor([2])
    """
    if scores.dtype != torch.float32:
        raise ValueError(f"scores are compared in float32, got {scores.dtype}")
    own = scores.gather(1, targets.unsqueeze(1))
    not_below = scores >= own  # includes the target itself; False where a score is NaN
    ranks = not_below.sum(1)
    # NaN compares False both ways: then the two counts miss an item.
    if not bool(torch.isfinite(own).all()) or int(ranks.sum() + (scores < own).sum()) != scores.numel():
        raise ValueError("the model produced NaN or infinite scores: training has diverged")
    if seen is None:
        return ranks, ranks
    not_below[seen] = False
    not_below.scatter_(1, targets.unsqueeze(1), True)
    return ranks, not_below.sum(1)


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
