from __future__ import annotations

from collections import Counter
from itertools import pairwise

import torch

from seqrec_lib.models.popularity import Markov, Popularity
from tests.conftest import make_sequences, random_sequences


def test_popularity_counts_training_interactions_only() -> None:
    model = Popularity(make_sequences([[1, 2, 2, 3, 4], [2, 5, 1, 1]], 5))
    scores = model.score(torch.tensor([[1], [5]]), torch.tensor([1, 1]))
    # training: 1 2 2 | 2 5; the last two of each user are held out
    assert scores.tolist() == [[-torch.inf, 1, 3, 0, 0, 1]] * 2


def test_markov_equals_counting_by_hand() -> None:
    sequences = random_sequences(2)
    training = [
        sequences.items[a : b - 2].tolist() for a, b in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    ]
    popularity = Counter(item for history in training for item in history)
    pairs = Counter(pair for history in training for pair in pairwise(history))
    most = max(popularity.values())
    scores = Markov(sequences).score(torch.tensor([[7], [3]]), torch.tensor([1, 1]))
    for row, last in enumerate((7, 3)):
        for item in range(1, sequences.n_items + 1):
            expected = pairs[last, item] + popularity[item] / (1 + most)
            assert abs(scores[row, item].item() - expected) < 1e-5
    assert (scores[:, 0] == -torch.inf).all()
