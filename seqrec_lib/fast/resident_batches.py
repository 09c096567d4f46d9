"""An epoch's batches on the device: gathered there by index, in shapes that the host knows without asking.

The data set's events lie on the device for the whole run; of an epoch there are only where its windows begin and end,
in the order of its batches, and a cursor. Gathering the batch under the cursor needs nothing from the host, and nothing
that the host would have to wait for, so that a step can be recorded once and replayed (`seqrec_lib.fast.cuda_graphs`).

Replaying needs few shapes. A batch is therefore filled up with empty rows, padding and targets that do not count, to a
number of rows and a length which its bucket of lengths has in common, and a number of targets on a coarse grid.

Glossary: R rows, L positions, P targets of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqrec_lib.data.sequences import Windows
from seqrec_lib.train.step import Batch

_SLACK = 8  # buffers are larger than the first epoch by one part in so many: the number of windows varies


class Shape(NamedTuple):
    """Of a batch: R, L and P."""

    rows: int
    length: int
    targets: int

    @property
    def positions(self) -> int:
        return self.rows * self.length


def coarse(n: int) -> int:
    """``n`` rounded up to three binary digits: at most a quarter is added.

    >>> [coarse(n) for n in (1, 8, 9, 16, 17, 49, 200)]
    [1, 8, 10, 16, 20, 56, 224]
    """
    unit = _unit(n)
    return -(-n // unit) * unit


def _unit(n: int) -> int:
    return 1 << max(0, (n - 1).bit_length() - 3)


def rounded(shape: Shape, longest: int, tokens: int) -> Shape:
    """The shape that ``shape`` is filled up to, as are all batches of like length.

    Args:
        shape: of a batch of :func:`seqrec_lib.data.sequences.bucketed_batches`.
        longest: items of the longest window that there can be; ``tokens``: padded positions of a batch, at most.

    >>> rounded(Shape(8, 199, 1100), 200, 1600), rounded(Shape(30, 50, 990), 200, 1600)
    (Shape(rows=8, length=200, targets=1280), Shape(rows=32, length=56, targets=1024))
    """
    bucket = coarse(shape.length)
    shortest = bucket - _unit(bucket) + 1  # a batch of this bucket has most rows where its windows are so short
    rows, length = max(1, tokens // shortest), min(bucket, max(longest, shape.length))
    return Shape(rows, length, min(coarse(shape.targets), rows * length))


class ResidentEpoch:
    """Batches of one epoch after another.

    Args:
        items: (N,) int64, the data set's events on the device.

    Attributes:
        cursor: (1,) int64, the batch that :meth:`gather` gives.
        shapes: the exact shape of each batch of the epoch; real_positions: the sum of its windows' lengths.
        capacity: batches that the buffers have room for.
        version: raised when the buffers are replaced by larger ones: what was recorded before reads the old ones.
    """

    def __init__(self, items: Tensor) -> None:
        self.items = items
        self.cursor = torch.zeros(1, dtype=torch.int64, device=items.device)
        self.shapes: list[Shape] = []
        self.capacity = self.version = self.real_positions = 0
        self._windows = items.new_empty((3, 0))  # start, fresh, stop of each window, batch after batch
        self._begins = items.new_zeros(1)  # where each batch begins among them

    def fill(self, windows: Windows, batches: Sequence[np.ndarray]) -> None:
        """Take in an epoch: the cursor is at its first batch."""
        order = np.concatenate(batches) if len(batches) else np.zeros(0, dtype=np.int64)
        bounds = np.stack([x[order] for x in (windows.start, windows.fresh, windows.stop)])
        sizes = np.array([len(batch) for batch in batches], dtype=np.int64)
        begins = np.concatenate([[0], np.cumsum(sizes)])
        self.shapes, self.real_positions = _shapes(bounds, begins), int(windows.lengths[order].sum())
        if len(order) > self._windows.shape[1] or len(batches) > self.capacity:
            most, self.capacity = (n + n // _SLACK + 1 for n in (len(order), len(batches)))
            self._windows, self._begins = self.items.new_zeros((3, most)), self.items.new_zeros(self.capacity + 1)
            self.version += 1
        self._windows[:, : len(order)] = torch.from_numpy(bounds)
        self._begins[: len(begins)] = torch.from_numpy(begins)
        self.cursor.zero_()

    def load(self, step: int) -> Batch:
        """Batch ``step`` in its exact shape, where all targets count."""
        self.cursor.fill_(step)
        batch = self.gather(self.shapes[step])
        return batch._replace(counted=None, n=len(batch.targets))

    def gather(self, shape: Shape) -> Batch:
        """The batch under the cursor, filled up to ``shape``; nothing here waits for the device."""
        device = self.items.device
        begin, end = (self._begins.index_select(0, self.cursor + step) for step in (0, 1))  # [] would wait
        row = torch.arange(shape.rows, device=device)
        taken = (begin + row).clamp(max=self._windows.shape[1] - 1)
        # Rows beyond the batch are windows of nothing.
        start, fresh, stop = self._windows.index_select(1, taken) * (row < end - begin)

        position = start.unsqueeze(1) + torch.arange(shape.length, device=device)
        last = len(self.items) - 1
        items = self.items[position.clamp(max=last)].masked_fill(position >= stop.unsqueeze(1), 0)

        ends = (stop - fresh).cumsum(0)  # the j-th target of the batch belongs to the row that ends after it
        j = torch.arange(shape.targets, device=device)
        counted = j < ends[-1]
        owner = torch.searchsorted(ends, j, right=True).clamp(max=shape.rows - 1)
        source = stop[owner] - ends[owner] + j
        at = (owner * shape.length + source - start[owner]).masked_fill(~counted, 0)
        targets = self.items[(source + 1).clamp(max=last)].masked_fill(~counted, 1)
        return Batch(items, stop - start, at, targets, counted, ends[-1])


def _shapes(bounds: np.ndarray, begins: np.ndarray) -> list[Shape]:
    """The exact shape of each batch, from (3, windows) start, fresh and stop."""
    if len(begins) == 1:
        return []
    start, fresh, stop = bounds
    lengths = np.maximum.reduceat(stop - start, begins[:-1])
    targets = np.add.reduceat(stop - fresh, begins[:-1])
    return [Shape(*map(int, one)) for one in zip(np.diff(begins), lengths, targets, strict=True)]
