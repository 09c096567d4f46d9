"""Mamba's scan as served: whatever is left out of it can't be seen in any number of the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_lib.fast.serving import selective
from seqrec_lib.fast.serving.kernels import LOG2_E
from seqrec_lib.fast.serving.lanes import LANES
from seqrec_lib.models import build
from seqrec_lib.serving import SteppingServer, serve
from seqrec_lib.ssm.selective_scan import selective_scan_reference

Inputs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # dt, x (L, D_in); B (L, N); A (D_in, N)
CHANNELS = 6


def state_of(dt: np.ndarray, x: np.ndarray, B: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, float]:
    """The state (D_in, N) by the compiled loops, and the share of powers of 2 that they took."""
    (length, channels), states = dt.shape, B.shape[1]
    span, width = selective.padded(length), selective.padded(states)
    steps, inputs = (np.zeros((channels, span), np.float32) for _ in range(2))
    steps[:, :length], inputs[:, :length] = dt.T, x.T
    grouped = np.zeros((span, width), np.float32)
    grouped[:length, :states] = B
    grouped = np.ascontiguousarray(grouped.reshape(span, -1, LANES).transpose(1, 0, 2))
    A2 = np.pad(A * LOG2_E, ((0, 0), (0, width - states)), mode="edge").astype(np.float32)
    bits, h = np.empty(len(grouped), np.float32), np.full((channels, width), np.nan, np.float32)
    selective.needed_bits(grouped, states, length, bits)
    space = np.empty((2, span // LANES), np.float32)
    rest = (grouped, bits, A2, selective.rates(A2), length, *space, h)
    taken = sum(selective.remember(c, steps[c], inputs, *rest) for c in range(channels))
    assert not h[:, states:].any()
    return h[:, :states], taken / (channels * length * width)


def terms(dt: np.ndarray, x: np.ndarray, B: np.ndarray, A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The terms of the sum that defines the state, float64 (L, D_in, N), and the powers of 2 by which they decayed."""
    dt, x, B, A = (np.asarray(v, np.float32).astype(np.float64) for v in (dt, x, B, A))
    since = dt[::-1].cumsum(0)[::-1] - dt
    exponents = since[:, :, None] * A
    return np.exp(exponents) * x[:, :, None] * B[:, None], -exponents * LOG2_E


def ordinary(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """As a fresh layer's: dt between 0.001 and 0.1, a speed per channel; A about -1, -2, ... but learned."""
    speed = 10 ** rng.uniform(-3, -1, CHANNELS)
    dt = speed * rng.lognormal(0, 0.5, (length, CHANNELS))
    A = -np.arange(1, states + 1) * rng.lognormal(0, 0.3, (CHANNELS, states))
    return dt, dt * rng.normal(size=dt.shape), rng.normal(size=(length, states)), A


def scrambled(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """Fast and slow decays in any order: the slowest of a group decides."""
    dt, x, B, A = ordinary(rng, length, states)
    return dt, x, B, -(10 ** rng.uniform(-3, 2, A.shape))


def fastest_first(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """A later group remembers longer than the one before it."""
    dt, x, B, A = ordinary(rng, length, states)
    return dt / dt * 0.2, x, B, A[:, ::-1]


def frozen(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """Nothing is ever forgotten."""
    dt, x, B, A = ordinary(rng, length, states)
    return dt * 1e-5, x, B, A


def forgetful(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """Only the last item counts."""
    dt, x, B, A = ordinary(rng, length, states)
    return dt / dt * 40.0, x, B, A


def an_old_giant_hardly_decayed(rng: np.random.Generator, length: int, states: int) -> Inputs:
    dt, x, B, A = ordinary(rng, length, states)
    x[0] *= 1e12
    return dt * 1e-3, x, B, A


def an_old_giant_far_decayed(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """Weights down to 2^-60 and far less, of an input that is 10^20 times the others: it is still most of the state."""
    dt, x, B, A = ordinary(rng, length, states)
    x[0] *= 1e20
    return dt / dt * 60 / max(1, length - 1) / LOG2_E / states, x, B, A


def an_old_giant_in_one_number(rng: np.random.Generator, length: int, states: int) -> Inputs:
    dt, x, B, A = ordinary(rng, length, states)
    B[0, -1] *= 1e20
    return dt / dt * 60 / max(1, length - 1) / LOG2_E / states, x, B, A


def a_tiny_last_input(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """Beside it even what has decayed by many powers of ten is large."""
    dt, x, B, A = ordinary(rng, length, states)
    x[-9:] *= 1e-20
    return dt / dt * 0.4, x, B, A


def a_tiny_last_number(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """The same for one number of state of a group: the others must not decide for it."""
    dt, x, B, A = ordinary(rng, length, states)
    B[-9:, 2] *= 1e-20
    return dt / dt * 0.4, x, B, A


def nothing_last(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """An input of 0 at the end, in one channel and in one number of state: no measure is left, all is kept."""
    dt, x, B, A = ordinary(rng, length, states)
    x[-1, 0], B[-1, -1] = 0.0, 0.0
    return dt / dt * 0.4, x, B, A


def a_burst(rng: np.random.Generator, length: int, states: int) -> Inputs:
    """One item with a large dt in a calm history: what came before it is gone, but only that."""
    dt, x, B, A = ordinary(rng, length, states)
    dt *= 1e-3
    dt[length // 2] = 200.0
    return dt, x, B, A


REGIMES = [
    ordinary,
    scrambled,
    fastest_first,
    frozen,
    forgetful,
    an_old_giant_hardly_decayed,
    an_old_giant_far_decayed,
    an_old_giant_in_one_number,
    a_tiny_last_input,
    a_tiny_last_number,
    nothing_last,
    a_burst,
]


@pytest.mark.parametrize("regime", REGIMES)
def test_every_number_of_the_state_is_exact_beside_its_own_terms(regime: Callable[..., Inputs]) -> None:
    for length in (1, 2, 7, 8, 9, 17, 40, 200, 1000):
        for states in (5, 16, 32):
            inputs = regime(np.random.default_rng(length + states), length, states)
            found, _ = state_of(*inputs)
            parts, bits = terms(*inputs)
            # what arithmetic in float32 may lose: two roundings per item, and 2^-x to within 7e-7 x
            age = np.arange(length, 0, -1.0)[:, None, None]
            allowed = (np.abs(parts) * (2 * 2.0**-24 * (age + 1) + 7e-7 * bits)).sum(0) + 1e-36
            wrong = np.abs(found - parts.sum(0)) / allowed
            assert wrong.max() <= 1.0, (length, states, wrong.max())


@pytest.mark.parametrize("regime", REGIMES)
def test_what_is_left_out_is_less_than_a_rounding_of_the_last_term(regime: Callable[..., Inputs]) -> None:
    for length in (9, 40, 200, 1000):
        dt, x, B, A = regime(np.random.default_rng(length), length, LANES)
        parts, _ = terms(dt, x, B, A)
        for c in range(CHANNELS):
            _, share = state_of(dt[:, c : c + 1], x[:, c : c + 1], B, A[c : c + 1])
            begin = length - round(share * length)
            left_out = np.abs(parts[:begin, c]).sum(0)
            assert (left_out <= 2.0**-26 * np.abs(parts[-1, c]) * 1.001).all(), (length, c, begin)


@pytest.mark.parametrize(("last", "limit"), [(1.0, 27.0), (2.0**-10, 36.0014), (-(2.0**10), 26.0014)])
def test_the_limit_by_hand(last: float, limit: float) -> None:
    """One input of 1, that many powers of 2 away from the last: 2^-bits (1 + |last|) against 2^-26 |last|."""
    for bits, kept in ((limit - 0.01, 1.0), (limit + 0.01, 0.5)):
        dt, x = np.zeros((2 * LANES, 1)), np.zeros((2 * LANES, 1))
        x[LANES - 1], dt[LANES], x[-1] = 1.0, bits, last
        _, share = state_of(dt, x, np.ones((2 * LANES, LANES)), np.full((1, LANES), -1 / LOG2_E))
        assert share == kept, bits


def test_what_is_forgotten_is_not_computed() -> None:
    """Shares of the powers of 2: all where nothing fades, a block where all does, more where the latest are tiny."""
    share = {regime: state_of(*regime(np.random.default_rng(0), 400, 32))[1] for regime in REGIMES}
    assert share[frozen] == share[an_old_giant_hardly_decayed] == 1.0
    assert share[forgetful] == LANES / 400
    assert share[ordinary] < 0.7
    assert share[a_burst] < 0.53
    assert share[a_tiny_last_input] > 1.5 * state_of(*calm_of(a_tiny_last_input))[1]


def calm_of(regime: Callable[..., Inputs]) -> Inputs:
    """The regime's inputs with the last ones as large as the others."""
    dt, x, B, A = regime(np.random.default_rng(0), 400, 32)
    x[-9:] *= 1e20
    return dt, x, B, A


def test_a_state_with_nan_in_it_says_so() -> None:
    dt, x, B, A = forgetful(np.random.default_rng(0), 30, 8)
    x[0, 1] = np.nan
    found, _ = state_of(dt, x, B, A)
    assert np.isnan(found[1]).all()
    assert np.isfinite(np.delete(found, 1, 0)).all()


@pytest.mark.parametrize(
    ("length", "channels", "taps"), [(1, 3, 4), (9, 6, 3), (7, 16, 4), (8, 8, 1), (13, 20, 4), (30, 9, 11)]
)
def test_inputs_of_any_shape_are_convolved_and_projected(length: int, channels: int, taps: int) -> None:
    rng = np.random.default_rng(length)
    shapes = ((length, channels), (taps, channels), (channels,), (channels, 24))
    rows, weight, bias, matrix = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    before = np.vstack([np.zeros((taps - 1, channels)), rows.astype(np.float64)])
    z = bias + sum(weight[k].astype(np.float64) * before[k : k + length] for k in range(taps))
    want = z / (1 + np.exp(-z))
    found = selective.convolved_rows(rows, weight, bias)
    np.testing.assert_allclose(found[:, :length].T, want, rtol=2e-5, atol=1e-6)
    assert not found[:, length:].any()
    product = selective.projected(found, matrix, 16, length)
    assert product.shape[0] == 2
    flat = product.transpose(1, 0, 2).reshape(-1, 16)[:length]
    np.testing.assert_allclose(flat, want @ matrix[:, :16], rtol=2e-5, atol=2e-5)


def biased(shift: float, **changes: Any) -> Any:
    """A Mamba4Rec with random weights whose dt is moved before its softplus; NaN: by up to 6 either way."""
    torch.manual_seed(3)
    model: Any = build("mamba4rec", 50, 1000, changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        bias = model.layers[0].mixer.dt_proj.bias
        bias.add_(12 * torch.rand_like(bias) - 6 if np.isnan(shift) else shift)
    return model


@pytest.mark.parametrize("shift", [-9.0, 0.0, float("nan"), 6.0])
@pytest.mark.parametrize("changes", [{}, {"d_model": 20, "d_state": 5, "d_conv": 3}])
def test_a_model_is_served_exactly_at_every_speed_and_length(shift: float, changes: dict[str, Any]) -> None:
    model = biased(shift, **changes)
    server = serve(model)
    assert isinstance(server, SteppingServer)
    history = np.random.default_rng(1).integers(1, 51, 1000)
    lengths = (1, 2, 3, 8, 9, 63, 200, 1000)
    found = {length: server.encode(history[:length]) for length in lengths}
    state = server.start(history[:190])
    stepped = [server.step(state, int(item)) for item in history[190:200]]
    double = model.double()
    double.layers[0].mixer.backend = "reference"
    with torch.no_grad():
        want = double.hidden(torch.from_numpy(history)[None], torch.tensor([1000]))[0].numpy()
    for length, encoded in found.items():
        np.testing.assert_allclose(encoded, want[length - 1], atol=2e-5, rtol=2e-5)
    np.testing.assert_allclose(stepped, want[190:200], atol=2e-5, rtol=2e-5)


def test_the_sum_of_the_terms_is_the_published_recurrence() -> None:
    dt, x, B, A = (np.asarray(v, np.float32) for v in ordinary(np.random.default_rng(5), 30, 4))
    want = terms(dt, x, B, A)[0].sum(0)
    steps, inputs, selected, rates = (torch.from_numpy(v).double()[None] for v in (dt, x, B, A))
    for n in range(4):
        C = torch.zeros_like(selected)
        C[..., n] = 1
        y = selective_scan_reference(inputs / steps, steps, rates[0], selected, C, torch.zeros(CHANNELS))
        np.testing.assert_allclose(want[:, n], y[0, -1], rtol=1e-9)
