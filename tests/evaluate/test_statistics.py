import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, norm, ttest_rel

from seqrec_lib.errors import SeqRecError
from seqrec_lib.evaluate.statistics import (
    Interval,
    average_over_seeds,
    bootstrap_interval,
    compare_pairs,
    holm,
    metric_values,
    paired_difference,
)
from seqrec_lib.report.paper import Printed, verdict


def ndcg(n, seed=0, p=0.05):
    return metric_values(np.random.default_rng(seed).geometric(p, n), "ndcg@10")


def test_metric_values_by_hand_and_bad_names():
    assert metric_values(np.array([1, 2, 5, 6]), "mrr@5").tolist() == [1, 0.5, 0.2, 0]
    assert metric_values(np.array([10, 11]), "ht@10").tolist() == [1, 0]
    for name in ("auc@10", "ht", "ht@0", "ht@x"):
        with pytest.raises(SeqRecError, match="unknown metric"):
            metric_values(np.array([1]), name)


def test_averaging_over_seeds_needs_the_same_users():
    assert average_over_seeds([np.array([0.0, 1.0]), np.array([1.0, 1.0])]).tolist() == [0.5, 1.0]
    with pytest.raises(SeqRecError, match=r"\[2, 3\] users"):
        average_over_seeds([np.zeros(2), np.zeros(3)])


@pytest.mark.parametrize("values", [ndcg(2_000), ndcg(60, p=0.03), np.random.default_rng(0).exponential(size=80)])
def test_interval_agrees_with_scipys_bca(values):
    ours = bootstrap_interval(values)
    theirs = bootstrap((values,), np.mean, rng=4, batch=500).confidence_interval
    width = theirs.high - theirs.low
    assert ours.estimate == values.mean()
    assert ours.low == pytest.approx(theirs.low, abs=0.04 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.04 * width)


def test_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(5)
    truth = sum(0.05 * 0.95 ** (r - 1) / np.log2(r + 1) for r in range(1, 11))
    covered = [
        interval.low <= truth <= interval.high
        for interval in (bootstrap_interval(metric_values(rng.geometric(0.05, 500), "ndcg@10")) for _ in range(300))
    ]
    assert 0.915 <= np.mean(covered) <= 0.985  # 0.95 plus or minus 2.8 standard errors of 300 trials


def test_hits_have_the_binomials_interval():
    # hits and misses: the bootstrap law of the rate is binomial, and BCa can be written out
    n, hits = 200, 9
    rate = hits / n
    bias = norm.ppf(binom.cdf(hits - 1, n, rate) + binom.pmf(hits, n, rate) / 2)
    acceleration = (1 - 2 * rate) / (6 * math.sqrt(n * rate * (1 - rate)))
    z = bias + norm.ppf([0.025, 0.975])
    low, high = binom.ppf(norm.cdf(bias + z / (1 - acceleration * z)), n, rate) / n
    found = bootstrap_interval(np.repeat([1.0, 0.0], [hits, n - hits]))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_interval_does_not_hang_on_the_order_of_users():
    values = ndcg(300)
    again = bootstrap_interval(np.random.default_rng(1).permutation(values))
    assert (again.low, again.high) == pytest.approx((bootstrap_interval(values).low, bootstrap_interval(values).high))


def test_constant_and_unusable_values():
    assert bootstrap_interval(np.zeros(50)) == Interval(0.0, 0.0, 0.0)
    # one hit among many: the share of resamples below the estimate is far from a half, and nothing is nan
    one = bootstrap_interval(np.eye(1, 100)[0])
    assert 0 <= one.low < 0.01 < one.high < 0.1
    with pytest.raises(SeqRecError, match="no bootstrap of 1 values"):
        bootstrap_interval(np.ones(1))
    with pytest.raises(SeqRecError, match="all finite: False"):
        bootstrap_interval(np.array([0.0, np.nan]))


def p_value(a, b):
    return paired_difference(a, b)[1]


def test_p_value_agrees_with_the_t_test_and_knows_no_difference():
    rng = np.random.default_rng(0)
    a = rng.normal(size=500)
    for shift in (0.0, 0.03, 0.08):
        b = a + shift + rng.normal(scale=0.7, size=500)
        assert p_value(a, b) == pytest.approx(ttest_rel(a, b).pvalue, abs=0.01)
    assert p_value(a, a) == 1.0
    assert p_value(a, a + 1) < 1e-12
    with pytest.raises(SeqRecError, match="500 and 3 users"):
        p_value(a, np.zeros(3))


def test_p_value_agrees_with_resampling():
    rng = np.random.default_rng(3)
    a, b = (metric_values(rng.geometric(p, (2, 400)), "ndcg@10").mean(axis=0) for p in (0.08, 0.06))
    centred = (a - b) - (a - b).mean()
    means = centred[rng.integers(400, size=(20_000, 400))].mean(axis=1)
    resampled = np.mean(np.abs(means) >= abs((a - b).mean()))
    assert p_value(a, b) == pytest.approx(resampled, abs=4 * math.sqrt(resampled * (1 - resampled) / 20_000))


def test_p_value_of_hits_by_hand():
    # Three users gained a hit, one lost one, four stay: 2 in 8 more. A draw is +1, -1 or 0 with probability 3/8, 1/8,
    # 4/8; a sum of 8 is at least 2 away from its mean 2 where it is no more than 0 or no less than 4, ties included.
    one, law = {1: 3 / 8, -1: 1 / 8, 0: 4 / 8}, {0: 1.0}
    for _ in range(8):
        law = {t: sum(law.get(t - step, 0) * p for step, p in one.items()) for t in range(-8, 9)}
    expected = sum(p for total, p in law.items() if abs(total - 2) >= 2)
    before, after = np.array([0, 0, 0, 1, 0, 0, 1, 1.0]), np.array([1, 1, 1, 0, 0, 0, 1, 1.0])
    assert p_value(after, before) == pytest.approx(expected)
    assert p_value(before, after) == pytest.approx(expected)


def test_p_value_is_uniform_when_nothing_differs():
    rng = np.random.default_rng(7)
    p = np.array([p_value(*metric_values(rng.geometric(0.05, (2, 300)), "ndcg@10")) for _ in range(300)])
    assert 0.02 <= np.mean(p <= 0.05) <= 0.09
    assert p.mean() == pytest.approx(0.5, abs=0.06)


def test_holm_by_hand_and_by_definition():
    assert holm([]) == []
    assert holm([0.3]) == [0.3]
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.uniform(size=6)
        for i, adjusted in enumerate(holm(list(p))):
            # by definition: the largest, over hypotheses no larger than this one, of (how many are left) x p
            worst = max(sum(p >= q) * q for q in p if q <= p[i])
            assert adjusted == pytest.approx(min(1, worst))


def test_compare_pairs_pairs_users():
    rng = np.random.default_rng(0)
    base = rng.normal(size=400)
    values = {"a": base, "b": base + 0.01 * rng.normal(size=400) + 0.01, "c": rng.normal(size=400)}
    tests = compare_pairs([(a, values[a], b, values[b]) for a, b in itertools.combinations(values, 2)])
    assert [(test.a, test.b) for test in tests] == [("a", "b"), ("a", "c"), ("b", "c")]
    # unpaired, a difference of 0.01 is lost in the spread of 1; paired it is plain
    assert tests[0].p_holm < 0.01
    assert tests[0].difference.high < 0
    assert [test.p_holm for test in tests] == pytest.approx(holm([test.p for test in tests]))


def test_verdict_rules_in_their_order():
    paper, wide, above, below = Printed("0.224"), Interval(0.23, 0.21, 0.25), Interval(0.3, 0.28, 0.32), None
    below = Interval(0.2, 0.19, 0.21)
    assert verdict(paper, None, wide) == "not run"
    assert verdict(None, None) == "not run"
    assert verdict(None, 0.3, above, comparable=False) == "not in the paper"
    assert verdict(paper, 0.3, above, comparable=False) == "other data"
    assert verdict(paper, 0.3, above, comparable=False, same_order=False) == "other data"
    assert verdict(paper, 0.3, above, same_order=False) == "other order"
    assert verdict(paper, 0.23, wide) == "matches"
    assert verdict(paper, 0.3, above) == "ours higher"
    assert verdict(paper, 0.2, below) == "ours lower"
    # rounding: 0.2244 prints as 0.224, 0.2246 does not
    assert verdict(paper, 0.2244) == "matches"
    assert verdict(paper, 0.2246) == "ours higher"
    assert verdict(paper, 0.2234) == "ours lower"
    # an interval without width says nothing: the number itself stands for it
    assert verdict(paper, 0.3, Interval(0.3, 0.3, 0.3)) == "ours higher"
