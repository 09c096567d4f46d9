from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.metrics import per_user, rank_metrics, target_ranks


def brute_force_rank(scores: list[float], target: int, excluded: set[int]) -> int:
    """1 + items above + other items equal, over candidates 1..V-1 without ``excluded``."""
    rank = 1
    for item in range(1, len(scores)):
        if item != target and item not in excluded and scores[item] >= scores[target]:
            rank += 1
    return rank


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), users=st.integers(1, 6), items=st.integers(1, 12), levels=st.integers(1, 5))
def test_ranks_equal_the_definition_with_ties_and_masks(seed: int, users: int, items: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (users, items + 1)).astype(np.float32)  # few levels: many ties
    scores[:, 0] = -np.inf
    targets = rng.integers(1, items + 1, users)
    histories = [rng.integers(1, items + 1, rng.integers(0, 8)).tolist() for _ in range(users)]  # may repeat
    rows = torch.tensor([u for u, h in enumerate(histories) for _ in h], dtype=torch.int64)
    seen = torch.tensor([i for h in histories for i in h], dtype=torch.int64)
    ranks, masked = target_ranks(torch.from_numpy(scores), torch.from_numpy(targets), (rows, seen))
    for u in range(users):
        row, target = scores[u].tolist(), int(targets[u])
        assert ranks[u] == brute_force_rank(row, target, set())
        assert masked[u] == brute_force_rank(row, target, set(histories[u]))


def test_a_constant_model_ranks_last() -> None:
    scores = torch.zeros(1, 11)
    scores[:, 0] = -torch.inf
    assert target_ranks(scores, torch.tensor([4]))[0].item() == 10


@pytest.mark.parametrize("where", [1, 2])  # the target's score, and another one
def test_nan_is_an_error(where: int) -> None:
    scores = torch.tensor([[-torch.inf, 1.0, 2.0]])
    scores[0, where] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        target_ranks(scores, torch.tensor([1]))


def test_scores_are_compared_in_float32() -> None:
    with pytest.raises(ValueError, match="float64"):
        target_ranks(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([1]))


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
