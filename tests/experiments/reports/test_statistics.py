"""The statistics equal those of `rliable`, the published code of Agarwal et al. (2021).

Its values are of rliable 1.2.0 with arch 5.5.0, numpy 1.26 and scipy 1.12 (its own bootstrap does not run with newer
ones): `get_interval_estimates` and `create_performance_profile` with 20,000 to 50,000 resamples on X and Y below. A
bootstrap draws, so that its intervals agree within BOOTSTRAP only; all else to 1e-6.
"""

import numpy as np
import pytest
from scipy import stats

from experiments.reports import statistics

X = np.array([
    [0.808, 0.693, 0.498, 0.916, 0.560, 0.769],
    [0.620, 0.767, 0.716, 0.458, 0.505, 0.417],
    [0.824, 0.746, 0.610, 0.630, 0.911, 0.661],
    [0.678, 0.623, 0.513, 0.596, 0.910, 0.644],
    [0.652, 0.478, 0.511, 0.759, 0.766, 0.490],
])  # fmt: skip
Y = np.array([
    [0.939, 0.804, 0.356, 0.242, 0.838, 0.919],
    [0.870, 0.254, 0.624, 0.574, 0.728, 0.281],
    [0.851, 0.436, 0.528, 0.754, 0.939, 0.726],
    [0.689, 0.537, 0.613, 0.755, 0.487, 0.723],
])  # fmt: skip
BOOTSTRAP = 0.012
"""Of the ends of an interval from 2000 resamples."""


def half(scores):
    return statistics.optimality_gap(scores, 0.5)


@pytest.mark.parametrize(
    ("function", "scores", "value", "low", "high"),
    [
        (statistics.pooled_interquartile_mean, X, 0.6541875, 0.5956875, 0.70775),
        (statistics.pooled_mean, X, 0.657633333, 0.613433333, 0.702233333),
        (statistics.optimality_gap, X, 0.342366667, 0.297766667, 0.386566667),
        (half, X, 0.0053, 0.000666667, 0.0113),
        (statistics.pooled_interquartile_mean, Y, 0.67125, 0.57883125, 0.745166667),
        (statistics.pooled_mean, Y, 0.644458333, 0.572540625, 0.712541667),
        (statistics.optimality_gap, Y, 0.355541667, 0.287458333, 0.427459375),
        (half, Y, 0.039333333, 0.011333333, 0.071625),
    ],
)
def test_pooled_numbers_and_their_intervals_are_rliables(function, scores, value, low, high):
    found = statistics.estimate(function, scores)
    assert found.value == pytest.approx(value, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((low, high), abs=BOOTSTRAP)


def test_probabilities_of_improvement_are_rliables():
    found = statistics.estimate(statistics.probability_of_improvement, X, Y)
    assert found.value == pytest.approx(0.458333333, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((0.3, 0.616666667), abs=0.03)  # it moves in steps of 1/120
    test_matrices = np.array([[1, 2], [2, 2], [1, 1], [2, 1]]), np.array([[1, 1], [2, 2], [3, 3]])
    assert statistics.probability_of_improvement(*test_matrices) == pytest.approx(1 / 3)  # its own test's
    assert [float(statistics.pooled_interquartile_mean(each)) for each in test_matrices] == [1.5, 2.0]


def test_performance_profiles_are_rliables():
    thresholds = np.array([0.2, 0.4, 0.6, 0.8])

    def profile(scores):
        return statistics.performance_profile(scores, thresholds)

    values, low, high = statistics.estimate_curve(profile, X)
    np.testing.assert_allclose(values, [1, 1, 2 / 3, 1 / 6], atol=1e-6)
    np.testing.assert_allclose(low, [1, 1, 0.5, 2 / 30], atol=0.034)
    np.testing.assert_allclose(high, [1, 1, 0.8, 0.3], atol=0.034)
    values, low, high = statistics.estimate_curve(profile, Y)
    np.testing.assert_allclose(values, [1, 5 / 6, 0.625, 7 / 24], atol=1e-6)
    np.testing.assert_allclose(low, [1, 2 / 3, 11 / 24, 1 / 6], atol=0.042)
    np.testing.assert_allclose(high, [1, 23 / 24, 19 / 24, 11 / 24], atol=0.042)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 30])
def test_the_interquartile_mean_is_scipys_trimmed_mean(count):
    scores = np.random.default_rng(count).normal(size=(count, 2))
    np.testing.assert_allclose(statistics.interquartile_mean(scores, axis=0), stats.trim_mean(scores, 0.25, axis=0))


def test_the_chance_of_improvement_is_that_of_mann_and_whitney():
    x, y = np.round(X, 1), np.round(Y, 1)  # with ties
    of_scipy = [stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in zip(x.T, y.T, strict=True)]
    assert statistics.probability_of_improvement(x, y) == pytest.approx(np.mean(of_scipy))
    assert statistics.probability_of_improvement(x, y) + statistics.probability_of_improvement(y, x) == pytest.approx(1)


def test_the_same_scores_have_the_same_interval_and_two_seeds_have_none():
    once, again = (statistics.estimate(statistics.pooled_mean, X) for _ in range(2))
    assert once == again and once.low is not None
    assert statistics.estimate(statistics.pooled_mean, X[:2]) == statistics.Interval(float(X[:2].mean()))
    assert statistics.mean_difference([np.array([1.0, 2.0]), np.array([1.0, 2.0, 3.0])]).low is None


def test_resamples_stay_within_their_task():
    """Tasks of different difficulty widen no interval: here no task has any spread of its own."""
    scores = np.tile([0.0, 0.5, 1.0], (4, 1))
    assert statistics.estimate(statistics.pooled_mean, scores) == statistics.Interval(0.5, 0.5, 0.5)


def test_pairs_take_away_what_both_runs_of_a_seed_share():
    rng = np.random.default_rng(0)
    shared, noise = rng.normal(0, 1, 10), rng.normal(0, 0.05, 10)
    first, second = shared + 0.2 + noise, shared
    paired = statistics.mean_difference([first - second])
    alone = statistics.estimate(lambda x, y: statistics.pooled_mean(x) - statistics.pooled_mean(y), first[:, None],
                                second[:, None])  # fmt: skip
    assert paired.value == pytest.approx(alone.value) and paired.excludes_zero and not alone.excludes_zero


def test_tasks_count_alike_however_many_pairs_they_have():
    found = statistics.mean_difference([np.full(3, 1.0), np.full(30, 0.0)])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_runs_that_never_got_there_count_with_the_horizon():
    times = statistics.restricted(np.array([100.0, np.inf, 900.0]), 500)
    np.testing.assert_array_equal(times, [100, 500, 500])


@pytest.mark.parametrize(("seeds", "held"), [(3, 0.73), (5, 0.85), (10, 0.90)])
def test_few_seeds_have_intervals_that_are_too_narrow_by_as_much_as_the_page_says(seeds, held):
    """Differences from a normal distribution, 500 times: how often the interval holds the true mean."""
    rng = np.random.default_rng(seeds)
    found = [statistics.mean_difference([rng.normal(size=seeds)], resamples=400) for _ in range(500)]
    assert np.mean([each.low <= 0 <= each.high for each in found]) == pytest.approx(held, abs=0.05)
