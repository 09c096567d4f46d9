"""The bootstrap law of a mean, computed instead of sampled.

The bootstrap draws n of n values with replacement and asks how their mean scatters. The draws are independent, so that
the law of their sum is known: the n-fold convolution of the law of one draw, whose characteristic function is that of
one draw to the power of n. Two fast Fourier transforms give it, as they give the laws of permutation tests (Pagano and
Tritchler 1983, JASA 78). It is what ever more resamples converge to: no seed, no noise, and no p-value that is bounded
by the number of resamples.

Values are laid on a grid through 0, each shared by the two points around it so that the mean stays exactly as it is.
Those on the grid (hits and their means over seeds) stay where they are; others gain a variance that `TOLERANCE` bounds.

n: how many values there are, and are drawn. A sum is counted in steps of the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft

STEPS = 840  # of the grid in the range of the values, or a multiple: divisible by 1 to 8
POINTS = 2**15  # least number of sums that the law is computed at
TOLERANCE = 1e-4  # most that the grid may add to the variance, as a part of it
TAIL = 1e-12  # probability that is left out on either side
SAME = 1e-6  # steps between two sums that are equal but for rounding


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
