"""RMSNorm with a SiLU gate, as Mamba-2 (gate first) and Hydra (norm first) use it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqrec_lib.ssm.padding import Span


class RMSNormGated(nn.Module):
    """w u / sqrt(mean(u^2) + eps) with u = y silu(z), or, norm first, w y / sqrt(mean(y^2) + eps) silu(z).

    The mean runs over groups of `group_size` channels (all of them by default). Parameter: weight (channels,).
    """

    def __init__(
        self,
        channels: int,
        *,
        eps: float = 1e-5,
        norm_before_gate: bool = False,
        group_size: int | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.norm_before_gate = norm_before_gate
        self.group_size = group_size or channels
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, y: Tensor, z: Tensor, span: Span | None = None, backend: str = "matrix") -> Tensor:
        """y, z (batch, length, channels) or, without a span, (batch, channels); zeros outside the span."""
        if backend == "cpu" and span is not None and self.group_size == y.shape[-1]:
            from seqrec_lib.fast.kernels.gated_norm import GatedNorm

            normed: Tensor = GatedNorm.apply(y, z, self.weight, span.lengths, self.eps, self.norm_before_gate)
            return normed
        if self.norm_before_gate:
            out = self._normed(y) * F.silu(z)
        else:
            out = self._normed(y * F.silu(z))
        return out if span is None else span.zero(out)

    def _normed(self, u: Tensor) -> Tensor:
        groups = u.unflatten(-1, (-1, self.group_size))
        scale = torch.rsqrt(groups.square().mean(-1, keepdim=True) + self.eps)
        return (groups * scale).flatten(-2) * self.weight
