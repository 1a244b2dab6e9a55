"""Two-hot values against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_model import twohot


def test_bins_are_symexp_of_even_steps_and_mirror_exactly():
    bins = np.asarray(twohot.bins(255))
    even = np.linspace(-20, 20, 255)
    np.testing.assert_allclose(bins, np.sign(even) * np.expm1(np.abs(even)), rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(bins, -bins[::-1])
    assert bins[127] == 0


def test_a_value_halfway_between_two_bins_weighs_both_alike():
    bins = np.asarray(twohot.bins(41))
    weights = np.asarray(twohot.encode(jnp.array([(bins[22] + bins[23]) / 2]), 41))
    expected = np.zeros(41)
    expected[[22, 23]] = 0.5
    np.testing.assert_allclose(weights[0], expected, atol=1e-6)


@pytest.mark.parametrize("bin_", [0, 20, 31, 40])
def test_a_value_on_a_bin_weighs_that_bin_alone(bin_):
    np.testing.assert_allclose(twohot.encode(twohot.bins(41)[bin_], 41), np.eye(41)[bin_], atol=1e-6)


def test_values_beyond_the_outermost_bins_count_as_those():
    np.testing.assert_array_equal(twohot.encode(jnp.array([-1e12, 1e12]), 41), np.eye(41)[[0, 40]])


def test_decoding_what_was_encoded_gives_the_value_back():
    values = jnp.array([-1e6, -12.5, -0.3, 0.0, 1e-3, 7.0, 333.0, 4e5])
    weights = twohot.encode(values, 255)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    assert int((weights > 0).sum(-1).max()) <= 2
    logits = jnp.log(jnp.maximum(weights, 1e-37))
    np.testing.assert_allclose(twohot.decode(logits), values, rtol=2e-5, atol=1e-6)


def test_equal_logits_mean_exactly_zero():
    assert float(twohot.decode(jnp.full(255, 0.7))) == 0


def test_the_cross_entropy_is_that_of_the_two_bins():
    logits = jnp.arange(5.0)
    bins = np.asarray(twohot.bins(5))
    value = 0.25 * bins[2] + 0.75 * bins[3]
    log = np.asarray(logits) - np.log(np.exp(np.arange(5.0)).sum())
    found = twohot.cross_entropy(logits, jnp.asarray(value))
    assert float(found) == pytest.approx(-(0.25 * log[2] + 0.75 * log[3]), rel=1e-5)


def test_no_gradient_reaches_the_value_learned_from():
    assert float(jax.grad(lambda value: twohot.cross_entropy(jnp.arange(5.0), value))(jnp.float32(3))) == 0
