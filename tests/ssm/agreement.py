"""Comparing two implementations of a function of tensors: outputs and every gradient, norm against norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

OUTPUT, GRADIENT = 1e-5, 1e-4  # what float32 must reach against float64, as ||a - b|| / ||b||
# Below this, a gradient is what exp leaves of a state that decayed by exp(-87) and more: float32 cannot hold it.
NOTHING = 1e-25


def evaluate(function: Callable[..., Tensor], inputs: Sequence[Tensor], g: Tensor) -> list[Tensor]:
    """The output, then the gradient of (output * g).sum() with respect to every input."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*leaves)
    gradients = torch.autograd.grad(y, leaves, g.to(y.dtype), allow_unused=True)
    return [y.detach(), *(torch.zeros_like(x) if d is None else d for x, d in zip(leaves, gradients, strict=True))]


def error(got: Tensor, want: Tensor) -> float:
    """||got - want|| / ||want||, NaN where either holds one."""
    assert got.shape == want.shape
    a, b = got.detach().double(), want.detach().double()
    return float((a - b).norm() / b.norm().clamp_min(NOTHING))


def assert_agree(
    got: Sequence[Tensor], want: Sequence[Tensor], output: float = OUTPUT, gradient: float = GRADIENT
) -> None:
    """The first tensors are outputs, the others gradients."""
    errors = [error(a, b) for a, b in zip(got, want, strict=True)]
    assert errors[0] <= output, f"output: {errors[0]:.1e}"
    for index, value in enumerate(errors[1:]):
        assert value <= gradient, f"gradient of input {index}: {value:.1e}"
