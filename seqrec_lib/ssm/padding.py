"""Which positions of a batch of histories are real, and moving them along.

Every mixer takes histories of different lengths in one tensor and gives, for each of them, what it would give
alone: real positions are contiguous (`start` to `stop`), all others are read as zeros and written as zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_lib.errors import SeqRecError


@dataclass(frozen=True)
class Span:
    """Real positions start <= t < stop of each history in a (batch, length, ...) tensor.

    Attributes:
        bounds: (2, batch) int64, the starts and the stops.
        mask: (batch, length, 1) bool, or None where every position is real.
    """

    bounds: Tensor
    mask: Tensor | None

    @classmethod
    def of(cls, x: Tensor, lengths_or_mask: Tensor | None = None) -> Span:
        """Reads `lengths` (batch,), for right padding, or a boolean mask (batch, length), true at real positions.

        Raises:
            SeqRecError: a wrong shape; on the CPU also a length outside 0 .. length or a mask with holes (a check that
                would make a GPU wait).
        """
        batch, length = x.shape[:2]
        if lengths_or_mask is None:
            bounds = torch.tensor([[0] * batch, [length] * batch], device=x.device)
            return cls(bounds, None)
        given = lengths_or_mask.to(x.device)
        positions = torch.arange(length, device=x.device)
        if given.dtype == torch.bool:
            if given.shape != (batch, length):
                raise SeqRecError(f"mask has shape {tuple(given.shape)}, not {(batch, length)}: give (batch, length)")
            count = given.sum(1)
            # The first real position; 0 for an empty history.
            start = torch.where(given, positions, length).amin(1).clamp(max=length - count) if length else count
            stop = start + count
            mask = given[..., None]
        else:
            if given.shape != (batch,):
                raise SeqRecError(
                    f"lengths have shape {tuple(given.shape)}, not {(batch,)}: give one length per history"
                )
            start, stop = torch.zeros_like(given), given
            mask = (positions < given[:, None])[..., None]
        bounds = torch.stack([start, stop]).long()
        if not x.is_cuda:
            if bool((bounds < 0).any() or (bounds > length).any()):
                raise SeqRecError(
                    f"lengths {given.tolist()} do not fit a batch of {length} positions: clip the histories"
                )
            inside = (positions >= bounds[0, :, None]) & (positions < bounds[1, :, None])
            if not torch.equal(inside[..., None], mask):
                raise SeqRecError("a mask must mark one run of positions per history: move the padding to its ends")
            if bool(mask.all()):
                return cls(bounds, None)
        return cls(bounds, mask)

    def zero(self, x: Tensor) -> Tensor:
        """x (batch, length, ...) with zeros at the padded positions."""
        if self.mask is None:
            return x
        mask = self.mask.view(*self.mask.shape[:2], *[1] * (x.dim() - 2))
        return x.masked_fill(~mask, 0.0)


def delayed(x: Tensor, tokens: int = 1) -> Tensor:
    """x (batch, length, ...) moved back by some tokens; zeros enter in front."""
    return F.pad(x, (0, 0) * (x.dim() - 2) + (tokens, 0))[:, : x.shape[1]]


def lengthened(x: Tensor, tokens: int) -> Tensor:
    """x (batch, length, ...) with some tokens of zeros appended."""
    return F.pad(x, (0, 0) * (x.dim() - 2) + (0, tokens)) if tokens else x
