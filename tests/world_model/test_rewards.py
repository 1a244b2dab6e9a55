"""What the reward head says, learns, and becomes when a model is taken for another number of bins."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_model import WorldModel, fit_params
from world_model.rewards import reward_loss, reward_of
from world_model.symlog import symexp
from world_model.training import losses


def test_one_number_is_a_reward_in_symlog_space():
    outputs, rewards = jnp.array([[[0.0], [1.0]]]), jnp.array([[0.0, np.e + 1]])
    np.testing.assert_allclose(reward_of(outputs), [[0, np.e - 1]], rtol=1e-6)
    np.testing.assert_allclose(reward_loss(outputs, rewards), np.square(1 - np.log(np.e + 2)) / 2, rtol=1e-6)


def test_several_are_a_distribution_over_bins():
    """Five bins lie at symexp of -20, -10, 0, 10 and 20: half of the way to the fourth is half of each neighbour."""
    half = symexp(jnp.float32(10)) / 2
    sure = jnp.log(jnp.array([1e-9, 1e-9, 0.5, 0.5, 1e-9]))
    np.testing.assert_allclose(reward_of(sure[None] + 3), [half], rtol=1e-3)
    weights = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    expected = -0.5 * (np.log(weights[2]) + np.log(weights[3]))
    np.testing.assert_allclose(reward_loss(jnp.log(weights)[None], half[None]), expected, rtol=1e-5)


@pytest.fixture(scope="module")
def binned(config, model) -> WorldModel:
    """The small model with eleven bins, as it is taken for them: nothing of the old head is left."""
    wanted = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, reward_bins=11))
    return WorldModel(wanted, fit_params(config, model.params, wanted))


def test_a_head_for_other_bins_says_zero_until_it_has_learned(binned, model, frames, actions):
    tokens, _ = model.tokenize(frames)
    logits, rewards = binned.score(tokens, actions)
    np.testing.assert_array_equal(rewards, 0)
    np.testing.assert_array_equal(logits, model.score(tokens, actions)[0])
    again = fit_params(binned.config, binned.params, model.config)
    assert again.transformer["reward"]["kernel"].shape == model.params.transformer["reward"]["kernel"].shape


def test_with_bins_a_model_says_the_same_whole_and_step_by_step(binned, frames, actions):
    kernel = binned.params.transformer["reward"]["kernel"]
    params = jax.tree.map(jnp.copy, binned.params)
    params.transformer["reward"]["kernel"][...] = jax.random.normal(jax.random.key(2), kernel.shape)
    model = WorldModel(binned.config, params)
    video = model.rollout(frames[:, :2], actions[:, 2:], jax.random.key(0), temperature=0.0)
    tokens = jnp.asarray(model.tokenize(frames)[0])
    assert video.rewards.shape == actions[:, 2:].shape[:2] and len(np.unique(video.rewards)) > 2
    rewards = np.ones((len(frames), frames.shape[1]), np.float32)
    found = losses(model.config, params.transformer, tokens, jnp.asarray(actions), jnp.asarray(rewards), None)
    assert 0 < float(found["reward_loss"]) < 40


@pytest.mark.parametrize("bins", [0, 1, 2, 10])
def test_bins_are_odd_so_that_one_is_zero(config, bins):
    with pytest.raises(ValueError, match=f"reward_bins is {bins}: expected an odd number"):
        dataclasses.replace(config.transformer, reward_bins=bins)
