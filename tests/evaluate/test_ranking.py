from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_lib.evaluate import ranking
from seqrec_lib.evaluate.metrics import rank_metrics
from seqrec_lib.evaluate.ranking import gather_histories, rank_split, target_ranks
from tests.conftest import random_sequences


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


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", range(5))  # the padding's score, the target's, those on both sides, a seen item's
def test_nan_and_infinity_are_errors_wherever_they_stand(where: int, value: float, row: int) -> None:
    scores = torch.tensor([[-torch.inf, 1.0, 2.0, 0.5, 1.0], [-torch.inf, 3.0, 2.0, 0.5, 1.0]])
    targets, seen = torch.tensor([1, 1]), (torch.tensor([0, 1]), torch.tensor([4, 4]))
    scores[row, where] = value
    for hidden in (None, seen):
        with pytest.raises(ValueError, match="NaN or infinite"):
            target_ranks(scores, targets, hidden)


def test_minus_infinity_is_an_item_that_is_no_candidate_and_never_the_target() -> None:
    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0]])
    assert target_ranks(scores, torch.tensor([1]))[0].tolist() == [2]
    with pytest.raises(ValueError, match="NaN or infinite"):
        target_ranks(scores, torch.tensor([2]))


def test_scores_are_compared_in_float32() -> None:
    with pytest.raises(ValueError, match="float64"):
        target_ranks(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([1]))


class Recent:
    """Scores an item by the position of its latest occurrence among the items that are read; ties abound."""

    def __init__(self, n_items: int, max_length: int | None) -> None:
        self.n_items, self.max_length = n_items, max_length

    def score(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        scores = torch.zeros(len(items), self.n_items + 1)
        for row, (history, length) in enumerate(zip(items.tolist(), lengths.tolist(), strict=True)):
            for position, item in enumerate(history[:length]):
                scores[row, item] = position + 1 - length
                scores[row, item] += 100
        scores[:, 0] = -torch.inf
        return scores


@pytest.mark.parametrize("max_length", [None, 3])
@pytest.mark.parametrize("at_a_time", [1, 10_000])
def test_equals_a_loop_over_users(max_length: int | None, at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_SCORES_AT_A_TIME", at_a_time)
    sequences = random_sequences(5)
    histories = sequences.split("test")
    model = Recent(sequences.n_items, max_length)
    ranks = rank_split(model, sequences, histories)
    for user in range(sequences.n_users):
        history = sequences.items[histories.start[user] : histories.stop[user]].tolist()
        read = history if max_length is None else history[-max_length:]
        scores = model.score(torch.tensor([read]), torch.tensor([len(read)]))[0].tolist()
        target = int(histories.targets[user])
        others = [i for i in range(1, sequences.n_items + 1) if i != target]
        assert ranks.rank[user] == 1 + sum(scores[i] >= scores[target] for i in others)
        # The mask covers the whole history, also what the model does not read.
        assert ranks.masked_rank[user] == 1 + sum(scores[i] >= scores[target] for i in others if i not in history)
    assert ranks.loss is None
    metrics = ranks.metrics()
    assert metrics["ht@10"] == rank_metrics(ranks.rank)["ht@10"]
    assert metrics["masked_mrr@20"] == rank_metrics(ranks.masked_rank)["mrr@20"]


def test_the_loss_is_the_mean_over_users_of_minus_the_log_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_SCORES_AT_A_TIME", 100)  # several batches
    sequences = random_sequences(5)
    histories = sequences.split("valid")
    model = Recent(sequences.n_items, None)
    losses = []
    for start, stop, target in zip(histories.start, histories.stop, histories.targets, strict=True):
        history = torch.from_numpy(sequences.items[start:stop]).unsqueeze(0)
        scores = model.score(history, torch.tensor([stop - start]))[0, 1:].double().numpy()
        losses.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[target - 1])
    assert rank_split(model, sequences, histories, loss=True).loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_histories_keep_their_latest_items() -> None:
    items = torch.tensor([1, 2, 3, 4, 5])
    batch, lengths = gather_histories(items, torch.tensor([0, 4]), torch.tensor([4, 5]), 3)
    assert batch.tolist() == [[2, 3, 4], [5, 0, 0]] and lengths.tolist() == [3, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_diverged_model_is_an_error(value: float) -> None:
    sequences = random_sequences(0)

    class Diverged(Recent):
        def score(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return torch.full((len(items), self.n_items + 1), value)

    with pytest.raises(ValueError, match="diverged"):
        rank_split(Diverged(sequences.n_items, None), sequences, sequences.split("valid"))
