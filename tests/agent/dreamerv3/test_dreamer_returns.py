"""Returns and their range against sums written out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from agent.dreamerv3.returns import ReturnRange, lambda_returns


def returns(rewards, goes_on, cut, values, lambda_):
    return np.asarray(lambda_returns(*(jnp.array([x], jnp.float32) for x in (rewards, goes_on, cut, values)), lambda_))[
        0
    ]


def test_three_steps_by_hand():
    found = returns([9, 1, 2], [1, 0.9, 0.8], [0, 0, 0], [7, 10, 20], 0.5)
    last = 2 + 0.8 * (0.5 * 20 + 0.5 * 20)
    np.testing.assert_allclose(found, [1 + 0.9 * (0.5 * 10 + 0.5 * last), last], rtol=1e-6)


def test_lambda_zero_looks_one_step_ahead_and_lambda_one_to_the_end():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6))
    goes_on = rng.uniform(0.5, 1, 6)
    np.testing.assert_allclose(
        returns(rewards, goes_on, np.zeros(6), values, 0.0), rewards[1:] + goes_on[1:] * values[1:], rtol=1e-5
    )
    whole = values[-1]
    for t in (5, 4, 3, 2, 1):
        whole = rewards[t] + goes_on[t] * whole
    assert returns(rewards, goes_on, np.zeros(6), values, 1.0)[0] == pytest.approx(whole, rel=1e-5)


def test_nothing_counts_after_an_end_and_a_cut_bootstraps():
    ended = returns([0, 1, 100], [1, 0, 1], [0, 1, 0], [0, 50, 60], 0.95)
    assert ended[0] == pytest.approx(1)
    cut = returns([0, 1, 100], [1, 0.9, 0.9], [0, 1, 0], [0, 50, 60], 0.95)
    assert cut[0] == pytest.approx(1 + 0.9 * 50)


def test_the_range_moves_by_its_rate_towards_the_percentiles():
    values = np.random.default_rng(0).normal(3, 5, (4, 50))
    range_ = ReturnRange(jnp.float32(-1), jnp.float32(2)).updated(jnp.asarray(values), (5.0, 95.0), 0.01)
    low, high = np.percentile(values, [5, 95])
    np.testing.assert_allclose(range_, [0.99 * -1 + 0.01 * low, 0.99 * 2 + 0.01 * high], rtol=1e-5)
    assert float(range_.scale(1.0)) == pytest.approx(float(range_.high - range_.low))


def test_a_small_range_is_not_stretched():
    assert float(ReturnRange(jnp.float32(0.1), jnp.float32(0.3)).scale(1.0)) == 1
