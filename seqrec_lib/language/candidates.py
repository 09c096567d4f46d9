"""Candidates of a retriever: its first K items for each history, and pools of candidates to train a ranker on.

A pool for training holds the item that was really chosen and K - 1 others: at random over the catalogue in random order
(LlamaRec's way), the retriever's own first ones, or half of each.

Glossary: n histories, K candidates, V = items + 1 scores. ``place``: where the target stands in a pool, -1: nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.data.sequences import Histories, Sequences, user_batches
from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.ranking import Recommender, check_scores, gather_histories, target_ranks

SHORTEST = 2  # items of a history to learn from
_USERS_AT_A_TIME = 256


@dataclass(frozen=True)
class Pools:
    """Candidates of n histories: items (n, K) int32, the retriever's scores (n, K) float32, place (n,) int64."""

    items: np.ndarray
    scores: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: np.ndarray) -> Pools:
        """Some of the pools."""
        return Pools(self.items[rows], self.scores[rows], self.place[rows])

    def arranged(self, order: np.ndarray) -> Pools:
        """Each pool in another order, (n, K) indices into it; the target's place moves with it."""
        place = np.where(self.place >= 0, (order == self.place[:, None]).argmax(1), -1)
        return Pools(np.take_along_axis(self.items, order, 1), np.take_along_axis(self.scores, order, 1), place)


def check_histories(sequences: Sequences, k: int) -> None:
    """What the data must hold for pools of ``k`` candidates, known before any training.

    The test histories are the longest: where they leave ``k`` unseen items, all others leave enough.

    Raises:
        SeqRecError: a test history leaves fewer than ``k`` unseen items, or no training sequence has a prefix to learn
            from (`sample_prefixes`).
    """
    lengths = sequences.lengths - 1
    users = np.repeat(np.arange(sequences.n_users), lengths)
    seen = np.delete(sequences.items, sequences.offsets[1:] - 1)
    pairs = np.unique(users * (sequences.n_items + 1) + seen)  # an item counts once, however often it was had
    least = sequences.n_items - int(np.bincount(pairs // (sequences.n_items + 1), minlength=1).max())
    if not 2 <= k <= least:
        raise SeqRecError(
            f"{sequences.name}: {k} candidates, but a history leaves only {least} of {sequences.n_items} items unseen; "
            "set candidates to between 2 and that many, or use data with more items"
        )
    if int(lengths.max()) - 1 <= SHORTEST:
        raise SeqRecError(
            f"{sequences.name}: no user has {SHORTEST + 3} interactions, so that no training sequence has a history of "
            f"{SHORTEST} items and a target; use longer histories"
        )


@torch.no_grad()
def retrieve(
    model: Recommender, sequences: Sequences, histories: Histories, k: int, *, exclude_seen: bool = True
) -> tuple[Pools, np.ndarray]:
    """The retriever's first ``k`` items for each history, best first, and the target's rank in its whole list.

    With ``exclude_seen`` the items of the history are no candidates, also the target where it is one of them.

    Raises:
        SeqRecError: a history leaves fewer than ``k`` unseen items.
        ValueError: the model's scores are NaN or +inf, or -inf for a target.
    """
    n = len(histories)
    found, scores = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    rank = np.empty(n, np.int32)
    for batch, values in _scored(model, sequences, histories, exclude_seen):
        best = values.topk(k)
        if bool(torch.isinf(best.values).any()):
            raise SeqRecError(f"a history leaves fewer than {k} unseen items; ask for fewer candidates")
        found[batch], scores[batch] = best.indices.numpy(), best.values.numpy()
        targets = torch.from_numpy(histories.targets[batch].astype(np.int64))
        hidden = torch.isinf(values.gather(1, targets[:, None])[:, 0])  # a target that was seen before ranks last
        values[hidden] = values[hidden].scatter(1, targets[hidden, None], torch.finfo(torch.float32).min)
        rank[batch] = target_ranks(values, targets)[0].masked_fill(hidden, sequences.n_items).numpy()
    hit = found == histories.targets[:, None]
    return Pools(found, scores, np.where(hit.any(1), hit.argmax(1), -1)), rank


@torch.no_grad()
def pool_scores(model: Recommender, sequences: Sequences, histories: Histories, items: np.ndarray) -> np.ndarray:
    """The retriever's scores of given items (n, K), float32."""
    scores = np.empty(items.shape, np.float32)
    for batch, values in _scored(model, sequences, histories, False):
        scores[batch] = values.gather(1, torch.from_numpy(items[batch].astype(np.int64))).numpy()
    return scores


def _scored(
    model: Recommender, sequences: Sequences, histories: Histories, exclude_seen: bool
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """(indices, scores) of one batch of histories after another; what `retrieve` raises of scores is raised here."""
    items = torch.from_numpy(sequences.items).to(torch.int64)
    for batch in user_batches(histories, _USERS_AT_A_TIME):
        start, stop = (torch.from_numpy(x[batch]).to(torch.int64) for x in (histories.start, histories.stop))
        values = model.score(*gather_histories(items, start, stop, model.max_length)).clone()
        check_scores(values, torch.from_numpy(histories.targets[batch].astype(np.int64)))  # before any is hidden
        if exclude_seen:
            seen, lengths = gather_histories(items, start, stop, None)
            rows = torch.arange(len(seen)).repeat_interleave(lengths)
            real = torch.arange(seen.shape[1]) < lengths[:, None]
            values[rows, seen[real]] = -torch.inf
        yield batch, values


def sample_prefixes(sequences: Sequences, per_user: int, rng: np.random.Generator) -> Histories:
    """Up to ``per_user`` prefixes of each training sequence with their next items, drawn without repetition.

    A user whose training sequence is too short for a history of `SHORTEST` items gives none.
    """
    owners, positions = [], []
    for user, (begin, end) in enumerate(zip(sequences.offsets[:-1], sequences.offsets[1:] - 2, strict=True)):
        choices = np.arange(begin + SHORTEST, end)
        drawn = np.sort(rng.permutation(choices)[:per_user])
        owners.append(np.full(len(drawn), user))
        positions.append(drawn)
    owner, stop = np.concatenate(owners), np.concatenate(positions).astype(np.int64)
    return Histories(sequences.offsets[:-1][owner], stop, sequences.items[stop])


def random_items(
    sequences: Sequences, histories: Histories, k: int, rng: np.random.Generator, also: np.ndarray | None = None
) -> np.ndarray:
    """(n, k) int32: distinct items for each history, uniform over those that are neither in it nor its target.

    ``also``: (n, m) further items to leave out. Every history leaves ``k`` (`check_histories`).
    """
    found = np.empty((len(histories), k), np.int32)
    for row, (start, stop, target) in enumerate(zip(histories.start, histories.stop, histories.targets, strict=True)):
        free = np.ones(sequences.n_items + 1, dtype=bool)
        free[0] = free[target] = False
        free[sequences.items[start:stop]] = False
        if also is not None:
            free[also[row]] = False
        found[row] = rng.choice(np.flatnonzero(free), k, replace=False)
    return found


def training_pools(
    model: Recommender,
    sequences: Sequences,
    histories: Histories,
    k: int,
    rng: np.random.Generator,
    *,
    negatives: str = "random",
    order: str = "shuffled",
) -> Pools:
    """Pools of the target and ``k`` - 1 others (random | retriever | mixed) for each history, shuffled or ordered."""
    hard = {"random": 0, "retriever": k - 1, "mixed": (k - 1) // 2}[negatives]
    others = np.empty((len(histories), 0), np.int32)
    if hard:
        first, _ = retrieve(model, sequences, histories, hard + 1)
        wrong = first.items != histories.targets[:, None]
        wrong[wrong.all(1), -1] = False  # one too many where the target is not among them
        others = first.items[wrong].reshape(len(histories), hard)
    if hard < k - 1:
        others = np.concatenate([others, random_items(sequences, histories, k - 1 - hard, rng, others)], axis=1)
    items = np.concatenate([histories.targets[:, None].astype(np.int32), others], axis=1)
    scores = pool_scores(model, sequences, histories, items)
    pools = Pools(items, scores, np.zeros(len(items), dtype=np.int64))
    if order == "ordered":
        return pools.arranged(np.argsort(-scores, axis=1, kind="stable"))
    return pools.arranged(rng.permuted(np.tile(np.arange(k), (len(items), 1)), axis=1))
