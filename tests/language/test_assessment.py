"""Floors and position bias of a ranker, by hand and by identities."""

from __future__ import annotations

import numpy as np
import pytest

from seqrec_lib.language.assessment import Assessment, position_bias
from seqrec_lib.language.candidates import Pools

K = 4


def made(n: int = 400, seed: int = 0) -> tuple[Pools, np.ndarray]:
    """Pools in a retriever's order; the target of three in four users is among them."""
    rng = np.random.default_rng(seed)
    items = np.array([rng.permutation(12)[:K] + 1 for _ in range(n)], dtype=np.int32)
    place = np.where(rng.random(n) < 0.75, rng.integers(0, K, n), -1)
    scores = -np.tile(np.arange(K, dtype=np.float32), (n, 1))
    return Pools(items, scores, place), np.where(place >= 0, place + 1, 20)


def test_floors_by_hand() -> None:
    pools = Pools(
        np.array([[1, 2], [3, 2]], np.int32), np.array([[2.0, 1.0], [2.0, 1.0]], np.float32), np.array([1, -1])
    )
    found = Assessment(pools, np.array([2, 19]))
    found.add("", np.array([[0.0, 1.0], [0.0, 1.0]]))
    metrics = found.metrics
    assert metrics["recall@2"] == 0.5
    assert (metrics["subset_ndcg@10"], metrics["ndcg@10"]) == (1.0, 0.5)
    assert metrics["retriever_subset_mrr@10"] == 0.5
    assert metrics["random_subset_mrr@10"] == 0.75 and metrics["random_mrr@10"] == 0.375
    assert found.columns["rank"].tolist() == [1, 19] and found.columns["retriever_rank"].tolist() == [2, 19]


def test_every_metric_over_all_is_the_share_found_times_that_over_users_found() -> None:
    pools, ranks = made()
    found = Assessment(pools, ranks)
    logits = np.random.default_rng(1).standard_normal(pools.items.shape)
    found.add("", logits)
    found.add_blend(logits, 0.5)
    for prefix in ("", "retriever_", "blend_", "random_"):
        for name in ("ht@5", "ndcg@10", "mrr@10"):
            share = (pools.place >= 0).mean()
            assert found.metrics[f"{prefix}{name}"] == pytest.approx(found.metrics[f"{prefix}subset_{name}"] * share)


def test_a_ranker_of_content_is_not_biased_and_a_ranker_of_places_is_nothing_else() -> None:
    pools, ranks = made()
    rng = np.random.default_rng(2)
    found = Assessment(pools, ranks)
    content = pools.items.astype(np.float64)
    table = position_bias(found, lambda p: p.items.astype(np.float64), content, np.zeros(K), 3, rng)
    own = found.metrics
    found.subset("plain", content[found.found])
    assert own["permuted_subset_ndcg@10"] == pytest.approx(own["plain_subset_ndcg@10"])
    assert own["permuted_subset_ndcg@10_sd"] == pytest.approx(0)
    assert own["averaged_subset_ndcg@10"] == pytest.approx(own["plain_subset_ndcg@10"])
    assert table["target"].sum() == pytest.approx(1) and table["prior"].tolist() == [0.25] * 4

    prior = np.array([2.0, 1.0, 0.0, -1.0])
    places = np.tile(prior, (len(pools), 1))
    table = position_bias(found, lambda p: np.tile(prior, (len(p), 1)), places, prior, 3, rng)
    assert table["first"].tolist() == table["permuted"].tolist() == [1, 0, 0, 0]
    assert found.metrics["empty_calibrated_subset_ndcg@10"] == found.metrics["mean_calibrated_subset_ndcg@10"]
    assert found.metrics["mean_calibrated_subset_ndcg@10"] == pytest.approx(1 / np.log2(K + 1))  # all tie: last
