"""Many histories at once: which of them are read together, and how they are padded to one length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

POSITIONS = 2048  # of a batch: what a layer of width 64 writes for them stays in a core's second cache


def batches(lengths: Sequence[int], positions: int = POSITIONS) -> Iterator[list[int]]:
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
