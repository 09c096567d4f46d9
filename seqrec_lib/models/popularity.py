"""The floors: what a recommender reaches by counting alone.

`Popularity` ignores the history. `Markov` recommends what most often followed the last item in training, and breaks
ties by popularity. Both are fitted in one pass over the training sequences; neither has parameters to train.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.data.sequences import Sequences


def _training(sequences: Sequences) -> np.ndarray:
    """Which interactions train: all but each user's last two."""
    return np.arange(sequences.n_interactions) < np.repeat(sequences.offsets[1:] - 2, sequences.lengths)


class Popularity:
    """Scores an item by its number of training interactions."""

    max_length: int | None = 1

    def __init__(self, sequences: Sequences, device: torch.device | str = "cpu") -> None:
        items = sequences.items[_training(sequences)]
        counts = np.bincount(items, minlength=sequences.n_items + 1).astype(np.float32)
        counts[0] = -np.inf
        self.counts = torch.from_numpy(counts).to(device)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        return self.counts.expand(len(items), -1)


class Markov:
    """Scores an item by how often it followed the last item of the history in training.

    Memory: one row per pair that occurs, not items x items.
    """

    max_length: int | None = 1

    def __init__(self, sequences: Sequences, device: torch.device | str = "cpu") -> None:
        popularity = Popularity(sequences, device).counts
        self.tie_break = popularity / (1 + popularity[1:].max())  # below one follower
        n_rows, users = sequences.n_items + 1, np.repeat(np.arange(sequences.n_users), sequences.lengths)
        followed = _training(sequences)[1:] & (users[1:] == users[:-1])
        item, follower = sequences.items[:-1][followed].astype(np.int64), sequences.items[1:][followed]
        pairs, counts = np.unique(item * n_rows + follower, return_counts=True)
        offsets = np.searchsorted(pairs, np.arange(n_rows + 1, dtype=np.int64) * n_rows)
        self.followers = torch.from_numpy(pairs % n_rows).to(device)
        self.follower_counts = torch.from_numpy(counts.astype(np.float32)).to(device)
        self.offsets = torch.from_numpy(offsets).to(device)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        scores = self.tie_break.repeat(len(items), 1)
        for row, last in enumerate(items[:, 0].tolist()):
            span = slice(int(self.offsets[last]), int(self.offsets[last + 1]))
            scores[row, self.followers[span]] += self.follower_counts[span]
        return scores
