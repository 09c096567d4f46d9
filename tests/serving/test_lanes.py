"""Eight numbers at once give what each gives alone, at the accuracy that is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import njit

from seqrec_lib.fast.serving.lanes import (
    LANES,
    copy_transposed,
    exp2_any,
    exp2_unit,
    larger,
    largest_of,
    load,
    load_one,
    silu,
    softplus,
    store,
    total_of,
)


def evaluated(function: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The function of lanes over a whole array, as float64."""

    @njit
    def loop(x, out):
        for i in range(0, x.size, LANES):
            store(out, i, function(load(x, i)))

    def evaluate(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        loop(x, out)
        return out.astype(np.float64)

    return evaluate


def line(low: float, high: float) -> np.ndarray:
    return np.linspace(low, high, 40_000, dtype=np.float32)


def test_powers_of_two_hold_their_accuracy() -> None:
    unit, anywhere = evaluated(exp2_unit), evaluated(exp2_any)
    x = line(-1.0, 0.0)
    wrong = np.abs(unit(x) / 2.0 ** x.astype(np.float64) - 1)
    assert (wrong <= 7e-7 * np.abs(x) + 2.0**-24).all()
    x = line(-124.5, 126.5)
    np.testing.assert_allclose(anywhere(x), 2.0 ** x.astype(np.float64), rtol=7e-7)
    edge = np.array([0.0, -1.0, -125.0, -126.0, -1e30, -np.inf, np.nan, 1.0], np.float32)
    np.testing.assert_array_equal(anywhere(edge), [1.0, 0.5, *[2.0**-125] * 4, np.nan, 2.0])


def test_silu_and_softplus_hold_their_accuracy() -> None:
    x = line(-80.0, 40.0)
    exact, sizes = x.astype(np.float64), np.abs(x.astype(np.float64))
    for function, want in ((softplus, np.logaddexp(0, exact)), (silu, exact / (1 + np.exp(-exact)))):
        wrong = np.abs(evaluated(function)(x) - want)
        assert (wrong <= (1e-6 + 6e-8 * sizes) * np.abs(want) + 1e-37).all(), function
    far = np.array([-1e30, -200.0, 200.0, 1e30, np.nan, 0.0, 0.0, 0.0], np.float32)
    np.testing.assert_allclose(
        evaluated(softplus)(far), [0, 0, 200, 1e30, np.nan, *[np.log(2)] * 3], atol=1e-30, rtol=1e-6
    )
    np.testing.assert_allclose(evaluated(silu)(far), [0, 0, 200, 1e30, np.nan, 0, 0, 0], atol=1e-6, rtol=1e-6)


def test_lanes_are_loaded_reduced_and_transposed() -> None:
    @njit
    def several(x, y, out, numbers):
        a, b = load(x, 3), load(y, 0)
        store(out, 0, larger(a, b) - load_one(x, 2) * np.float32(2.0) / a)
        numbers[0], numbers[1] = total_of(a), largest_of(a)

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=LANES).astype(np.float32)
    out, numbers = np.empty(LANES, np.float32), np.empty(2, np.float32)
    several(x, y, out, numbers)
    a = x.ravel()[3 : 3 + LANES]
    np.testing.assert_allclose(out, np.maximum(a, y) - 2 * x[0, 2] / a, rtol=1e-6)
    np.testing.assert_allclose(numbers, [a.sum(), a.max()], rtol=1e-6)

    @njit
    def turned(source, target):
        copy_transposed(source, source.shape[1] + 2, source.shape[1], target, 1, target.shape[1])

    source, target = rng.normal(size=(10, 11)).astype(np.float32), np.zeros((9, 12), np.float32)
    turned(source, target)
    np.testing.assert_array_equal(target[:LANES, 1 : 1 + LANES], source[1 : 1 + LANES, 2 : 2 + LANES].T)
    assert np.count_nonzero(target) == LANES * LANES


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_larger_keeps_what_is_not_finite(special: float) -> None:
    x = np.full(LANES, special, np.float32)
    np.testing.assert_array_equal(evaluated(absolute)(-x), np.abs(x))


@njit(inline="always")
def absolute(x):
    return larger(x, x * np.float32(-1.0))
