"""Preference pairs for tuning a ranker: what a user chose, and what was worse.

The paper (section 3.5) names two parts:

1. `by_rating`: of the user's last two items, the higher rated wins. A tie is left out, and counted.
2. `by_factors`: the user's last item wins against the worst recommendation of a trained LightFM model (Kula 2015; its
   WARP loss), of the whole catalogue.

"Last" is the last of the *training* sequence. Read word for word, "the user's last item" is the test item, and tuning
on it tells the ranker the answers: `last_items` with ``leaky=True`` does just that, to show what it would look like.
Its numbers are no result.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqrec_lib.data.sequences import Histories, Sequences
from seqrec_lib.errors import SeqRecError
from seqrec_lib.language.candidates import random_items

SHORTEST = 1  # items of history that a pair needs


@dataclass(frozen=True)
class Pairs:
    """n pairs of items with the histories before them.

    Attributes:
        histories: what comes before; its targets are the winners.
        losers: (n,) int32 item ids.
        ties: users left out because both ratings are equal; short: because too little history is left.
    """

    histories: Histories
    losers: np.ndarray
    ties: int = 0
    short: int = 0

    def __len__(self) -> int:
        return len(self.losers)


def by_rating(sequences: Sequences) -> Pairs:
    """Part 1: the last two rated items of each training sequence, the higher rated as the winner.

    Raises:
        SeqRecError: the data set has no ratings, or every pair ties.
    """
    if sequences.ratings is None:
        raise SeqRecError(
            f"{sequences.name} has no ratings, so that no item is rated above another; use pairs of part 2 alone"
        )
    end = sequences.offsets[1:] - 2  # one behind the last training item
    long = end - 2 - sequences.offsets[:-1] >= SHORTEST
    start, last = sequences.offsets[:-1][long], end[long] - 1
    difference = sequences.ratings[last] - sequences.ratings[last - 1]
    untied = (difference != 0) & (sequences.items[last] != sequences.items[last - 1])
    if not untied.any():
        raise SeqRecError(f"{sequences.name}: the last two ratings tie for every user; use pairs of part 2 alone")
    start, last, higher = start[untied], last[untied], difference[untied] > 0
    winners = np.where(higher, sequences.items[last], sequences.items[last - 1])
    losers = np.where(higher, sequences.items[last - 1], sequences.items[last])
    return Pairs(Histories(start, last - 1, winners), losers, int((~untied).sum()), int((~long).sum()))


def last_items(sequences: Sequences, *, leaky: bool = False) -> tuple[np.ndarray, Histories]:
    """(users, their last training item as the target after what comes before it); users without history are out."""
    stop = sequences.offsets[1:] - (1 if leaky else 3)
    users = np.flatnonzero(stop - sequences.offsets[:-1] >= SHORTEST)
    return users, Histories(sequences.offsets[:-1][users], stop[users], sequences.items[stop[users]])


def lightfm_class() -> Any:
    """LightFM's class. Raises SeqRecError where it is not installed."""
    try:
        with warnings.catch_warnings():
            # Where its extension for several threads does not load, it says so: one thread is what is wanted here.
            warnings.filterwarnings("ignore", "LightFM was compiled without OpenMP", UserWarning)
            from lightfm import LightFM
    except ImportError as error:
        raise SeqRecError(
            f"LightFM is missing ({error}); pip install 'lightfm-next>=1.19' (needs a C compiler)"
        ) from None
    return LightFM


def fit_factors(sequences: Sequences, *, components: int = 32, epochs: int = 20) -> Any:
    """LightFM with the WARP loss on the training sequences (users, items from 0); one thread, so that it repeats."""
    from scipy.sparse import coo_matrix

    make = lightfm_class()
    users = np.repeat(np.arange(sequences.n_users), sequences.lengths)
    training = np.arange(sequences.n_interactions) < sequences.offsets[1:][users] - 2
    rows, columns = users[training], sequences.items[training] - 1
    pairs = np.unique(np.stack([rows, columns]), axis=1)  # a repeated interaction counts once
    matrix = coo_matrix(
        (np.ones(pairs.shape[1], np.float32), (pairs[0], pairs[1])), shape=(sequences.n_users, sequences.n_items)
    )
    model = make(no_components=components, loss="warp", random_state=0)
    return model.fit(matrix, epochs=epochs, num_threads=1)


def factor_scores(model: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n, K) scores of a `fit_factors` model for users (n,) and items (n, K)."""
    own = model.user_embeddings[users][:, None] * model.item_embeddings[items - 1]
    return np.asarray(own.sum(-1) + model.item_biases[items - 1], dtype=np.float64)


def by_factors(sequences: Sequences, model: Any) -> Pairs:
    """Part 2: each user's last training item against LightFM's worst, which is never an item of the user's own."""
    users, histories = last_items(sequences)
    losers = np.empty(len(users), np.int32)
    for rows in np.array_split(np.arange(len(users)), range(1024, len(users), 1024)):
        scores = (model.user_embeddings[users[rows]] @ model.item_embeddings.T + model.item_biases).astype(np.float32)
        for row, own in zip(rows, scores, strict=True):
            own[sequences.items[histories.start[row] : histories.stop[row] + 1] - 1] = np.inf
        losers[rows] = scores.argmin(1) + 1
    return Pairs(histories, losers, short=sequences.n_users - len(users))


def pool_of(pairs: Pairs, sequences: Sequences, k: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """(n, k) int32 candidates for pairs, shuffled: winner, loser, random items; the places (n,) of the first two."""
    others = random_items(sequences, pairs.histories, k - 2, rng, pairs.losers[:, None])
    both = np.stack([pairs.histories.targets, pairs.losers], axis=1).astype(np.int32)
    order = rng.permuted(np.tile(np.arange(k), (len(pairs), 1)), axis=1)
    items = np.take_along_axis(np.concatenate([both, others], axis=1), order, 1)
    return items, (order == 0).argmax(1), (order == 1).argmax(1)
