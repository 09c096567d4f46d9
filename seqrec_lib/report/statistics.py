"""How sure is a number: bootstrap intervals over users, paired tests between models, and the verdict on the
paper.

Two things vary, and are reported apart. Which *users* happen to be in the data: the bootstrap draws users
with replacement, each with the mean of its metric over the seeds. Which *seed* trained the model: the
standard deviation of the metric over seeds. A user interval alone says nothing about other seeds, nor the
reverse.

The bootstrap is BCa (Efron 1987): a metric's mean over users is a mean of many zeros and few hits, thus skewed, and the
plain percentile interval then sits too low when hits are rare. For thousands of users both agree closely. Nothing is
resampled: `bootstrap` computes what resampling converges to. Paired tests are bootstrap tests rather than Wilcoxon or
sign tests, whose type-1 error is inflated on data of this size (Ihemelandu and Ekstrand 2023); Holm's step-down
correction covers all pairs of models of one table.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.metrics import per_user
from seqrec_lib.report.bootstrap import MeanLaw, mean_law
from seqrec_lib.report.paper import Printed

EQUAL = 1e-12  # values that differ by no more are equal: means over the same seeds may differ in the last bit

Verdict = Literal["matches", "ours higher", "ours lower", "not run", "other data", "not in the paper"]


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval. ``degenerate``: all users have one value; nothing to resample."""

    estimate: float
    low: float
    high: float
    level: float = 0.95
    degenerate: bool = False


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


def bootstrap_interval(values: np.ndarray, *, level: float = 0.95) -> Interval:
    """BCa bootstrap interval of the mean of ``values``, one per user, shape (n_users,).

    The acceleration of a mean has a closed form, sum d^3 / (6 (sum d^2)^1.5) with d = x - mean; the rest is
    Efron (1987), eq. 2.3 to 2.8, ties in the bias correction counted by half. Where all values are equal, the
    interval has no width and is marked ``degenerate``.

    Raises:
        SeqRecError: fewer than 2 users, or a value that is not finite.
    """
    values = _usable(values)
    return _interval(values, None if _all_equal(values) else mean_law(values), level)


def seed_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds and the ends of its Student's t interval; NaN where there are too few values.

    >>> [round(number, 3) for number in seed_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    """
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, float("nan"), float("nan")
    half = float(student.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def paired_difference(a: np.ndarray, b: np.ndarray, *, level: float = 0.95) -> tuple[Interval, float]:
    """Mean of a - b by user with its interval, and the two-sided bootstrap p-value for "a and b have equal means";
    shape (n_users,) each.

    Under the hypothesis the law of the mean is that of the bootstrap moved to 0; p is the probability of a mean that
    lies at least as far from 0 as the observed one.

    Raises:
        SeqRecError: as `average_difference` and `bootstrap_interval`.
    """
    difference = _usable(average_difference(a, b))
    law = None if _all_equal(difference) else mean_law(difference)
    interval = _interval(difference, law, level)
    if law is None:
        return interval, float(abs(interval.estimate) <= EQUAL)
    return interval, law.beyond(interval.estimate, abs(interval.estimate))


def within(interval: Interval, margin: float) -> bool | None:
    """Whether an interval lies within ``margin`` of zero, True, or wholly beyond, False; None where it reaches across.

    >>> [within(Interval(0, low, high), 1.0) for low, high in ((-0.5, 1.0), (1.5, 2.0), (-0.5, 2.0))]
    [True, False, None]
    """
    if max(abs(interval.low), abs(interval.high)) <= margin:
        return True
    return False if interval.low > margin or interval.high < -margin else None


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


def _interval(values: np.ndarray, law: MeanLaw | None, level: float) -> Interval:
    estimate = float(values.mean())
    if law is None:
        return Interval(estimate, estimate, estimate, level, degenerate=True)
    bias = norm.ppf(law.below(estimate))
    deviations = values - estimate
    acceleration = np.sum(deviations**3) / (6 * np.sum(deviations**2) ** 1.5)
    z = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = law.quantiles(norm.cdf(bias + z / (1 - acceleration * z)))
    return Interval(estimate, float(low), float(high), level)


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
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for i, index in enumerate(sorted(range(len(p_values)), key=lambda j: p_values[j])):
        largest = max(largest, min(1.0, (len(p_values) - i) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def compare_pairs(pairs: Sequence[tuple[str, np.ndarray, str, np.ndarray]], *, level: float = 0.95) -> list[PairedTest]:
    """Test each (name a, its users, name b, its users), shape (n_users,) each; Holm's correction over all of them.

    The intervals are not corrected: each is for its own pair.
    """
    found = [(name, other, *paired_difference(a, b, level=level)) for name, a, other, b in pairs]
    corrected = holm([p for _, _, _, p in found])
    return [PairedTest(*own, p_holm) for own, p_holm in zip(found, corrected, strict=True)]


def compare_models(values: Mapping[str, np.ndarray], *, level: float = 0.95) -> list[PairedTest]:
    """`compare_pairs` of every two models, from one array (n_users,) each, in the order of ``values``."""
    return compare_pairs([(a, values[a], b, values[b]) for a, b in itertools.combinations(values, 2)], level=level)


def verdict(
    paper: Printed | None, ours: float | None, interval: Interval | None = None, *, comparable: bool = True
) -> Verdict:
    """One word on our number beside the paper's, by these rules, the first that holds:

    1. "not run": there is no number of ours;
    2. "not in the paper": the paper prints no number for this model and metric;
    3. "other data": the paper's number is about another collection (``comparable`` is False);
    4. "matches": our interval and the numbers that round to the paper's (half a unit of its last place each
    way)
       have a point in common; without an interval (None or degenerate), our number itself stands for it;
    5. "ours higher" or "ours lower": our whole interval lies above or below them.

    "matches" means: not told apart, which a wide interval makes easy. The paper gives no seeds and no
    interval of its own, so that its side of the uncertainty is missing from the rule.

    >>> verdict(Printed("0.224"), 0.230, Interval(0.230, 0.2244, 0.236))
    'matches'
    >>> verdict(Printed("0.224"), 0.230, Interval(0.230, 0.2246, 0.236))
    'ours higher'
    """
    if ours is None:
        return "not run"
    if paper is None:
        return "not in the paper"
    if not comparable:
        return "other data"
    low, high = (ours, ours) if interval is None or interval.degenerate else (interval.low, interval.high)
    paper_low, paper_high = paper.range(0.5)
    if low > paper_high + 1e-12:
        return "ours higher"
    if high < paper_low - 1e-12:
        return "ours lower"
    return "matches"
