"""Interactions as read from a raw file, and what turns them into sequences: k-core, ids, order, statistics.

The protocol (the book's page "Protocol"): iterative 5-core on users and items, repeated interactions
kept, order by timestamp with ties in file order. Other orders of time are those of other code bases, and
controls. Ids follow the sorted raw labels, so that the same raw data gives the same ids whoever processed
them in between, in whatever order of time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from seqrec_lib.data.sequences import Sequences
from seqrec_lib.errors import SeqRecError

Order = Literal["true", "recbole", "ties-item-id", "ties-random-0", "ties-random-1", "ties-random-2", "file-order"]
"""The order of a user's interactions. Two of one user are *tied* where their int64 timestamps are equal.

- ``true``: by timestamp, ties in file order. SASRec's file of MovieLens 1M has it, and what builds on that file.
- ``recbole``: by timestamp as a float32 number, equal ones in file order. RecBole stores times so by its defaults:
  numbers near 1e9 are then 64 apart, numbers near 1.6e12 (milliseconds) 131,072.
- ``ties-item-id``: by timestamp, ties by the source's item id, ascending. LRURec and LlamaRec sort so where these ids
  are numbers, as MovieLens has them.
- ``ties-random-0``, ``-1``, ``-2``: by timestamp, ties at random by that seed.
- ``file-order``: as the rows of the file come, whatever their timestamps.
"""
ORDERS: tuple[Order, ...] = get_args(Order)


@dataclass(frozen=True)
class Labels:
    """A column of text: ``names`` holds each label once, ``codes`` (n,) int32 say which one a row has.

    24 million rows of reviews by 11 million users then take 4 bytes a row and each name once, and no Python object.
    """

    codes: np.ndarray
    names: pa.LargeStringArray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: np.ndarray) -> Labels:
        return Labels(self.codes[rows], self.names)

    def tolist(self) -> list[str]:
        """The label of each row: a Python object for each, where `encode` has one for each label."""
        return self.names.take(pa.array(self.codes)).to_pylist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The labels as objects, where an array is asked for."""
        return self.names.to_numpy(zero_copy_only=False)[self.codes]


@dataclass(frozen=True)
class Interactions:
    """Rows of a raw file, in file order.

    users, items: (n,) raw labels: numbers (int64) or text
    timestamps: (n,) int64, in the source's unit
    ratings: (n,) float32, or None where the source has none
    titles: raw item label -> title; labels without a title are missing or map to ""
    skipped: malformed lines that were left out (``strict=False``)
    """

    users: np.ndarray | Labels
    items: np.ndarray | Labels
    timestamps: np.ndarray
    ratings: np.ndarray | None
    titles: Mapping[int | str, str]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.users)

    def select(self, keep: np.ndarray) -> Interactions:
        """The rows where the boolean mask ``keep`` holds, in the same order."""
        if keep.all():
            return self
        ratings = None if self.ratings is None else self.ratings[keep]
        return replace(
            self, users=self.users[keep], items=self.items[keep], timestamps=self.timestamps[keep], ratings=ratings
        )


def k_core(interactions: Interactions, k: int = 5, least: int = 1) -> Interactions:
    """Drop users and items with fewer than k interactions, again and again until all have k.

    Repeated (user, item) pairs count each time. The result does not depend on the order of removal; rows keep
    theirs. Raises SeqRecError, with the counts of each round, when fewer than ``least`` users or items are left.
    """
    keep, rounds = _core(interactions, k)
    if min(rounds[-1][1:]) < least:
        counts = "; ".join(f"{rows:,} of {users:,} users and {items:,} items" for rows, users, items in rounds)
        few = f"fewer than {least} users or items" if len(keep) else "no interactions"
        raise SeqRecError(
            f"{few} are left of {len(interactions):,} after {k}-core filtering (before it and after each round: "
            f"{counts}); use more data"
        )
    mask = np.zeros(len(interactions), dtype=bool)
    mask[keep] = True
    return interactions.select(mask)


def core_rounds(interactions: Interactions, k: int = 5) -> list[tuple[int, int, int]]:
    """(interactions, users, items): at first, and after each round of :func:`k_core`."""
    return _core(interactions, k)[1]


def _core(interactions: Interactions, k: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """The rows of the k-core, and the counts at first and after each round that removed something."""
    users, items = codes_of(interactions.users), codes_of(interactions.items)
    keep, rounds = np.arange(len(interactions)), []
    while True:
        of_users, of_items = np.bincount(users[keep]), np.bincount(items[keep])
        rounds.append((len(keep), int((of_users > 0).sum()), int((of_items > 0).sum())))
        passed = (of_users >= k)[users[keep]] & (of_items >= k)[items[keep]]
        if passed.all():
            return keep, rounds
        keep = keep[passed]


def drop_untitled(interactions: Interactions) -> Interactions:
    """Drop the interactions whose item has no title (missing, empty or blank)."""
    codes, labels = encode(interactions.items)
    titled = np.array([bool(interactions.titles.get(label, "").strip()) for label in labels.tolist()], dtype=bool)
    return interactions.select(titled[codes]) if len(codes) else interactions


def drop_duplicates(interactions: Interactions) -> Interactions:
    """Drop exact repetitions of (user, item, timestamp), keeping the first; other repeated pairs stay."""
    columns = (codes_of(interactions.users), codes_of(interactions.items), interactions.timestamps)
    order = np.lexsort(columns)  # stable: the first of equal rows in file order comes first
    same = np.logical_and.reduce([column[order][1:] == column[order][:-1] for column in columns])
    keep = np.ones(len(order), dtype=bool)
    keep[order[1:][same]] = False
    return interactions.select(keep)


def time_order(users: np.ndarray, items: np.ndarray, timestamps: np.ndarray, order: Order = "true") -> np.ndarray:
    """The permutation of rows that puts users one after another, each user's rows in the given order.

    Args:
        users, items: (n,) ranks of the source's labels; timestamps: (n,) int64; all in file order.
        order: see :data:`Order`.

    >>> time_order(np.array([0, 0, 0]), np.array([9, 7, 8]), np.array([5, 5, 4]), "ties-item-id").tolist()
    [2, 1, 0]
    """
    keys: tuple[np.ndarray, ...]
    match order:
        case "true":
            keys = (timestamps,)
        case "recbole":
            keys = (timestamps.astype(np.float32),)
        case "ties-item-id":
            keys = (items, timestamps)
        case "file-order":
            keys = ()
        case _:
            seed = int(order.removeprefix("ties-random-"))
            keys = (np.random.default_rng(seed).random(len(users)), timestamps)
    return np.lexsort((*keys, users))  # which is stable, and its last key counts first


def to_sequences(name: str, interactions: Interactions, order: Order = "true") -> Sequences:
    """Each user's interactions in the given order, as CSR arrays.

    Timestamps stay as they are in the source: outside the true order they can fall within a user. Item and
    user ids are the ranks of their labels in sorted order (numeric for integers, by code point for text);
    item ids start at 1, 0 is padding.
    """
    if not len(interactions):
        raise SeqRecError(f"data set {name!r} has no interactions; check the raw files")
    users, user_labels = _sorted_encode(interactions.users)
    items, item_labels = _sorted_encode(interactions.items)
    rows = time_order(users, items, interactions.timestamps, order)
    offsets = np.zeros(len(user_labels) + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=len(user_labels)), out=offsets[1:])
    labels = item_labels.tolist()
    titles = interactions.titles
    return Sequences(
        name=name,
        items=(items[rows] + 1).astype(np.int32),
        offsets=offsets,
        timestamps=interactions.timestamps[rows],
        ratings=None if interactions.ratings is None else interactions.ratings[rows],
        titles=("", *(titles.get(label, "") for label in labels)),
        item_labels=("", *(str(label) for label in labels)),
    )


def statistics(sequences: Sequences) -> dict[str, Any]:
    """Table 4's counts and what else describes a data set: numbers only, no titles or rows.

    Counts come twice: as they are, and (``*_with_padding``) with one padding id in each id space, as the
    paper's table prints them. ``tied_pairs`` and ``tied_last_two``: see :func:`ties`; they
    are of the timestamps, whatever the order of time.
    """
    items, offsets, times = sequences.items, sequences.offsets, sequences.timestamps
    lengths = np.diff(offsets)
    popularity = np.bincount(items, minlength=sequences.n_items + 1)[1:]
    owners = np.repeat(np.arange(sequences.n_users, dtype=np.int64), lengths)
    tied_pairs, tied_last_two = ties(offsets, times[np.lexsort((times, owners))])
    pairs = np.unique(owners * (sequences.n_items + 1) + items)
    quantiles = (0, 5, 25, 50, 75, 95, 100)
    return {
        "users": sequences.n_users,
        "items": sequences.n_items,
        "interactions": sequences.n_interactions,
        "users_with_padding": sequences.n_users + 1,
        "items_with_padding": sequences.n_items + 1,
        "density": sequences.n_interactions / (sequences.n_users * sequences.n_items),
        "length_mean": float(lengths.mean()),
        "length_quantiles": {f"{q}%": float(np.percentile(lengths, q)) for q in quantiles},
        "popularity_mean": float(popularity.mean()),
        "popularity_gini": gini(popularity),
        "tied_pairs": tied_pairs,
        "tied_last_two": tied_last_two,
        "repeated_pairs": int(sequences.n_interactions - len(pairs)),
        "first_timestamp": int(times.min()),
        "last_timestamp": int(times.max()),
        "has_ratings": sequences.ratings is not None,
        "has_titles": any(sequences.titles),
        "split_hash": sequences.split_hash,
    }


def ties(offsets: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """(share of consecutive interactions of a user with equal times, share of users whose last two are equal).

    Of the second, the tie rule decides the test item.

    >>> ties(np.array([0, 3, 6]), np.array([1, 2, 2, 2, 3, 4]))
    (0.25, 0.5)
    """
    tied = times[1:] == times[:-1]
    tied[offsets[1:-1] - 1] = False  # pairs that straddle two users
    lengths = np.diff(offsets)
    last = offsets[1:][lengths >= 2] - 1
    pairs = max(int((lengths - 1).sum()), 1)
    return float(tied.sum() / pairs), float((times[last] == times[last - 1]).sum() / len(lengths))


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of non-negative counts: 0 when all are equal, near 1 when one has everything.

    >>> gini(np.array([1, 1, 1, 1]))
    0.0
    >>> gini(np.array([0, 0, 0, 4]))
    0.75
    """
    ordered = np.sort(counts).astype(np.float64)
    n = len(ordered)
    ranks = np.arange(1, n + 1)
    return float(2 * (ranks * ordered).sum() / (n * ordered.sum()) - (n + 1) / n)


def codes_of(labels: np.ndarray | Labels) -> np.ndarray:
    """(n,) numbers from 0, equal for equal labels; not all of them need occur."""
    return labels.codes if isinstance(labels, Labels) else encode(labels)[0]


def encode(labels: np.ndarray | Labels) -> tuple[np.ndarray, np.ndarray]:
    """(codes, the distinct labels that occur), by hashing: much faster than sorting strings."""
    if isinstance(labels, Labels):
        occurs = np.bincount(labels.codes, minlength=len(labels.names)) > 0
        renumbered = np.cumsum(occurs) - 1
        return renumbered[labels.codes], labels.names.filter(pa.array(occurs)).to_numpy(zero_copy_only=False)
    array = pa.array(labels, type=pa.large_string() if labels.dtype == object else None)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    encoded = array.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return codes, encoded.dictionary.to_numpy(zero_copy_only=False)


def _sorted_encode(labels: np.ndarray | Labels) -> tuple[np.ndarray, np.ndarray]:
    """(ranks of the labels in sorted order, the distinct labels sorted)."""
    codes, distinct = encode(labels)
    order = np.argsort(distinct, kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[codes], distinct[order]
