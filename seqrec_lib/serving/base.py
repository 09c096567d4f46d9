"""What every server of recommendations shares: histories in, the best items out, one user at a time or many.

One user is answered without a tensor operation where there are compiled loops. Many users share what can be shared:
their scores are one matrix product, since each row of the item embedding is then read once for all of them and not once
for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from seqrec_lib.errors import SeqRecError
from seqrec_lib.models.base import refuse_past_window
from seqrec_lib.ssm.backends import missing

MOST_KEPT_SORTED = 128  # above this k, a partition is faster than insertion
SCORES = 2**22  # numbers of a block of scores (16 MiB)
FEWEST_SCORED, MOST_SCORED = 16, 256  # users of a block, whatever the catalogue
LARGE_CATALOGUE = 2**22  # numbers of an embedding that several threads read faster than one


def _kernels() -> Any:
    """The compiled loops; None without numba. Imported here, since importing them compiles or reads machine code."""
    if missing("cpu"):
        return None
    from seqrec_lib.fast.serving import kernels

    return kernels


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
        kernels = _kernels()
        if kernels is None or (self.embedding.size >= LARGE_CATALOGUE and torch.get_num_threads() > 1):
            torch.mv(torch.from_numpy(self.embedding), torch.from_numpy(encoded), out=torch.from_numpy(out))
            out[0] = -np.inf
        else:
            kernels.scores(self.embedding, encoded, out)
        return out

    def encode_many(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """`encode` of each history: B of (L,) int64 -> (B, d). The threads of PyTorch share them out."""
        found: list[Any] = [None] * len(histories)
        turns = max(1, torch.get_num_threads())  # neighbours may be of like length: they go to different threads

        def several(parts: slice) -> None:
            for part in range(parts.start, parts.stop):
                for place in range(part, len(histories), turns):
                    found[place] = self.encode(histories[place])

        _share_out(several, min(turns, len(histories)), threads=turns)
        return np.stack(found)

    def score_many(self, encoded: np.ndarray) -> np.ndarray:
        """`score` of each encoding: (B, d) -> (B, n_items + 1)."""
        scores: np.ndarray = (torch.from_numpy(encoded) @ torch.from_numpy(self.embedding).T).numpy()
        scores[:, 0] = -np.inf
        return scores

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
        checked = self.check_all(histories)
        if k < 1:
            raise SeqRecError(f"k is {k}; ask for at least one recommendation")
        ids, best = np.empty((len(checked), k), np.int64), np.empty((len(checked), k), np.float32)
        block = min(max(SCORES // (self.n_items + 1), FEWEST_SCORED), MOST_SCORED)
        for begin in range(0, len(checked), block):
            users = checked[begin : begin + block]
            if len(users) == 1:
                scores = self.score(self.encode(self.cut(users[0])))[None]
            else:
                scores = self.score_many(self.encode_many([self.cut(history) for history in users]))
            if self.repeat_bias and not exclude_seen:
                for row, history in zip(scores, users, strict=True):
                    row[np.unique(history)] += self.repeat_bias
            left_out = users if exclude_seen else [history[:0] for history in users]
            _select_rows(scores, left_out, ids[begin : begin + block], best[begin : begin + block])
        return ids, best

    def check(self, history: Sequence[int] | np.ndarray) -> np.ndarray:
        """The history as (L,) int64.

        Raises:
            SeqRecError: it is empty, or has an id outside 1..n_items.
        """
        return self.check_all([history])[0]

    def check_all(self, histories: Sequence[Sequence[int] | np.ndarray]) -> list[np.ndarray]:
        """Each history as (L,) int64; see `check`."""
        checked = [np.ascontiguousarray(history, dtype=np.int64) for history in histories]
        if any(items.ndim != 1 or not items.size for items in checked):
            raise SeqRecError("an empty history; give at least one item id")
        items = np.concatenate(checked) if len(checked) > 1 else checked[0] if checked else np.ones(1, np.int64)
        if items.min() < 1 or items.max() > self.n_items:
            wrong = int(items[(items < 1) | (items > self.n_items)][0])
            raise SeqRecError(f"item id {wrong} is not in the catalogue; ids run from 1 to {self.n_items}")
        return checked

    def cut(self, history: np.ndarray) -> np.ndarray:
        """The part of a history that the model reads."""
        return history if self.max_length is None else history[-self.max_length :]


class SteppingServer(Server):
    """A server that also takes one more event of a known user, without reading the history again.

    A stream gives what `encode` gives for the whole history, at every length up to the window of ``max_length`` items,
    and ends there: the next item is refused, whatever the model (`refuse_past_window` says why). A stream is then
    started anew, with at most ``max_length`` - 1 of the latest items; the fewer, the longer it lasts, and the less it
    knows. A repeat bias is no part of an encoding: `recommend` adds it.
    """

    def start(self, history: Sequence[int] | np.ndarray) -> Any:
        """The state after a history: (L,) item ids, 0 <= L < max_length.

        Raises:
            SeqRecError: the window has no room for one more item, or an id is outside 1..n_items.
        """
        items = self.check(history) if len(history) else np.empty(0, np.int64)
        refuse_past_window(len(items), self.max_length)
        return self._begin(items)

    def step(self, state: Any, item: int) -> np.ndarray:
        """One more item: changes ``state`` in place and gives the encoding (d,).

        Raises:
            SeqRecError: the window is full, or the id is outside 1..n_items. The state stays as it was.
        """
        refuse_past_window(state.length, self.max_length)
        if not 1 <= item <= self.n_items:
            self.check([item])
        encoded = self._follow(state, item)
        state.length += 1
        return encoded

    def _begin(self, history: np.ndarray) -> Any:
        """The state after a history that was checked; it counts its items in ``length``."""
        raise NotImplementedError

    def _follow(self, state: Any, item: int) -> np.ndarray:
        """One more item, checked: the encoding. ``state.length`` is left to the caller."""
        raise NotImplementedError

    def state_bytes(self, length: int) -> int:
        """Size of a user's state after ``length`` items."""
        raise NotImplementedError


def select(scores: np.ndarray, k: int, left_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The k best of scores (n_items + 1,), which lose those of ``left_out``; see `Server.best`."""
    ids, best = np.zeros(k, np.int64), np.full(k, -np.inf, np.float32)
    kernels = _kernels()
    if k <= MOST_KEPT_SORTED and kernels is not None:
        kernels.top_k(scores, left_out, ids, best)
        return ids, best
    scores[left_out] = -np.inf
    least = torch.from_numpy(scores).topk(min(k, len(scores))).values[-1].item()
    candidates = np.flatnonzero(scores >= least)  # in the order of ids, so that of equals the smaller one comes first
    found = candidates[np.argsort(-scores[candidates], kind="stable")[:k]]
    ids[: len(found)], best[: len(found)] = found, scores[found]
    ids[np.isneginf(best)] = 0
    return ids, best


def _select_rows(scores: np.ndarray, left_out: Sequence[np.ndarray], ids: np.ndarray, best: np.ndarray) -> None:
    """`select` for each row of scores (B, n_items + 1), into ids and best (B, k)."""
    kernels, k = _kernels(), ids.shape[1]
    if len(scores) == 1:
        ids[0], best[0] = select(scores[0], k, left_out[0])
        return
    stops = np.cumsum([len(items) for items in left_out])
    items = np.concatenate(left_out)
    many = scores.size >= SCORES // 2  # else starting threads takes longer than what they do

    def several(rows: slice) -> None:
        if k <= MOST_KEPT_SORTED and kernels is not None:
            kernels.top_k_rows(scores, items, stops, rows.start, rows.stop, ids, best)
            return
        for row in range(rows.start, rows.stop):
            ids[row], best[row] = select(scores[row], k, left_out[row])

    _share_out(several, len(scores), threads=torch.get_num_threads() if many else 1)


def _share_out(act: Callable[[slice], None], count: int, threads: int) -> None:
    """act(slice) for slices that make up range(count), by so many threads."""
    threads = min(threads, count)
    if threads <= 1:
        act(slice(0, count))
        return
    cuts = np.linspace(0, count, threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        for part in [pool.submit(act, slice(*ends)) for ends in pairwise(cuts)]:
            part.result()
