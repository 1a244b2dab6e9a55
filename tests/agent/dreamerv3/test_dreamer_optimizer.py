"""LaProp and the clipping before it against their definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from agent.dreamerv3.config import LaPropConfig
from agent.dreamerv3.optimizer import clip_by_parameter_norm, laprop, make_optimizer


def clipped(gradient, parameter):
    transform = clip_by_parameter_norm(0.3, 1e-3)
    return np.asarray(transform.update(jnp.array(gradient), transform.init(None), jnp.array(parameter))[0])


def test_a_large_gradient_is_shrunk_to_a_share_of_its_parameters_norm():
    found = clipped([[30.0, 0.0], [0.0, 40.0]], [[0.0, 3.0], [4.0, 0.0]])
    np.testing.assert_allclose(found, [[0.9, 0.0], [0.0, 1.2]], rtol=1e-6)
    assert np.linalg.norm(found) == pytest.approx(0.3 * 5)


def test_a_small_gradient_is_left_alone():
    np.testing.assert_array_equal(clipped([0.3, 0.4], [3.0, 4.0]), np.float32([0.3, 0.4]))


def test_a_parameter_of_zeros_still_moves():
    np.testing.assert_allclose(clipped([3.0, 4.0], [0.0, 0.0]), [0.3e-3 * 0.6, 0.3e-3 * 0.8], rtol=1e-5)


def test_laprop_averages_normalised_gradients():
    gradients = np.random.default_rng(0).normal(size=(5, 3))
    transform = laprop(0.999, 0.9, 1e-20)
    state, square, average = transform.init(jnp.zeros(3)), np.zeros(3), np.zeros(3)
    for step, gradient in enumerate(gradients, start=1):
        found, state = transform.update(jnp.asarray(gradient, jnp.float32), state)
        square = 0.999 * square + 0.001 * gradient**2
        average = 0.9 * average + 0.1 * gradient / (np.sqrt(square / (1 - 0.999**step)) + 1e-20)
        np.testing.assert_allclose(found, average / (1 - 0.9**step), rtol=1e-4)


def test_a_gradient_of_zero_moves_nothing():
    transform = laprop(0.999, 0.9, 1e-20)
    found, _ = transform.update(jnp.zeros(3), transform.init(jnp.zeros(3)))
    np.testing.assert_array_equal(found, np.zeros(3))


def test_the_learning_rate_warms_up_and_stays():
    transform = make_optimizer(LaPropConfig(learning_rate=1e-2, warmup_updates=4))
    parameters, sizes = jnp.ones(1), []
    state = transform.init(parameters)
    for _ in range(7):
        update, state = transform.update(jnp.full(1, 0.1), state, parameters)
        sizes.append(-float(update[0]))
    np.testing.assert_allclose(sizes, 1e-2 * np.array([0, 0.25, 0.5, 0.75, 1, 1, 1]), rtol=1e-3, atol=1e-9)
