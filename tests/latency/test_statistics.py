"""Statistics of service times against hand-made numbers, SciPy and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from seqrec_lib.evaluate.statistics import Interval, interval, ratio
from seqrec_lib.latency.statistics import (
    false_difference_rate,
    outlier_shares,
    simulate_coverage,
    unit_name,
    units,
    without_outliers,
)


def test_outliers_are_classified_by_tukeys_fences() -> None:
    values = np.r_[np.arange(1.0, 101.0), 180.0, 400.0]  # quartiles 26.25 and 76.75: fences 152.5 and 228.25 above
    assert outlier_shares(values) == (1 / 102, 1 / 102)
    assert without_outliers(values).max() == 100.0


def test_an_interval_of_a_median_is_scipys_bca() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    found = interval(values, np.median, resamples=999, seed=5)
    want = stats.bootstrap(
        (values,), np.median, n_resamples=999, method="BCa", rng=np.random.default_rng(5)
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == (want.low, want.high)
    assert found.estimate == np.median(values)


@pytest.mark.parametrize("n", [8, 10, 16, 40])
def test_intervals_hold_at_the_numbers_of_units_that_are_published(n: int) -> None:
    rng = np.random.default_rng(n)
    missed = [interval(rng.normal(size=n), resamples=499, seed=t).excludes(0.0) for t in range(600)]
    assert 0.025 <= np.mean(missed) <= 0.075  # BCa misses in a tenth of the studies at n = 8 and 10


@pytest.mark.parametrize("values", [[2.0], [2.0, 3.0], [2.0, 2.0, 2.0, 2.0]])
def test_too_little_to_resample_has_no_interval(values: list[float]) -> None:
    assert interval(np.array(values)) == Interval(float(np.mean(values)))
    assert not interval(np.array(values)).excludes(100.0)


def test_units_are_block_medians_until_there_are_enough_processes() -> None:
    values = np.array([1.0, 2.0, 9.0, 4.0, 4.0, 5.0])
    process, block = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(units(values, process, block), [2.0, 4.0, 4.5])
    shuffled = np.array([5, 2, 0, 3, 1, 4])
    np.testing.assert_array_equal(units(values[shuffled], process[shuffled], block[shuffled]), [2.0, 4.0, 4.5])
    many = np.repeat(np.arange(8), 2)
    np.testing.assert_array_equal(
        units(np.arange(16.0), many, np.tile([0, 1], 8)), np.arange(16.0).reshape(8, 2).mean(1)
    )  # fmt: skip
    assert (unit_name(process), unit_name(many)) == ("block", "process")


def test_a_paired_ratio_sees_through_a_drift_that_hits_both() -> None:
    rng = np.random.default_rng(2)
    drift = np.exp(rng.normal(size=30))
    slow, fast = 1.10 * drift * np.exp(0.01 * rng.normal(size=30)), drift * np.exp(0.01 * rng.normal(size=30))
    found = ratio(slow, fast)
    assert 1.08 < found.low < 1.10 < found.high < 1.12
    unpaired = interval(np.log(slow)), interval(np.log(fast))
    assert unpaired[0].low < unpaired[1].high  # without pairing the difference drowns


def test_one_model_timed_twice_is_seldom_called_different() -> None:
    rng = np.random.default_rng(3)
    a, b = np.exp(0.1 * rng.normal(size=(2, 40)))
    assert 0.01 < false_difference_rate(a, b, trials=200) < 0.12
    assert false_difference_rate(a, a) == 0.0


def test_removing_outliers_loses_the_mean_and_nothing_else_does() -> None:
    found = simulate_coverage(repetitions=60)
    assert found.mean_without_outliers < 0.1
    assert found.mean > 0.85
    assert found.median > 0.85
