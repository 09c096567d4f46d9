"""Sequences: every user's items in order, as two flat arrays; the leave-one-out split; windows and batches.

A data set in memory is a CSR structure: `items` holds all users' item ids one user after another, `offsets` says
where each user begins. A history, a window or a batch is then a range of indices into `items`, on the CPU or
resident on a GPU, and never a copy of the data.

Glossary: a *history* is what a model may see; its *target* is the item that follows. A *window* is a stretch of a
training sequence with at most `length` inputs; it trains the targets of its *fresh* positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from seqrec_lib.errors import SeqRecError

SplitName = Literal["train", "valid", "test"]


@dataclass(frozen=True)
class Histories:
    """One prediction task per entry: given ``items[start:stop]``, rank all items and find ``target``.

    start, stop: (n,) int64, indices into ``Sequences.items``; target: (n,) int32, item ids.
    """

    start: np.ndarray
    stop: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray) -> Histories:
        """Some of the tasks: indices, or a mask."""
        return Histories(self.start[rows], self.stop[rows], self.targets[rows])


@dataclass(frozen=True)
class Sequences:
    """A processed data set. Item ids run from 1 to ``n_items``; 0 is padding.

    Attributes:
        name: data set id.
        items: (n_interactions,) int32, users one after another, each in chronological order.
        offsets: (n_users + 1,) int64; user u is ``items[offsets[u]:offsets[u + 1]]``.
        timestamps: (n_interactions,) int64, in the source's unit.
        ratings: (n_interactions,) float32, or None where the source has none.
        titles: (n_items + 1,) item titles; "" for the padding id and where a title is unknown.
        item_labels: (n_items + 1,) the source's own ids as text; "" for the padding id.

    Raises:
        SeqRecError: a user has fewer than three items, so that leave-one-out leaves nothing to train on.
    """

    name: str
    items: np.ndarray
    offsets: np.ndarray
    timestamps: np.ndarray
    ratings: np.ndarray | None
    titles: tuple[str, ...]
    item_labels: tuple[str, ...]

    def __post_init__(self) -> None:
        shortest = int(self.lengths.min()) if self.n_users else 0
        if shortest < 3:
            raise SeqRecError(
                f"{self.name}: a user has {shortest} interactions; leave-one-out needs 3 of each user: filter first"
            )

    def description(self) -> dict[str, str | int]:
        """What a record says of the data: name, counts, and the hash of the split."""
        return {
            "name": self.name,
            "n_users": self.n_users,
            "n_items": self.n_items,
            "n_interactions": self.n_interactions,
            "split_sha256": self.split_hash,
        }

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_items(self) -> int:
        return len(self.titles) - 1

    @property
    def n_interactions(self) -> int:
        return len(self.items)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n_users,) number of interactions of each user."""
        return np.diff(self.offsets)

    @cached_property
    def split_hash(self) -> str:
        """sha256 (hex) of the counts, offsets and items: equal hashes mean equal histories and targets."""
        digest = hashlib.sha256(f"{self.n_users} {self.n_items} ".encode())
        digest.update(np.ascontiguousarray(self.offsets, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.items, dtype="<i4").tobytes())
        return digest.hexdigest()

    def split(self, name: SplitName) -> Histories:
        """Leave-one-out: each user's last item is the test target, the one before it the validation target.

        A test history includes the validation item. ``train`` gives each user's training sequence with its
        last item as the target; training itself uses every position of it (see :func:`cut_windows`).
        """
        held_out = {"test": 1, "valid": 2, "train": 3}.get(name)
        if held_out is None:
            raise SeqRecError(f"unknown split {name!r}; use train, valid or test")
        stop = self.offsets[1:] - held_out
        return Histories(self.offsets[:-1], stop, self.items[stop])


@dataclass(frozen=True)
class Windows:
    """Stretches of training sequences: inputs ``items[start:stop]``, targets ``items[start + 1:stop + 1]``.

    The loss is taken at the positions ``fresh .. stop - 1``; the inputs before ``fresh`` are context only.
    start, fresh, stop: (n,) int64.
    """

    start: np.ndarray
    fresh: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def lengths(self) -> np.ndarray:
        return self.stop - self.start


def cut_windows(
    sequences: Sequences, length: int, *, stride: int | None = None, rng: np.random.Generator | None = None
) -> Windows:
    """Cut the training sequences so that every target is trained exactly once.

    A training sequence that fits is one window. A longer one is cut at every ``stride`` positions; each window
    reaches back over ``length`` inputs, so a target of a long history sees at least ``length - stride`` items.
    With ``rng`` the cuts shift at random (draw anew each epoch), so that no target is always short of context.

    Args:
        length: inputs of a window, at most; ``stride``: fresh targets of a window, at most (default: ``length``).

    Raises:
        SeqRecError: ``stride`` is not in 1..length.
    """
    stride = length if stride is None else stride
    if not 1 <= stride <= length:
        raise SeqRecError(f"windows of {length} items need a stride in 1..{length}, not {stride}")
    first = sequences.offsets[:-1]
    n_inputs = sequences.lengths - 3  # the last two items are held out, and a target follows each input
    trained = n_inputs > 0
    first, n_inputs = first[trained], n_inputs[trained]

    long = n_inputs > length
    phase = np.full(len(first), stride, dtype=np.int64)  # the first cut of a long sequence
    if rng is not None:
        phase[long] = rng.integers(1, stride, size=int(long.sum()), endpoint=True)
    pieces = np.where(long, 1 + -(-(n_inputs - phase) // stride), 1)
    owner = np.repeat(np.arange(len(first)), pieces)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)

    fresh = np.where(piece == 0, 0, phase[owner] + (piece - 1) * stride)
    stop = np.where(long[owner], np.minimum(phase[owner] + piece * stride, n_inputs[owner]), n_inputs[owner])
    start = np.maximum(stop - length, 0)
    base = first[owner]
    return Windows(base + start, base + fresh, base + stop)


def prefixes(sequences: Sequences, length: int) -> Windows:
    """Every training prefix as a window of its own with one fresh target, its last: the paper's samples."""
    counts = sequences.lengths - 3
    owner = np.repeat(np.arange(sequences.n_users), counts)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    stop = sequences.offsets[:-1][owner] + position + 1
    start = np.maximum(stop - length, sequences.offsets[:-1][owner])
    return Windows(start, stop - 1, stop)


def bucketed_batches(lengths: np.ndarray, tokens: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
    """Group windows of similar length into batches of at most ``tokens`` padded positions.

    With ``rng``, windows of equal rank are shuffled, and so is the order of the batches. A single window longer
    than ``tokens`` makes a batch of its own.

    Returns:
        index arrays into ``lengths``, which together name each window once.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    order = order[np.argsort(-lengths[order], kind="stable")]
    batches: list[np.ndarray] = []
    begin = 0
    while begin < len(order):
        size = max(1, tokens // int(lengths[order[begin]]))
        batches.append(order[begin : begin + size])
        begin += size
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def batches_by_step(
    lengths: np.ndarray, samples: int, tokens: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Random groups of ``samples`` windows, each group in batches of similar length (see `bucketed_batches`).

    Returns:
        the batches of all groups one after another, and (n_groups,) the number of batches up to the end of each group.
    """
    order = rng.permutation(len(lengths))
    groups = [order[begin : begin + samples] for begin in range(0, len(order), samples)]
    parts = [[group[batch] for batch in bucketed_batches(lengths[group], tokens)] for group in groups]
    return [batch for part in parts for batch in part], np.cumsum([len(part) for part in parts])


def padding_share(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    """The share of padded positions in rectangular batches: 1 - real / (rows x longest row)."""
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1.0 - float(lengths.sum()) / padded if padded else 0.0


class WindowDataset:
    """A map-style data set for an unmodified ``torch.utils.data.DataLoader``: (inputs, targets) per window.

    Both are int64 numpy arrays of the fixed ``length``, right-padded with 0; targets are 0 where no loss is taken,
    so that rows of any batch stack.
    """

    def __init__(self, sequences: Sequences, windows: Windows, length: int) -> None:
        longest = int(windows.lengths.max()) if len(windows) else 0
        if longest > length:
            raise SeqRecError(f"a window of {longest} items does not fit into {length}; cut the windows shorter")
        self.sequences, self.windows, self.length = sequences, windows, length

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        start, fresh, stop = (int(x[index]) for x in (self.windows.start, self.windows.fresh, self.windows.stop))
        inputs = np.zeros(self.length, dtype=np.int64)
        targets = np.zeros(self.length, dtype=np.int64)
        inputs[: stop - start] = self.sequences.items[start:stop]
        targets[fresh - start : stop - start] = self.sequences.items[fresh + 1 : stop + 1]
        return inputs, targets


def user_batches(histories: Histories, size: int) -> Iterator[np.ndarray]:
    """Index arrays of at most ``size`` histories, those of similar length together."""
    order = np.argsort(histories.stop - histories.start, kind="stable")
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]
