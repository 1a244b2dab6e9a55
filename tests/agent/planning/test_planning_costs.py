"""Costs against plain numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from agent.planning import Cost, Goal
from agent.planning.costs import parts, perceptual_cost, total
from tokenizer import PerceptualWeights, lpips
from world_model.futures import Futures

rng = np.random.default_rng(0)
FRAMES, GOAL = rng.random((3, 2, 8, 8, 3), np.float32), rng.random((8, 8, 3), np.float32)
CODES, GOAL_CODES = rng.normal(size=(3, 2, 4, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
REWARDS = rng.normal(size=(3, 2)).astype(np.float32)
MADE = Futures(jnp.asarray(FRAMES), jnp.asarray(CODES), jnp.asarray(REWARDS))
TO = Goal(jnp.asarray(GOAL), jnp.asarray(GOAL_CODES))


def test_each_cost_is_the_mean_over_moments_of_what_numpy_says():
    found = parts(Cost((("pixels", 1.0), ("codes", 1.0), ("reward", 1.0))), MADE, TO)
    np.testing.assert_allclose(found["pixels"], ((FRAMES - GOAL) ** 2).mean((1, 2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(found["codes"], ((CODES - GOAL_CODES) ** 2).mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(found["reward"], -REWARDS.mean(1), rtol=1e-5)


def test_costs_are_summed_by_their_weights():
    one, other = (parts(Cost(((name, 1.0),)), MADE, TO)[name] for name in ("pixels", "reward"))
    np.testing.assert_allclose(total(Cost((("pixels", 2.0), ("reward", 0.5))), MADE, TO), 2 * one + 0.5 * other)


def test_lpips_compares_every_moment_with_the_goal():
    weights = PerceptualWeights(
        (((jnp.asarray(rng.normal(size=(3, 3, 3, 4)), jnp.float32), jnp.zeros(4)),),), (jnp.ones(4),)
    )
    found = perceptual_cost(MADE, TO.replace(perceptual=weights))
    np.testing.assert_allclose(found[2, 1], lpips(weights, MADE.frames_skhwc[2, 1:], TO.frame_hwc[None])[0], rtol=1e-5)


def test_the_last_moment_costs_or_all_do():
    assert Cost().steps(horizon=3, hold=2) == (6,)
    assert Cost(over="every").steps(horizon=3, hold=2) == (2, 4, 6)


@pytest.mark.parametrize("weights", [(("pixel", 1.0),), ()])
def test_an_unknown_cost_is_refused(weights):
    with pytest.raises(ValueError, match=r"costs (pixel|none): expected some of pixels, codes, lpips, reward"):
        Cost(weights)
