"""Layers that several models share: dropout that is cheap on a CPU, and the position-wise feed-forward network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_BITS = 16  # resolution of the keep probability: one part in 65,536


class _CheapDropout(torch.autograd.Function):
    """Dropout from 16 random bits an element, drawn 64 at a time.

    ``F.dropout`` on a CPU draws one Bernoulli variable per element and took a quarter of a training step; this
    takes a third of its time. It draws from the same default generator, so seeds and checkpoints hold.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        n = x.numel()
        words = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[:n].view(x.shape)
        dropped = round(p * 2**_BITS)
        scale = (bits >= dropped - 2 ** (_BITS - 1)).to(x.dtype).mul_(2**_BITS / (2**_BITS - dropped))
        ctx.save_for_backward(scale)
        return x * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return gradients[0] * scale, None


class Dropout(nn.Module):
    """Inverted dropout with probability ``p`` in [0, 1), as ``nn.Dropout``; fast on a CPU."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"a dropout probability lies in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type == "cpu":
            return _CheapDropout.apply(x, self.p)
        return F.dropout(x, self.p)


class FeedForward(nn.Module):
    """PFFN(H) = GELU(H W1 + b1) W2 + b2 with W1: d x expand*d (paper, section 3): (..., d) -> (..., d)."""

    def __init__(self, d_model: int, dropout: float, expand: int = 4) -> None:
        super().__init__()
        self.w1 = nn.Linear(d_model, expand * d_model)
        self.w2 = nn.Linear(expand * d_model, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(self.dropout(F.gelu(self.w1(x))))
