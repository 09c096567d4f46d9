from __future__ import annotations

import numpy as np
import pytest
import torch

from seqrec_lib import ranking
from seqrec_lib.metrics import rank_metrics
from seqrec_lib.ranking import gather_histories, rank_split
from tests.conftest import random_sequences


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
    metrics = ranks.metrics()
    assert metrics["ht@10"] == rank_metrics(ranks.rank)["ht@10"]
    assert metrics["masked_mrr@20"] == rank_metrics(ranks.masked_rank)["mrr@20"]


def test_histories_keep_their_latest_items() -> None:
    items = torch.tensor([1, 2, 3, 4, 5])
    batch, lengths = gather_histories(items, torch.tensor([0, 4]), torch.tensor([4, 5]), 3)
    assert batch.tolist() == [[2, 3, 4], [5, 0, 0]] and lengths.tolist() == [3, 1]


def test_a_diverged_model_is_an_error() -> None:
    sequences = random_sequences(0)

    class Diverged(Recent):
        def score(self, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return torch.full((len(items), self.n_items + 1), np.nan)

    with pytest.raises(ValueError, match="diverged"):
        rank_split(Diverged(sequences.n_items, None), sequences, sequences.split("valid"))
