"""Each loss against its formula in numpy, and which side its gradient moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.dreamerv3 import latents, losses
from agent.dreamerv3.heads import Normal
from world_model import twohot

RNG = np.random.default_rng(0)
POSTERIOR, PRIOR = RNG.normal(0, 2, (2, 3, 4, 5))  # [T, S, K] each


def mixed(logits, unimix=0.01):
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return (1 - unimix) * softmax + unimix / logits.shape[-1]


def test_every_class_keeps_its_share_of_the_uniform_distribution():
    probabilities = np.exp(latents.log_probabilities(jnp.array([0.0, 50.0, 0.0, 0.0]), 0.01))
    np.testing.assert_allclose(probabilities, [0.0025, 0.9925, 0.0025, 0.0025], rtol=1e-4)


def test_the_divergence_is_added_over_the_latents():
    p, q = mixed(POSTERIOR), mixed(PRIOR)
    expected = (p * np.log(p / q)).sum((-2, -1))
    np.testing.assert_allclose(latents.divergence(POSTERIOR, PRIOR, 0.01), expected, rtol=1e-4)
    np.testing.assert_allclose(latents.entropy(POSTERIOR, 0.01), -(p * np.log(p)).sum((-2, -1)), rtol=1e-4)


def test_the_dynamics_loss_moves_the_prior_and_the_representation_loss_the_posterior():
    def gradients(index):
        def loss(posterior, prior):
            return losses.divergences(posterior, prior, 0.01, 0.0)[index].sum()

        return [bool(jnp.any(g != 0)) for g in jax.grad(loss, (0, 1))(jnp.asarray(POSTERIOR), jnp.asarray(PRIOR))]

    assert gradients(0) == [False, True]
    assert gradients(1) == [True, False]


def test_divergences_below_the_free_nats_cost_that_much_and_move_nothing():
    near = POSTERIOR + 0.01
    near[0] = PRIOR[0]  # one step whose divergence is large
    dynamics, representation = losses.divergences(near, POSTERIOR, 0.01, 1.0)
    np.testing.assert_allclose(dynamics[1:], 1)
    assert float(dynamics[0]) > 1
    np.testing.assert_array_equal(dynamics, representation)
    gradient = jax.grad(lambda prior: losses.divergences(near, prior, 0.01, 1.0)[0].sum())(jnp.asarray(POSTERIOR))
    assert not np.any(gradient[1:]) and np.any(gradient[0])


def test_sampled_latents_are_one_hot_and_drawn_with_their_probabilities():
    drawn = latents.sample(jnp.broadcast_to(PRIOR[0], (20_000, 4, 5)), 0.01, jax.random.key(0))
    np.testing.assert_allclose(drawn.max(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(drawn.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(drawn.mean(0), mixed(PRIOR[0]), atol=0.02)


def test_the_gradient_of_a_sample_is_that_of_its_probabilities():
    weights = jnp.asarray(RNG.normal(size=(4, 5)))
    sampled = jax.grad(lambda x: (weights * latents.sample(x, 0.01, jax.random.key(0))).sum())(jnp.asarray(PRIOR[0]))
    exact = jax.grad(lambda x: (weights * jnp.exp(latents.log_probabilities(x, 0.01))).sum())(jnp.asarray(PRIOR[0]))
    np.testing.assert_allclose(sampled, exact, rtol=1e-4, atol=1e-7)


def test_the_reconstruction_loss_is_the_squared_error_added_over_the_pixels():
    frames = np.full((2, 3, 4, 4, 3), 51, np.uint8)
    np.testing.assert_allclose(losses.reconstruction(jnp.full(frames.shape, 0.5), frames), 0.3**2 * 48, rtol=1e-4)


def test_the_binary_loss_is_the_cross_entropy_with_a_probability():
    p, target = 1 / (1 + np.exp(-0.7)), 1 - 1 / 333
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    assert float(losses.binary(jnp.float32(0.7), target)) == pytest.approx(expected, rel=1e-5)


def test_the_normal_distribution_of_actions_matches_its_formulas():
    actions = Normal(jnp.array([0.1, -0.5]), jnp.array([0.2, 0.9]))
    density = sum(
        -0.5 * ((x - m) / s) ** 2 - np.log(s * np.sqrt(2 * np.pi))
        for x, m, s in zip((0.3, 0.4), (0.1, -0.5), (0.2, 0.9), strict=True)
    )
    assert float(actions.log_prob(jnp.array([0.3, 0.4]))) == pytest.approx(density, rel=1e-5)
    assert float(actions.entropy()) == pytest.approx(
        sum(np.log(s * np.sqrt(2 * np.pi * np.e)) for s in (0.2, 0.9)), rel=1e-5
    )


def test_the_policy_loss_is_weighted_reinforce_with_an_entropy_bonus():
    actions, taken = Normal(jnp.array([[0.1]]), jnp.array([[0.5]])), jnp.array([[0.4]])
    loss = losses.policy(actions, taken, jnp.array([2.0]), jnp.array([0.7]), 0.01)
    expected = -0.7 * (2.0 * float(actions.log_prob(taken)[0]) + 0.01 * float(actions.entropy()[0]))
    assert float(loss[0]) == pytest.approx(expected, rel=1e-5)


def test_a_better_action_becomes_likelier():
    def loss(mean, advantage):
        return losses.policy(Normal(mean, jnp.array([0.5])), jnp.array([0.4]), advantage, 1.0, 0.0)

    assert float(jax.grad(loss)(jnp.array([0.0]), 1.0)[0]) < 0 < float(jax.grad(loss)(jnp.array([0.0]), -1.0)[0])


def test_the_value_loss_pulls_towards_the_return_and_the_slow_critic():
    logits, slow = jnp.asarray(RNG.normal(size=(2, 3, 41)), jnp.float32)
    returns, weights = jnp.array([1.0, -2.0, 30.0]), jnp.array([1.0, 0.5, 0.0])
    expected = weights * (
        twohot.cross_entropy(logits, returns) + 0.3 * twohot.cross_entropy(logits, twohot.decode(slow))
    )
    np.testing.assert_allclose(losses.value(logits, slow, returns, weights, 0.3), expected, rtol=1e-6)
    assert not np.any(jax.grad(lambda s: losses.value(logits, s, returns, weights, 0.3).sum())(slow))
