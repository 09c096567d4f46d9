"""Initial values that the three mixers share, as in mamba-ssm.

dt starts log-uniform in [0.001, 0.1], so that a fresh layer remembers between 10 and 1,000 tokens. Code that
re-initialises all `nn.Linear` biases destroys this for Mamba, whose dt bias is one (`dt_proj.bias`); for that reason
it carries the mark `_no_reinit`, and A_log, D and dt_bias carry `_no_weight_decay`, as there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DT_MIN, DT_MAX = 1e-3, 0.1  # of a fresh layer


def dt_bias(channels: int) -> Tensor:
    """b (channels,) such that softplus(b) is log-uniform in [`DT_MIN`, `DT_MAX`]."""
    dt = torch.exp(torch.rand(channels) * (math.log(DT_MAX) - math.log(DT_MIN)) + math.log(DT_MIN))
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus


def undecayed(value: Tensor) -> nn.Parameter:
    """A parameter that optimisers should not shrink (mark `_no_weight_decay`)."""
    parameter = nn.Parameter(value)
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter
