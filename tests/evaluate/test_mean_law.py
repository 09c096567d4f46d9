import itertools

import numpy as np
import pytest
from scipy.stats import binom

from seqrec_lib.evaluate.statistics import TOLERANCE, mean_law, metric_values


def means_and_probabilities(law):
    return (law.first + np.arange(len(law.probability))) * law.step / law.n, law.probability


@pytest.mark.parametrize(
    "values", [[0.0, 0.0, 1.0, 0.5], [1.0, -1.0, 0.3, 0.0, 0.0], [5.5, 7.25], [0.1, 0.2, 0.2, 0.4]]
)
def test_every_sample_written_out(values):
    values = np.array(values)
    law = mean_law(values)
    exact = np.array([np.mean(sample) for sample in itertools.product(values, repeat=len(values))])
    near = 1e-3 * np.ptp(values)  # on the grid, what is no multiple of its step lies a little beside its place
    for mean in np.unique(exact):
        inside = np.mean(np.abs(exact - mean) <= near)
        means, p = means_and_probabilities(law)
        assert p[np.abs(means - mean) <= near].sum() == pytest.approx(inside, abs=1e-9)
    for centre, distance in ((values.mean(), 0.31 * np.ptp(values)), (values.mean(), 0.011), (0.07, 0.2)):
        assert law.beyond(centre, distance) == pytest.approx(np.mean(np.abs(exact - centre) >= distance), abs=1e-9)
    half = np.mean(exact < values.mean() - 1e-9) + np.mean(np.abs(exact - values.mean()) <= 1e-9) / 2
    assert law.below(values.mean()) == pytest.approx(half, abs=0.02)


@pytest.mark.parametrize(("n", "hits"), [(10, 1), (500, 20), (50_000, 3), (200_000, 9_000)])
def test_hits_are_binomial(n, hits):
    law = mean_law(np.repeat([0.0, 1.0], [n - hits, hits]))
    shares = np.array([1e-6, 0.025, 0.5, 0.975, 1 - 1e-6])
    assert law.quantiles(shares) * n == pytest.approx(binom.ppf(shares, n, hits / n))
    middle = binom.cdf(hits - 1, n, hits / n) + binom.pmf(hits, n, hits / n) / 2
    assert law.below(hits / n) == pytest.approx(middle, abs=1e-9)
    assert law.beyond(hits / n, 0.0) == 1.0
    farther = binom.cdf(0, n, hits / n) + binom.sf(2 * hits - 1, n, hits / n)  # hits away, or more
    assert law.beyond(hits / n, hits / n) == pytest.approx(farther, rel=1e-8, abs=1e-12)


def test_thirds_are_on_the_grid():
    values = np.array([0, 0, 1, 2, 3, 0, 1, 0, 0]) / 3
    means, p = means_and_probabilities(mean_law(values))
    thirds = means * 27
    assert np.round(thirds[p > 1e-9]) == pytest.approx(thirds[p > 1e-9], abs=1e-6)


@pytest.mark.parametrize("users", [40, 900, 20_000])
def test_moments_of_the_mean(users):
    rng = np.random.default_rng(users)
    seeds = metric_values(rng.geometric(0.04, (6, users)), "ndcg@10")
    values = seeds[:3].mean(axis=0) - seeds[3:].mean(axis=0)
    means, p = means_and_probabilities(mean_law(values))
    deviations, sd = values - values.mean(), values.std()
    assert p @ means == pytest.approx(values.mean(), abs=1e-9)
    spread = p @ (means - values.mean()) ** 2
    assert 1 - 1e-6 <= spread * users / sd**2 <= 1 + 1.1 * TOLERANCE
    skewness = p @ (means - values.mean()) ** 3 / spread**1.5
    assert skewness == pytest.approx(np.mean(deviations**3) / sd**3 / np.sqrt(users), abs=1e-4)


def test_quantiles_and_shares_agree_with_resampling():
    rng = np.random.default_rng(5)
    values = metric_values(rng.geometric(0.05, (3, 700)), "mrr@10").mean(axis=0)
    law = mean_law(values)
    sample = values[rng.integers(700, size=(20_000, 700))].mean(axis=1)
    for share in (0.005, 0.025, 0.3, 0.5, 0.975):
        error = 4 * np.sqrt(share * (1 - share) / 20_000)
        assert np.mean(sample <= law.quantiles(np.array([share]))[0]) == pytest.approx(share, abs=error)
    assert law.below(values.mean()) == pytest.approx(np.mean(sample < values.mean()), abs=4 * 0.5 / np.sqrt(20_000))


def test_far_from_zero_nothing_changes():
    values = np.random.default_rng(2).gamma(0.3, size=300)
    shares = np.array([0.025, 0.5, 0.975])
    near, far = mean_law(values).quantiles(shares), mean_law(values + 1000).quantiles(shares)
    assert far - 1000 == pytest.approx(near, abs=1e-4 * values.std())
