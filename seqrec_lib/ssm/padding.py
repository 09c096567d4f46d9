"""Which positions of a batch of histories are real, and moving them along.

Every mixer takes histories of different lengths in one tensor and gives, for each of them, what it would give
alone: the padding stands on the right, and is read as zeros and written as zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_lib.errors import SeqRecError


@dataclass(frozen=True)
class Span:
    """Real positions t < length of each history in a (batch, length, ...) tensor.

    Attributes:
        lengths: (batch,) int64.
        mask: (batch, length, 1) bool, or None where every position is real.
    """

    lengths: Tensor
    mask: Tensor | None

    @classmethod
    def of(cls, x: Tensor, lengths: Tensor | None = None) -> Span:
        """The span of ``lengths`` (batch,); None: every position is real.

        Raises:
            SeqRecError: a mask, or a wrong shape; on the CPU also a length outside 0 .. length (a check that would
                make a GPU wait).
        """
        batch, length = x.shape[:2]
        if lengths is None:
            return cls(torch.full((batch,), length, device=x.device), None)
        if lengths.dtype == torch.bool:
            raise SeqRecError("lengths are a mask of true and false: give one number per history")
        if lengths.shape != (batch,):
            raise SeqRecError(f"lengths have shape {tuple(lengths.shape)}, not {(batch,)}: give one length per history")
        lengths = lengths.to(x.device, torch.int64).contiguous()  # kernels read it by its address
        mask = (torch.arange(length, device=x.device) < lengths[:, None])[..., None]
        if not x.is_cuda:
            if bool((lengths < 0).any() or (lengths > length).any()):
                raise SeqRecError(
                    f"lengths {lengths.tolist()} do not fit a batch of {length} positions: clip the histories"
                )
            if bool(mask.all()):
                return cls(lengths, None)
        return cls(lengths, mask)

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
