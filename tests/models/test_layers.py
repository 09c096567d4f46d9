from __future__ import annotations

import pytest
import torch

from seqrec_lib.models.layers import Dropout, FeedForward


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_keeps_the_mean_and_drops_the_right_share(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    n = 200_000
    x = torch.ones(n, dtype=dtype)
    y = Dropout(p).train()(x)
    dropped = (y == 0).double().mean().item()
    assert abs(dropped - p) < 5 * (p * (1 - p) / n) ** 0.5
    assert y[y != 0].unique().numel() == 1
    assert y[y != 0][0].item() == pytest.approx(1 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-4)


def test_dropout_sends_the_gradient_where_the_value_went() -> None:
    x = torch.randn(7, 33, requires_grad=True)
    y = Dropout(0.3).train()(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)


def test_dropout_follows_the_seed_and_is_off_in_evaluation() -> None:
    x, dropout = torch.randn(50, 50), Dropout(0.4).train()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(dropout(x))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert dropout.eval()(x) is x and Dropout(0.0).train()(x) is x


def test_neighbours_are_independent() -> None:
    """Four elements share one 64-bit draw: their joint frequencies must still factorise."""
    torch.manual_seed(0)
    kept = (Dropout(0.5).train()(torch.ones(100_000, 4)) != 0).double()
    covariance = torch.cov(kept.T)
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    assert off_diagonal.abs().max() < 5 * 0.25 / 100_000**0.5


def test_dropout_probability_is_checked() -> None:
    with pytest.raises(ValueError, match=r"not 1\.0"):
        Dropout(1.0)


def test_feed_forward_equals_the_formula() -> None:
    layer = FeedForward(8, 0.0).double()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    inner = x @ layer.w1.weight.T + layer.w1.bias
    gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    torch.testing.assert_close(layer(x), gelu @ layer.w2.weight.T + layer.w2.bias)
    assert layer.w1.weight.shape == (32, 8)
