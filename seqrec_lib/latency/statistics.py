"""Statistics of service times: the paper's estimand, and estimates whose intervals hold.

A sample is one user's *service time*: the next request starts when the last one is done, so that no waiting in a queue
is in it. Times within a block of calls resemble each other, and so do blocks within a process (memory layout, clock,
what else the machine does). The unit that is resampled is therefore not the call: it is the process where there are at
least `FEWEST_PROCESSES`, else the block. Two contestants are compared by the ratio of their medians in each block,
where both served the same users within a second of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from seqrec_lib.evaluate.statistics import interval

FEWEST_PROCESSES = 8
Statistic = Callable[..., np.ndarray]


def fences(values: np.ndarray, reach: float = 1.5) -> tuple[float, float]:
    """Tukey's fences: ``reach`` interquartile ranges beyond the quartiles.

    >>> fences(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    (-1.0, 7.0)
    """
    low, high = np.quantile(values, [0.25, 0.75])
    spread = reach * (high - low)
    return float(low - spread), float(high + spread)


def outlier_shares(values: np.ndarray) -> tuple[float, float]:
    """Shares of mild (1.5 to 3 interquartile ranges beyond the quartiles) and severe (further) outliers.

    >>> outlier_shares(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 90.0, 3.0]))
    (0.0, 0.125)
    """
    (mild_low, mild_high), (low, high) = fences(values, 1.5), fences(values, 3.0)
    severe = (values < low) | (values > high)
    mild = ((values < mild_low) | (values > mild_high)) & ~severe
    return float(mild.mean()), float(severe.mean())


def without_outliers(values: np.ndarray) -> np.ndarray:
    """The values within Tukey's fences (1.5 interquartile ranges)."""
    low, high = fences(values)
    return values[(values >= low) & (values <= high)]


def units(values: np.ndarray, process: np.ndarray, block: np.ndarray) -> np.ndarray:
    """The median of each block, averaged by process where there are enough of them: (units,), in a fixed order.

    Args:
        values: seconds, one per call. process, block: which process and which of its blocks each call belongs to.
    """
    keys = process.astype(np.int64) * (int(block.max()) + 1) + block
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    medians = np.array([np.median(part) for part in np.split(values[order], starts[1:])])
    owner = process[order][starts]
    if len(np.unique(owner)) < FEWEST_PROCESSES:
        return medians
    return np.array([medians[owner == p].mean() for p in np.unique(owner)])


def unit_name(process: np.ndarray) -> str:
    """What `units` resamples: "process" or "block"."""
    return "process" if len(np.unique(process)) >= FEWEST_PROCESSES else "block"


def false_difference_rate(a: np.ndarray, b: np.ndarray, *, trials: int = 400, seed: int = 0) -> float:
    """The A/A control: how often one contestant, timed twice, is called different from itself.

    The labels of the two timings are swapped at random within each unit, and the interval of their ratio is formed; the
    share of trials in which it leaves out 1 should be near 5 %.

    Args:
        a, b: the two timings by unit.
    """
    rng = np.random.default_rng(seed)
    differences = np.log(a) - np.log(b)
    if len(differences) < 3 or np.ptp(differences) == 0:
        return 0.0
    signs = rng.choice([-1.0, 1.0], size=(trials, len(differences)))
    return float(np.mean([interval(s * differences, resamples=499, seed=i).excludes(0.0) for i, s in enumerate(signs)]))


@dataclass(frozen=True)
class Coverage:
    """In how many of ``repetitions`` simulated studies a 95 % interval held the truth."""

    mean: float
    mean_without_outliers: float
    median: float
    repetitions: int
    calls: int


def simulate_coverage(repetitions: int = 120, calls: int = 300, seed: int = 0) -> Coverage:
    """What removing outliers does, on latencies whose truth is known.

    Log-normal times (sigma 0.15) of which 3 % are 2 to 6 times as long, as a page fault or another process makes them.
    The true mean counts those calls: users wait for them.
    """
    rng = np.random.default_rng(seed)
    true_mean = np.exp(0.15**2 / 2) * (0.97 + 0.03 * 4.0)
    true_median = float(np.median(_simulated(np.random.default_rng(2**20), 10**6)))
    held = np.zeros(3)
    for repetition in range(repetitions):
        times = _simulated(rng, calls)
        trials: list[tuple[np.ndarray, Statistic, float]] = [
            (times, np.mean, true_mean),
            (without_outliers(times), np.mean, true_mean),
            (times, np.median, true_median),
        ]
        for place, (values, statistic, truth) in enumerate(trials):
            found = interval(values, statistic, resamples=399, seed=repetition)
            held[place] += not found.excludes(truth)
    mean, trimmed, median = (held / repetitions).tolist()
    return Coverage(mean, trimmed, median, repetitions, calls)


def _simulated(rng: np.random.Generator, n: int) -> np.ndarray:
    slow = rng.random(n) < 0.03
    return np.exp(0.15 * rng.standard_normal(n)) * np.where(slow, rng.uniform(2.0, 6.0, n), 1.0)
