"""Candidates against brute force over whole score rows; pools hold their target once and nothing that was seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.evaluate.ranking import rank_split
from seqrec_lib.language.candidates import pool_scores, retrieve, sample_prefixes, training_pools
from tests.conftest import random_sequences


class Fixed:
    """Scores every item by a fixed number that depends on the last item."""

    max_length = None

    def __init__(self, n_items: int) -> None:
        self.table = torch.randn(n_items + 1, n_items + 1, generator=torch.Generator().manual_seed(5))
        self.table[:, 0] = -torch.inf

    def score(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.table[items.gather(1, (lengths - 1)[:, None])[:, 0]]


@pytest.fixture
def data() -> Sequences:
    return random_sequences(3, n_users=40, n_items=60, longest=20)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_candidates_are_the_best_of_the_whole_list(data: Sequences, exclude_seen: bool) -> None:
    model, histories = Fixed(60), data.split("test")
    pools, rank = retrieve(model, data, histories, 8, exclude_seen=exclude_seen)
    for user, (start, stop, target) in enumerate(zip(histories.start, histories.stop, histories.targets, strict=True)):
        row = model.table[int(data.items[stop - 1])].numpy().copy()
        if exclude_seen:
            row[data.items[start:stop]] = -np.inf
        order = [int(i) for i in np.argsort(-row, kind="stable") if np.isfinite(row[i])]
        assert pools.items[user].tolist() == order[:8]
        assert pools.scores[user].tolist() == row[order[:8]].tolist()
        assert pools.place[user] == (order.index(target) if target in order[:8] else -1)
        assert rank[user] == (order.index(target) + 1 if target in order else 60)
    if not exclude_seen:
        assert (rank == rank_split(model, data, histories).rank).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_diverged_retriever_is_an_error(data: Sequences, value: float, exclude_seen: bool) -> None:
    """Also where the score is one of an item that the history hides. Of -inf, only the target's is."""
    histories = data.split("test")
    last, target = int(data.items[histories.stop[0] - 1]), int(histories.targets[0])
    for item in (target, last) if value != -np.inf else (target,):
        model = Fixed(60)
        model.table[last, item] = value
        with pytest.raises(ValueError, match="diverged"):
            retrieve(model, data, histories, 8, exclude_seen=exclude_seen)
        with pytest.raises(ValueError, match="diverged"):
            pool_scores(model, data, histories, np.ones((len(histories), 2), np.int32))


def test_overall_is_the_subset_times_what_was_retrieved(data: Sequences) -> None:
    pools, rank = retrieve(Fixed(60), data, data.split("test"), 10)
    retrieved = pools.place >= 0
    assert 0 < retrieved.mean() < 1
    assert (rank[retrieved] <= 10).all() and (rank[~retrieved] > 10).all()


def test_prefixes_are_distinct_training_positions_with_their_next_item(data: Sequences) -> None:
    found = sample_prefixes(data, 3, np.random.default_rng(0))
    owner = np.searchsorted(data.offsets, found.start, side="right") - 1
    assert (found.start == data.offsets[owner]).all()
    assert ((found.stop - found.start >= 2) & (found.stop < data.offsets[owner + 1] - 2)).all()  # never held-out items
    assert (found.targets == data.items[found.stop]).all()
    assert len(set(found.stop.tolist())) == len(found)
    assert np.bincount(owner, minlength=40).tolist() == np.clip(data.lengths - 4, 0, 3).tolist()


@pytest.mark.parametrize("negatives", ["random", "retriever", "mixed"])
@pytest.mark.parametrize("order", ["shuffled", "ordered"])
def test_a_pool_has_its_target_once_and_the_kind_of_others_that_was_asked(
    data: Sequences, negatives: str, order: str
) -> None:
    model, k = Fixed(60), 9
    histories = sample_prefixes(data, 2, np.random.default_rng(1))
    pools = training_pools(model, data, histories, k, np.random.default_rng(2), negatives=negatives, order=order)
    assert pools.items.shape == (len(histories), k)
    assert (np.take_along_axis(pools.items, pools.place[:, None], 1)[:, 0] == histories.targets).all()
    assert (pools.scores == pool_scores(model, data, histories, pools.items)).all()
    first, _ = retrieve(model, data, histories, k)
    shares = []
    for row, (start, stop, target) in enumerate(zip(histories.start, histories.stop, histories.targets, strict=True)):
        others = set(pools.items[row].tolist()) - {int(target)}
        assert len(others) == k - 1 and not others & set(data.items[start:stop].tolist())
        best = [i for i in first.items[row].tolist() if i != target]
        hard = {"random": 0, "retriever": k - 1, "mixed": (k - 1) // 2}[negatives]
        assert set(best[:hard]) <= others
        shares.append(len(others & set(best[: k - 1])) / (k - 1))
    # of 60 items, eight drawn at random are among the retriever's first eight now and then
    expected = {"random": (0.0, 0.4), "retriever": (1.0, 1.0), "mixed": (0.5, 0.75)}[negatives]
    assert expected[0] <= np.mean(shares) <= expected[1]
    if order == "ordered":
        assert (np.diff(pools.scores, axis=1) <= 0).all()
    else:
        assert len(set(pools.place.tolist())) == k  # the answer stands under every letter
