from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from seqrec_lib.train import losses
from seqrec_lib.train.losses import catalogue_cross_entropy, sampled_cross_entropy


def reference(h: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(h @ weight[1:].T, targets - 1)


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


@settings(max_examples=30, deadline=None)
@given(
    positions=st.integers(1, 40),
    items=st.integers(1, 60),
    chunk=st.integers(1, 3_000),
    rows=st.sampled_from([1, 4, 64]),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    seed=st.integers(0, 1_000),
)
def test_equals_torch_in_float32_for_any_chunking(
    positions: int, items: int, chunk: int, rows: int, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    h = (torch.randn(positions, 8) * scale).requires_grad_()
    weight = torch.randn(items + 1, 8, requires_grad=True)
    targets = torch.randint(1, items + 1, (positions,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_CHUNK_ELEMENTS", chunk)
        patch.setattr(losses, "_ROWS", rows)
        loss = catalogue_cross_entropy(h, weight, targets)
    expected = reference(h.double(), weight.double(), targets)
    assert abs(loss.item() - expected.item()) <= 1e-5 * max(1.0, abs(expected.item()))
    for ours, theirs in zip(gradients(3 * loss, h, weight), gradients(3 * expected, h, weight), strict=True):
        # Where the softmax is saturated the true gradient is tiny: measure against the size of its terms.
        assert (ours - theirs).norm() <= 1e-5 * (theirs.norm() + 1e-3)


def test_padding_gets_no_probability_and_no_gradient() -> None:
    h, weight = torch.randn(5, 4), torch.randn(7, 4)
    weight[0] = 100.0  # would dominate every softmax
    weight.requires_grad_()
    loss = catalogue_cross_entropy(h, weight, torch.tensor([1, 2, 3, 4, 6]))
    (gradient,) = gradients(loss, weight)
    assert torch.isfinite(loss) and (gradient[0] == 0).all() and gradient[1:].abs().sum() > 0


def test_extreme_logits_stay_finite() -> None:
    h = torch.tensor([[1e4, -1e4]], requires_grad=True)
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = catalogue_cross_entropy(h, weight, torch.tensor([2]))
    assert loss.item() == pytest.approx(2e4)
    assert all(torch.isfinite(g).all() for g in gradients(loss, h, weight))


def test_bfloat16_products_are_close() -> None:
    torch.manual_seed(0)
    h, weight = torch.randn(300, 64, requires_grad=True), (torch.randn(500, 64) * 0.3).requires_grad_()
    targets = torch.randint(1, 500, (300,))
    loss = catalogue_cross_entropy(h, weight, targets, dtype=torch.bfloat16)
    expected = reference(h, weight, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=2e-3)
    for ours, theirs in zip(gradients(loss, h, weight), gradients(expected, h, weight), strict=True):
        assert ours.dtype == torch.float32 and distance(ours, theirs) < 1e-2


def test_needs_a_position() -> None:
    with pytest.raises(ValueError, match="at least one position"):
        catalogue_cross_entropy(torch.empty(0, 4), torch.randn(3, 4), torch.empty(0, dtype=torch.int64))


@settings(max_examples=20, deadline=None)
@given(positions=st.integers(1, 30), items=st.integers(1, 40), chunk=st.integers(1, 900), seed=st.integers(0, 1_000))
def test_a_bias_on_items_equals_torch_with_the_biased_logits(positions: int, items: int, chunk: int, seed: int) -> None:
    torch.manual_seed(seed)
    h, weight = torch.randn(positions, 8, requires_grad=True), torch.randn(items + 1, 8, requires_grad=True)
    targets = torch.randint(1, items + 1, (positions,))
    bias = torch.tensor(-1.5, requires_grad=True)
    chosen = torch.rand(positions, items + 1) < 0.3
    chosen[:, 0] = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_CHUNK_ELEMENTS", chunk)
        patch.setattr(losses, "_ROWS", 4)
        places = torch.arange(items + 1).expand(positions, -1) * chosen  # 0 where there is none
        loss = catalogue_cross_entropy(h, weight, targets, bias=bias, biased=places)
    logits = h.double() @ weight.double().T + bias.double() * chosen
    expected = F.cross_entropy(logits[:, 1:], targets - 1)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    inputs = (h, weight, bias)
    for ours, theirs in zip(gradients(2 * loss, *inputs), gradients(2 * expected, *inputs), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * (theirs.norm() + 1e-2)


@settings(max_examples=20, deadline=None)
@given(positions=st.integers(2, 30), items=st.integers(1, 40), chunk=st.integers(1, 900), seed=st.integers(0, 1_000))
def test_positions_that_do_not_count_add_nothing(positions: int, items: int, chunk: int, seed: int) -> None:
    torch.manual_seed(seed)
    h, weight = torch.randn(positions, 8, requires_grad=True), torch.randn(items + 1, 8, requires_grad=True)
    targets, bias = torch.randint(1, items + 1, (positions,)), torch.tensor(0.7, requires_grad=True)
    counted = torch.rand(positions) < 0.5
    counted[0] = True
    biased = torch.arange(items + 1).expand(positions, -1) * (torch.rand(positions, items + 1) < 0.3)
    inputs = (h, weight, bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_CHUNK_ELEMENTS", chunk)
        patch.setattr(losses, "_ROWS", 4)
        loss = catalogue_cross_entropy(h, weight, targets, counted=counted, bias=bias, biased=biased)
        alone = catalogue_cross_entropy(h[counted], weight, targets[counted], bias=bias, biased=biased[counted])
    assert loss.item() == pytest.approx(alone.item(), rel=1e-5)
    for ours, theirs in zip(gradients(2 * loss, *inputs), gradients(2 * alone, *inputs), strict=True):
        assert (ours - theirs).norm() <= 1e-5 * (theirs.norm() + 1e-2)


def test_a_bias_and_its_items_go_together() -> None:
    h, weight, targets = torch.randn(3, 4), torch.randn(6, 4), torch.tensor([1, 2, 3])
    alone: list[dict[str, Any]] = [{"bias": torch.tensor(1.0)}, {"biased": torch.tensor([[2], [0], [0]])}]
    for lone in alone:
        with pytest.raises(ValueError, match="bias and biased go together"):
            catalogue_cross_entropy(h, weight, targets, **lone)
        with pytest.raises(ValueError, match="bias and biased go together"):
            sampled_cross_entropy(h, weight, targets, 2, **lone)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("positions", "items"), [(1, 2), (5, 9), (40, 30)])
def test_with_all_other_items_drawn_the_estimate_is_the_exact_loss(positions: int, items: int, biased: bool) -> None:
    rng = torch.Generator().manual_seed(positions)
    h = torch.randn(positions, 8, dtype=torch.float64, generator=rng, requires_grad=True)
    weight = torch.randn(items + 1, 8, dtype=torch.float64, generator=rng, requires_grad=True)
    targets = torch.randint(1, items + 1, (positions,), generator=rng)
    how: dict[str, Any] = {}
    if biased:
        seen = torch.stack([torch.randperm(items, generator=rng)[: min(items, 4)] + 1 for _ in range(positions)])
        seen[:, -1] = 0
        how = {"bias": torch.tensor(1.5, dtype=torch.float64, requires_grad=True), "biased": seen}
    parts = [h, weight, *([how["bias"]] if biased else [])]
    exact = catalogue_cross_entropy(h, weight, targets, **how)
    estimate = sampled_cross_entropy(h, weight, targets, items, **how)
    torch.testing.assert_close(estimate, exact, rtol=1e-9, atol=1e-9)
    for own, other in zip(torch.autograd.grad(estimate, parts), torch.autograd.grad(exact, parts), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-7, atol=1e-9)


def test_the_estimated_sum_of_exponentials_is_right_on_average() -> None:
    """exp(loss + the target's logit) is that sum; its mean over many draws comes near the whole catalogue's."""
    rng = torch.Generator().manual_seed(3)
    h, weight = torch.randn(1, 8, generator=rng), torch.randn(61, 8, generator=rng) / 2
    target = torch.tensor([7])
    logits = (weight @ h[0])[1:]
    torch.manual_seed(0)
    sums = [float((sampled_cross_entropy(h, weight, target, 10) + logits[6]).exp()) for _ in range(4000)]
    assert np.mean(sums) == pytest.approx(float(logits.exp().sum()), rel=4 * np.std(sums) / np.mean(sums) / 4000**0.5)
    assert np.std(sums) > 0
