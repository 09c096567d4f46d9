"""A linear projection whose outputs are used apart, as the mixers' in_proj."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def project_parts(x: Tensor, projection: nn.Linear, widths: list[int]) -> list[Tensor]:
    """The projection's outputs, cut into `widths`, each as a matrix product of its own.

    The parts are then contiguous, and their gradients need not be joined into one large tensor.
    """
    weights = projection.weight.split(widths)
    biases = [None] * len(widths) if projection.bias is None else projection.bias.split(widths)
    return [F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)]
