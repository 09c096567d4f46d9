from __future__ import annotations

import math

import numpy as np
import pytest

from seqrec_lib.evaluate.metrics import per_user, rank_metrics


def test_metrics_by_hand() -> None:
    """Ranks 1, 4, 12: HT@10 = 2/3; NDCG@10 = (1 + 1/log2(5)) / 3; MRR@10 = (1 + 1/4) / 3."""
    metrics = rank_metrics(np.array([1, 4, 12]), (10, 20))
    assert metrics["ht@10"] == pytest.approx(2 / 3)
    assert metrics["ndcg@10"] == pytest.approx((1 + 1 / math.log2(5)) / 3)
    assert metrics["mrr@10"] == pytest.approx((1 + 1 / 4) / 3)
    assert metrics["ht@20"] == 1.0 and metrics["mrr@20"] == pytest.approx((1 + 1 / 4 + 1 / 12) / 3)


def test_ranks_count_from_one() -> None:
    for bad in (np.array([0, 1]), np.array([], dtype=int)):
        with pytest.raises(ValueError, match="count from 1"):
            per_user(bad, 10)
