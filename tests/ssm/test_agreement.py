"""The compiled CPU kernels and the matrix form against the recurrences in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqrec_lib.ssm.padding import Span
from seqrec_lib.ssm.quasiseparable import quasiseparable, quasiseparable_reference
from seqrec_lib.ssm.selective_scan import selective_scan, selective_scan_reference
from seqrec_lib.ssm.ssd import segment_sums, ssd, ssd_matrix, ssd_reference
from tests.ssm.agreement import assert_agree, error, evaluate

# Ranges of dt: as initialised, tiny, and so large that a token erases all before it.
STEPS = {"initial": (1e-3, 0.1), "tiny": (1e-4, 1e-3), "mixed": (1e-4, 20.0), "large": (5.0, 20.0)}
lengths = st.one_of(st.integers(1, 40), st.sampled_from([71, 72, 73, 144, 145]))
sizes = (st.integers(0, 2**31), st.integers(1, 2), lengths)  # seed, batch, length
kinds = st.sampled_from(list(STEPS))
quick = settings(max_examples=10, deadline=None)


def steps(generator: torch.Generator, *shape: int, kind: str) -> Tensor:
    """dt, log-uniform in a range of STEPS."""
    low, high = (torch.tensor(v).log() for v in STEPS[kind])
    return torch.exp(low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64))


def scan_inputs(seed: int, batch: int, length: int, channels: int, states: int, kind: str) -> list[Tensor]:
    """u, dt_raw, A, B, C, D, dt_bias, z in float64, exactly representable in float32."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    dt = steps(generator, batch, length, channels, kind=kind)
    bias = normal(channels)
    dt_raw = dt + torch.log(-torch.expm1(-dt)) - bias
    A = -torch.arange(1.0, states + 1).repeat(channels, 1) * (0.5 + torch.rand(channels, states, generator=generator))
    u, z, D = normal(batch, length, channels), normal(batch, length, channels), normal(channels)
    inputs = [u, dt_raw, A, normal(batch, length, states), normal(batch, length, states), D, bias, z]
    return [x.float().double() for x in inputs]


def structured_inputs(
    seed: int, batch: int, length: int, heads: int, states: int, kind: str, ways: int
) -> list[Tensor]:
    """x, A, delta or D, then dt, B, C of each direction; headdim 8."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = [normal(batch, length, heads, 8), -16 * torch.rand(heads, generator=generator, dtype=torch.float64)]
    inputs.append(normal(heads) if ways == 1 else normal(batch, length, heads))
    for _ in range(ways):
        inputs.append(steps(generator, batch, length, heads, kind=kind))
        inputs += [normal(batch, length, 1, states), normal(batch, length, 1, states)]
    return [x.float().double() for x in inputs]


def scan_by(backend: str) -> Callable[..., Tensor]:
    def function(
        u: Tensor, dt_raw: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor, z: Tensor
    ) -> Tensor:
        return selective_scan(u, dt_raw, A, B, C, D, bias, z, Span.of(u), backend)

    return function


def ssd_by(backend: str) -> Callable[..., Tensor]:
    def function(x: Tensor, A: Tensor, D: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
        return ssd(x, dt, A, B, C, D, backend, 64)

    return function


def quasiseparable_by(backend: str) -> Callable[..., Tensor]:
    def function(x: Tensor, A: Tensor, delta: Tensor, *ways: Tensor) -> Tensor:
        (dt_f, B_f, C_f), (dt_b, B_b, C_b) = ways[:3], ways[3:]
        return quasiseparable(x, (dt_f, dt_b), A, (B_f, B_b), (C_f, C_b), delta, backend, 64)

    return function


def check(by: Callable[[str], Callable[..., Tensor]], inputs: list[Tensor], matrix: bool = True) -> None:
    """The kernel in float32 and the matrix form in float64 against the recurrence in float64."""
    g = torch.randn(inputs[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).float().double()
    want = evaluate(by("reference"), inputs, g)
    assert_agree(evaluate(by("cpu"), [x.float() for x in inputs], g.float()), want)
    if matrix:
        assert_agree(evaluate(by("matrix"), inputs, g), want, 1e-10, 1e-9)


@quick
@given(*sizes, st.integers(1, 70), st.integers(1, 9), kinds)
def test_selective_scan(seed: int, batch: int, length: int, channels: int, states: int, kind: str) -> None:
    check(scan_by, scan_inputs(seed, batch, length, channels, states, kind), matrix=False)


@quick
@given(*sizes, st.integers(1, 3), st.integers(1, 20), kinds)
def test_ssd(seed: int, batch: int, length: int, heads: int, states: int, kind: str) -> None:
    check(ssd_by, structured_inputs(seed, batch, length, heads, states, kind, ways=1))


@quick
@given(*sizes, st.integers(1, 3), st.integers(1, 20), kinds)
def test_quasiseparable(seed: int, batch: int, length: int, heads: int, states: int, kind: str) -> None:
    check(quasiseparable_by, structured_inputs(seed, batch, length, heads, states, kind, ways=2))


@pytest.mark.parametrize("kind", ["initial", "mixed"])
def test_a_thousand_tokens(kind: str) -> None:
    check(scan_by, scan_inputs(0, 1, 1000, 16, 8, kind), matrix=False)
    check(ssd_by, structured_inputs(0, 1, 1000, 2, 8, kind, ways=1))
    check(quasiseparable_by, structured_inputs(0, 1, 1000, 2, 8, kind, ways=2))


def test_the_recurrence_is_the_papers_on_numbers_to_check_by_hand() -> None:
    # h_1 = 1 * 2 * 3 = 6 (dt B u), y_1 = 1 * 6 + 10 * 3; h_2 = exp(-ln 2) 6 + 1 * 1 * 4 = 7, y_2 = 2 * 7 + 10 * 4
    u, dt = torch.tensor([[[3.0], [4.0]]]), torch.ones(1, 2, 1)
    A, D = -torch.tensor([[2.0]]).log(), torch.tensor([10.0])
    B, C = torch.tensor([[[2.0], [1.0]]]), torch.tensor([[[1.0], [2.0]]])
    torch.testing.assert_close(selective_scan_reference(u, dt, A, B, C, D), torch.tensor([[[36.0], [54.0]]]))
    # One head of one channel is the same scan without D.
    y = ssd_reference(u[..., None], dt, A[0], B[:, :, None], C[:, :, None])
    torch.testing.assert_close(y.flatten(), torch.tensor([6.0, 14.0]))


def test_quasiseparable_is_the_dense_matrix() -> None:
    """M_ij, i > j: C^f_(i-1) . B^f_j dt^f_j exp(A sum_(j<k<i) dt^f_k); i < j mirrored; i = j: delta."""
    x, A, delta, *ways = structured_inputs(3, 1, 9, 1, 4, "initial", ways=2)
    (dt_f, B_f, C_f), (dt_b, B_b, C_b) = ways[:3], ways[3:]
    M = torch.zeros(9, 9, dtype=torch.float64)
    for i in range(9):
        for j in range(9):
            if i > j:
                decay = torch.exp(A * dt_f[0, j + 1 : i].sum())
                M[i, j] = (C_f[0, i - 1] * B_f[0, j]).sum() * dt_f[0, j, 0] * decay
            elif i < j:
                decay = torch.exp(A * dt_b[0, i + 1 : j].sum())
                M[i, j] = (C_b[0, i + 1] * B_b[0, j]).sum() * dt_b[0, j, 0] * decay
            else:
                M[i, j] = delta[0, i, 0]
    y = quasiseparable_reference(x, (dt_f, dt_b), A, (B_f, B_b), (C_f, C_b), delta)
    assert error(y[0, :, 0], M @ x[0, :, 0]) < 1e-14


def test_segment_sums_keep_the_gradient_where_cumulative_sums_lose_it() -> None:
    """A tiny step among large ones: exp of its segment sum must see it, and its gradient must reach it."""
    a = torch.tensor([-1e8, -1e-3, -1e8], requires_grad=True)
    total = a.cumsum(0)
    assert (total[1] - total[0]).item() == 0.0  # a difference of cumulative sums has lost the small step
    decay = torch.exp(segment_sums(a)[1, 0])
    decay.backward()
    assert decay.item() == pytest.approx(0.9990005)
    assert a.grad.tolist() == pytest.approx([0.0, 0.9990005, 0.0])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_of_heads_share_B_and_C(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, dt = torch.randn(2, 33, 4, 8, generator=generator), torch.rand(2, 33, 4, generator=generator)
    B, C = (torch.randn(2, 33, groups, 5, generator=generator) for _ in range(2))
    A = -torch.rand(4, generator=generator)
    want = ssd_reference(x, dt, A, B, C)
    for chunk in (1, 7, 33, 64):
        assert error(ssd_matrix(x, dt, A, B, C, chunk), want) < 1e-6
    assert error(ssd(x, dt, A, B, C, None, "cpu", 64), want) < 1e-6


def test_a_second_derivative_is_refused_not_wrong() -> None:
    inputs = [x.float().requires_grad_() for x in scan_inputs(0, 1, 5, 3, 2, "initial")]
    (du,) = torch.autograd.grad(scan_by("cpu")(*inputs).square().sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        du.sum().backward()


def test_softplus_of_extremes_is_finite() -> None:
    """dt from -50 to 50: neither overflow nor the loss of tiny values."""
    inputs = [x.float() for x in scan_inputs(0, 1, 11, 1, 1, "initial")]
    inputs[1] = torch.linspace(-50, 50, 11)[None, :, None]
    want = evaluate(scan_by("reference"), [x.double() for x in inputs], torch.ones(1, 11, 1))
    assert_agree(evaluate(scan_by("cpu"), inputs, torch.ones(1, 11, 1)), want)
    assert F.softplus(inputs[1]).max() == 50
