"""How sure is a number: bootstrap intervals over users or over rounds of a timing, and paired tests between models.

Two things vary in a metric, and are reported apart. Which *users* happen to be in the data: the bootstrap draws users
with replacement, each with the mean of its metric over the seeds. Which *seed* trained the model: the
standard deviation of the metric over seeds. A user interval alone says nothing about other seeds, nor the
reverse.

The bootstrap is BCa (Efron 1987): a metric's mean over users is a mean of many zeros and few hits, thus skewed, and the
plain percentile interval then sits too low when hits are rare. For thousands of users both agree closely. Nothing is
resampled: `mean_law` computes what resampling converges to. Paired tests are bootstrap tests rather than Wilcoxon or
sign tests, whose type-1 error is inflated on data of this size (Ihemelandu and Ekstrand 2023); Holm's step-down
correction covers all pairs of models of one table.

The law of the mean: the draws are independent, so that the law of their sum is the n-fold convolution of the law of one
draw, whose characteristic function is that of one draw to the power of n. Two fast Fourier transforms give it, as they
give the laws of permutation tests (Pagano and Tritchler 1983, JASA 78). Values are laid on a grid through 0, each
shared by the two points around it so that the mean stays as it is. Those on the grid (hits and their means over seeds)
stay where they are; others gain a variance that `TOLERANCE` bounds.

n: how many values there are, and are drawn. A sum is counted in steps of the grid.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft, stats
from scipy.stats import norm

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.metrics import per_user

RESAMPLES = 4_999
FEW = 30  # values
STEPS = 840  # of the grid in the range of the values, or a multiple: divisible by 1 to 8
POINTS = 2**15  # least number of sums that the law is computed at
TOLERANCE = 1e-4  # most that the grid may add to the variance, as a part of it
TAIL = 1e-12  # probability that is left out on either side
SAME = 1e-6  # steps between two sums that are equal but for rounding
EQUAL = 1e-12  # values that differ by no more are equal: means over the same seeds may differ in the last bit


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval; ``low`` and ``high`` are NaN where there is nothing to resample."""

    estimate: float
    low: float = math.nan
    high: float = math.nan

    def excludes(self, number: float) -> bool:
        """Whether the interval exists and leaves ``number`` out."""
        return self.low > number or self.high < number


@dataclass(frozen=True)
class PairedTest:
    """Model ``a`` against ``b`` on the same users; ``difference`` is of a - b, ``p_holm`` adjusted."""

    a: str
    b: str
    difference: Interval
    p: float
    p_holm: float


def metric_values(ranks: np.ndarray, metric: str) -> np.ndarray:
    """Each user's metric from the rank of its target, by the metric's name; shape (n_users,) in and out,
    float64.

    ``metric`` is "ht@k", "ndcg@k" or "mrr@k", as `seqrec_lib.evaluate.metrics.per_user` defines them.

    >>> metric_values(np.array([1, 3, 11]), "ndcg@10").tolist()
    [1.0, 0.5, 0.0]

    Raises:
        SeqRecError: another metric.
        ValueError: a rank below 1, or no rank.
    """
    name, _, cut = metric.partition("@")
    if name not in {"ht", "ndcg", "mrr"} or not cut.isdigit() or int(cut) < 1:
        raise SeqRecError(f"unknown metric {metric!r}; use ht@k, ndcg@k or mrr@k with a whole k from 1")
    return per_user(ranks, int(cut))[name]


def average_over_seeds(values: Sequence[np.ndarray]) -> np.ndarray:
    """Each user's mean over seeds, from one array (n_users,) per seed, all in the same user order.

    Raises:
        SeqRecError: no seed, or seeds with different numbers of users.
    """
    sizes = {len(seed) for seed in values}
    if len(sizes) != 1:
        raise SeqRecError(f"seeds with {sorted(sizes)} users can't be averaged; they must rank the same users")
    return np.mean(np.stack([np.asarray(seed, dtype=np.float64) for seed in values]), axis=0)


def bootstrap_interval(values: np.ndarray) -> Interval:
    """BCa bootstrap interval of the mean of ``values``, one per user, shape (n_users,).

    The acceleration of a mean has a closed form, sum d^3 / (6 (sum d^2)^1.5) with d = x - mean; the rest is
    Efron (1987), eq. 2.3 to 2.8, ties in the bias correction counted by half. Where all values are equal, the
    interval has no width.

    Raises:
        SeqRecError: fewer than 2 users, or a value that is not finite.
    """
    values = _usable(values)
    return _interval(values, None if _all_equal(values) else mean_law(values))


def interval(
    values: np.ndarray, statistic: Callable[..., np.ndarray] = np.mean, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """``statistic`` of a few values (n,), units of a timing say, with its 95 % bootstrap interval; without one where
    fewer than 3 values differ.

    Of a mean of fewer than `FEW` values it is the studentised bootstrap, as BCa's intervals of ten values are a fifth
    too narrow; of other means that of `bootstrap_interval`; of another statistic BCa from resamples.
    """
    value = float(statistic(values))
    if len(values) < 3 or np.ptp(values) <= 1e-9 * np.abs(values).max():
        return Interval(value)
    if statistic is np.mean:
        return _studentised(values, resamples, seed) if len(values) < FEW else bootstrap_interval(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        ends = stats.bootstrap(
            (values,), statistic, n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed), vectorized=True
        ).confidence_interval
    if not np.isfinite([ends.low, ends.high]).all():
        return Interval(value)
    return Interval(value, float(ends.low), float(ends.high))


def _studentised(values: np.ndarray, resamples: int, seed: int) -> Interval:
    """The mean, with quantiles of (mean of a resample - mean) in units of the resample's own standard error."""
    n, mean = len(values), float(values.mean())
    drawn = values[np.random.default_rng(seed).integers(n, size=(resamples, n))]
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(n)
    usable = errors > 1e-9 * np.abs(values).max()  # else one value was drawn n times
    high, low = np.quantile((drawn.mean(axis=1)[usable] - mean) / errors[usable], (0.975, 0.025))
    error = values.std(ddof=1) / np.sqrt(n)
    return Interval(mean, float(mean - high * error), float(mean - low * error))


def ratio(a: np.ndarray, b: np.ndarray) -> Interval:
    """How many times as much a is as b: the geometric mean over units of a / b, paired by unit, with its interval.

    >>> ratio(np.array([2.0, 8.0]), np.array([1.0, 1.0])).estimate
    4.0
    """
    logs = interval(np.log(a) - np.log(b))
    return Interval(*(float(np.exp(end)) if end == end else math.nan for end in (logs.estimate, logs.low, logs.high)))


def seed_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and the ends of its 95 % interval by Student's t; NaN where there are too few values.

    >>> [round(number, 3) for number in seed_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    """
    if not len(values):
        return math.nan, math.nan, math.nan
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * stats.sem(values)) if n > 1 else math.nan
    return mean, mean - half, mean + half


def paired_difference(a: np.ndarray, b: np.ndarray) -> tuple[Interval, float]:
    """Mean of a - b by user with its interval, and the two-sided bootstrap p-value for "a and b have equal means";
    shape (n_users,) each.

    Under the hypothesis the law of the mean is that of the bootstrap moved to 0; p is the probability of a mean that
    lies at least as far from 0 as the observed one.

    Raises:
        SeqRecError: as `average_difference` and `bootstrap_interval`.
    """
    difference = _usable(average_difference(a, b))
    law = None if _all_equal(difference) else mean_law(difference)
    interval = _interval(difference, law)
    if law is None:
        return interval, float(abs(interval.estimate) <= EQUAL)
    return interval, law.beyond(interval.estimate, abs(interval.estimate))


def _usable(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        raise SeqRecError(
            f"no bootstrap of {len(values)} values (all finite: {np.isfinite(values).all()}); "
            "give finite values of at least 2 users"
        )
    return values


def _all_equal(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= EQUAL)


def _interval(values: np.ndarray, law: MeanLaw | None) -> Interval:
    estimate = float(values.mean())
    if law is None:
        return Interval(estimate, estimate, estimate)
    bias = norm.ppf(law.below(estimate))
    deviations = values - estimate
    acceleration = np.sum(deviations**3) / (6 * np.sum(deviations**2) ** 1.5)
    z = bias + norm.ppf([0.025, 0.975])
    low, high = law.quantiles(norm.cdf(bias + z / (1 - acceleration * z)))
    return Interval(estimate, float(low), float(high))


def average_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b by user.

    Raises:
        SeqRecError: different numbers of users.
    """
    if len(a) != len(b):
        raise SeqRecError(f"models with {len(a)} and {len(b)} users can't be paired; they must rank the same users")
    return np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: the i-th smallest times (m - i + 1), never
    decreasing.

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]      # 3 x 0.01, 2 x 0.03, then no less than before
    [0.03, 0.06, 0.06]
    """
    p, order = np.array(p_values, dtype=np.float64), np.argsort(p_values, kind="stable")
    p[order] = np.maximum.accumulate(np.minimum(p[order] * np.arange(len(p), 0, -1), 1.0))
    return p.tolist()


def compare_pairs(pairs: Sequence[tuple[str, np.ndarray, str, np.ndarray]]) -> list[PairedTest]:
    """Test each (name a, its users, name b, its users), shape (n_users,) each; Holm's correction over all of them.

    The intervals are not corrected: each is for its own pair.
    """
    found = [(name, other, *paired_difference(a, b)) for name, a, other, b in pairs]
    corrected = holm([p for _, _, _, p in found])
    return [PairedTest(*own, p_holm) for own, p_holm in zip(found, corrected, strict=True)]


# The law of a mean


@dataclass(frozen=True)
class MeanLaw:
    """Law of the mean of ``n`` draws: ``probability[i]`` of a sum of (``first`` + i) steps of width ``step``."""

    n: int
    step: float
    first: int
    probability: np.ndarray

    @cached_property
    def _cumulated(self) -> np.ndarray:
        return np.cumsum(self.probability)

    def below(self, mean: float) -> float:
        """Probability of a smaller mean than ``mean``, plus half of that of an equal one."""
        place = self._place(mean)
        upto, equal = math.floor(place + SAME) + 1, abs(place - round(place)) <= SAME
        return self._share(upto) - (self._share(upto) - self._share(upto - 1)) / 2 * equal

    def beyond(self, centre: float, distance: float) -> float:
        """Probability of a mean that lies ``distance`` or more away from ``centre``, on either side."""
        place, away = self._place(centre), distance * self.n / self.step - SAME
        lower, upper = math.floor(place - away) + 1, math.ceil(place + away)
        return 1.0 if lower >= upper else self._share(lower) + float(self.probability[max(upper, 0) :].sum())

    def quantiles(self, shares: np.ndarray) -> np.ndarray:
        """For each share the least mean that at least this share of samples does not exceed."""
        places = np.searchsorted(self._cumulated, np.minimum(shares, self._cumulated[-1]))
        return (self.first + places) * self.step / self.n

    def _share(self, sums: int) -> float:
        """Probability of the first ``sums`` sums."""
        return float(self._cumulated[min(sums, len(self._cumulated)) - 1]) if sums > 0 else 0.0

    def _place(self, mean: float) -> float:
        return mean * self.n / self.step - self.first


def mean_law(values: np.ndarray) -> MeanLaw:
    """The law of the mean of n draws with replacement from ``values``, shape (n,), n at least 2, not all equal."""
    n, spread, reach = len(values), float(np.ptp(values)), _reach(values)
    steps = STEPS * math.ceil(POINTS / (2 * reach / spread * STEPS))
    below, share = _on_grid(values, spread / steps)
    added = float(np.mean(share * (1 - share))) / steps**2  # in units of the squared range
    excess = added * spread**2 / (TOLERANCE * float(np.var(values)))
    if excess > 1:  # the variance that a grid adds falls with the square of its step
        steps = STEPS * math.ceil(steps * math.sqrt(excess) / STEPS)
        below, share = _on_grid(values, spread / steps)
    if not share.any():  # all on the grid, of which hits take few points: a coarser one has the same sums
        steps //= math.gcd(steps, int(np.gcd.reduce(below)))
        below = np.round(values / spread * steps).astype(np.int64)
    step = spread / steps
    points = fft.next_fast_len(math.ceil(2 * reach / step) + 3, real=True)
    # Sums are counted modulo ``points``: whatever lies in the window around the mean is told apart.
    places = np.concatenate([below, below + 1]) % points
    one_draw = np.bincount(places, np.concatenate([1 - share, share]) / n, minlength=points)
    first = math.floor(float(values.mean()) * n / step) - points // 2
    probability = np.roll(fft.irfft(_power(fft.rfft(one_draw), n), points), -(first % points))
    probability = np.maximum(probability, 0.0)
    return MeanLaw(n, step, first, probability / probability.sum())


def _on_grid(values: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """The grid's point below each value, and the share of the value that goes to the one above."""
    places = values / step
    # where rounding leaves a value beside its point, it stands on it
    places = np.where(np.abs(places - np.round(places)) < SAME, np.round(places), places)
    below = np.floor(places).astype(np.int64)
    return below, places - below


def _reach(values: np.ndarray) -> float:
    """How far the sum of n draws lies from its mean, but for `TAIL` (Bernstein's inequality; never beyond all n)."""
    deviations = values - values.mean()
    largest, sizes = float(np.abs(deviations).max()), -math.log(TAIL)
    linear = sizes * largest / 3
    tail = linear + math.sqrt(linear**2 + 2 * sizes * float(np.sum(deviations**2)) * (1 + TOLERANCE))
    return min(tail, len(values) * largest * (1 + 2 / STEPS))  # a value may move by a step


def _power(transform: np.ndarray, n: int) -> np.ndarray:
    """``transform ** n``; what is below 1e-20 is 0, which is most of it."""
    size = np.abs(transform)
    kept = size > math.exp(math.log(1e-20) / n)
    found = np.zeros_like(transform)
    found[kept] = np.exp(n * np.log(transform[kept]))
    return found
