"""What every server of recommendations shares: histories in, the best items out, one user at a time or many."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.fast.serving import kernels

MOST_KEPT_SORTED = 128  # above this k, a partition is faster than insertion


class Server:
    """Frozen weights of a model, laid out for serving. Later changes of the model do not reach it.

    Attributes:
        n_items: catalogue size. max_length: items of a history that are read, the latest; None: all.
        embedding: (n_items + 1, d) float32, C-contiguous.
        repeat_bias: added to the scores of a history's own items (see `seqrec_lib.models.repeats`).
        path: what computes an encoding, in a word: "compiled loops" or "tensor operations".
    """

    path = "tensor operations"
    repeat_bias: float = 0.0

    def __init__(self, n_items: int, max_length: int | None, embedding: np.ndarray) -> None:
        self.n_items, self.max_length, self.embedding = n_items, max_length, embedding

    def encode(self, history: np.ndarray) -> np.ndarray:
        """The model's output at the last item of a history: (L,) int64 ids, L >= 1 -> (d,) float32."""
        raise NotImplementedError

    def best(
        self, encoded: np.ndarray, k: int, left_out: np.ndarray, scores: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for an encoding, without those of ``left_out`` (int64): (ids, scores), best first.

        ``scores``, where given, is (n_items + 1,) float32 working space. Fewer than k items are followed by id 0 with
        -inf.
        """
        return select(self.score(encoded, scores), k, left_out)

    def score(self, encoded: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Scores of all items, -inf for id 0: (d,) -> (n_items + 1,)."""
        out = np.empty(self.n_items + 1, np.float32) if out is None else out
        kernels.scores(self.embedding, encoded, out)
        return out

    def recommend(
        self, histories: Sequence[Sequence[int] | np.ndarray], k: int = 10, *, exclude_seen: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next k items for each history (oldest first).

        Users are shared out among ``torch.get_num_threads()`` threads.

        Returns:
            Item ids (B, k) int64 and scores (B, k) float32, best first; id 0 and -inf where the catalogue ends.

        Raises:
            SeqRecError: an empty history, an id outside 1..n_items, or k < 1.
        """
        checked = [self.check(history) for history in histories]
        if k < 1:
            raise SeqRecError(f"k is {k}; ask for at least one recommendation")
        ids, best = np.empty((len(checked), k), np.int64), np.empty((len(checked), k), np.float32)

        def serve(rows: range) -> None:
            space = np.empty(self.n_items + 1, np.float32)
            for row in rows:
                history = checked[row]
                encoded = self.encode(self.cut(history))
                if exclude_seen or not self.repeat_bias:
                    ids[row], best[row] = self.best(encoded, k, history if exclude_seen else history[:0], space)
                    continue
                scores = self.score(encoded, space)
                scores[np.unique(history)] += self.repeat_bias
                ids[row], best[row] = select(scores, k, history[:0])

        workers = min(torch.get_num_threads(), len(checked))
        if workers <= 1:
            serve(range(len(checked)))
        else:
            with ThreadPoolExecutor(workers) as pool:
                for part in [pool.submit(serve, range(i, len(checked), workers)) for i in range(workers)]:
                    part.result()
        return ids, best

    def check(self, history: Sequence[int] | np.ndarray) -> np.ndarray:
        """The history as (L,) int64.

        Raises:
            SeqRecError: it is empty, or has an id outside 1..n_items.
        """
        items = np.ascontiguousarray(history, dtype=np.int64)
        if items.ndim != 1 or not items.size:
            raise SeqRecError("an empty history; give at least one item id")
        if items.min() < 1 or items.max() > self.n_items:
            wrong = int(items[(items < 1) | (items > self.n_items)][0])
            raise SeqRecError(f"item id {wrong} is not in the catalogue; ids run from 1 to {self.n_items}")
        return items

    def cut(self, history: np.ndarray) -> np.ndarray:
        """The part of a history that the model reads."""
        return history if self.max_length is None else history[-self.max_length :]


class SteppingServer(Server):
    """A server that also takes one more event of a known user, without reading the history again."""

    def start(self, history: np.ndarray) -> Any:
        """The state after a history: (L,) int64, L >= 0."""
        raise NotImplementedError

    def step(self, state: Any, item: int) -> np.ndarray:
        """One more item: changes ``state`` in place and gives the encoding (d,)."""
        raise NotImplementedError

    def state_bytes(self, length: int) -> int:
        """Size of a user's state after ``length`` items."""
        raise NotImplementedError


def select(scores: np.ndarray, k: int, left_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k best of scores (n_items + 1,), which lose those of ``left_out``; see `Server.best`."""
    ids, best = np.zeros(k, np.int64), np.full(k, -np.inf, np.float32)
    if k <= MOST_KEPT_SORTED:
        kernels.top_k(scores, left_out, ids, best)
        return ids, best
    scores[left_out] = -np.inf
    found = np.argsort(-scores, kind="stable")[:k]
    ids[: len(found)], best[: len(found)] = found, scores[found]
    ids[np.isneginf(best)] = 0
    return ids, best
