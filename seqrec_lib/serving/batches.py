"""Many histories at once: which of them are read together, and how they are padded to one length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

POSITIONS = 4096  # of a batch, with its padding: more leave a core's second cache, fewer waste calls; measured

Read = Callable[[Sequence[np.ndarray]], np.ndarray]


def read_in_batches(histories: Sequence[np.ndarray], read: Read) -> np.ndarray:
    """``read`` of all histories, in their order: it takes B of (L,) int64 and gives (B, width)."""
    groups = list(batches([len(history) for history in histories], POSITIONS))
    if len(groups) == 1:
        return read(histories)
    parts = [read([histories[place] for place in places]) for places in groups]
    found = np.empty((len(histories), parts[0].shape[1]), np.float32)
    found[np.concatenate(groups)] = np.concatenate(parts)
    return found


def batches(lengths: Sequence[int], positions: int) -> Iterator[list[int]]:
    """Places of histories to be read together: like lengths together, at most so many positions with their padding.

    >>> list(batches([3, 50, 4, 2], positions=12))
    [[3, 0, 2], [1]]
    """
    chosen: list[int] = []
    for place in np.argsort(lengths, kind="stable").tolist():  # the longest comes last and decides the padding
        if chosen and lengths[place] * (len(chosen) + 1) > positions:
            yield chosen
            chosen = []
        chosen.append(place)
    if chosen:
        yield chosen


def padded(histories: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Histories as items (B, L) int64, 0 on the right, and lengths (B,) int64."""
    if len(histories) == 1:
        return torch.from_numpy(histories[0])[None], torch.tensor([len(histories[0])])
    lengths = np.array([len(history) for history in histories])
    items = np.zeros((len(histories), int(lengths.max())), np.int64)
    items[np.arange(items.shape[1]) < lengths[:, None]] = np.concatenate(histories)
    return torch.from_numpy(items), torch.from_numpy(lengths)
