"""Laws of the world model over time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.dreamerv3 import latents, rssm
from agent.dreamerv3.config import SIZES
from agent.dreamerv3.networks import make_networks

CONFIG = SIZES["debug"]
B, T = 2, 5
TOKENS = CONFIG.smallest**2 * CONFIG.depth * CONFIG.multipliers[-1]


@pytest.fixture
def parameters(fresh):
    return fresh.parameters


@pytest.fixture(scope="module")
def seen():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(B, T, TOKENS)).astype(np.float32)
    return tokens, rng.uniform(-1, 1, (B, T, 4)).astype(np.float32), np.zeros((B, T), bool)


OBSERVE = jax.jit(rssm.observe, static_argnums=0)


def observe(parameters, tokens, actions, first, start=None):
    start = rssm.initial(CONFIG, B) if start is None else start
    return OBSERVE(CONFIG, parameters, start, tokens, actions, first, jax.random.key(1))


def test_later_frames_and_actions_never_change_earlier_states(parameters, seen):
    tokens, actions, first = (x.copy() for x in seen)
    tokens[:, 3:] += 1
    actions[:, 3:] *= -1
    before, after = observe(parameters, *seen), observe(parameters, tokens, actions, first)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:, :3], b[:, :3]), before, after)
    assert np.any(before.states.deter[:, 3] != after.states.deter[:, 3])


def test_an_action_moves_the_state_it_leads_to(parameters, seen):
    tokens, actions, first = (x.copy() for x in seen)
    actions[0, 2] *= -1
    before, after = (observe(parameters, *x).states.deter for x in (seen, (tokens, actions, first)))
    np.testing.assert_array_equal(before[0, :2], after[0, :2])
    assert np.any(before[0, 2] != after[0, 2])
    np.testing.assert_array_equal(before[1], after[1])


def test_where_an_episode_starts_the_past_is_forgotten(parameters, seen):
    tokens, actions, first = (x.copy() for x in seen)
    first[:, 3] = True
    other_tokens, other_actions = tokens.copy(), actions.copy()
    other_tokens[:, :3] += 1
    other_actions[:, :4] *= -1
    one = observe(parameters, tokens, actions, first)
    two = observe(parameters, other_tokens, other_actions, first)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:, 3:], b[:, 3:]), one, two)
    assert np.any(one.states.deter[:, 2] != two.states.deter[:, 2])


def test_an_episode_that_starts_equals_one_from_the_initial_state(parameters, seen):
    tokens, actions, first = (x.copy() for x in seen)
    marked = first.copy()
    marked[:, 0] = True
    from_elsewhere = jax.tree.map(jnp.ones_like, rssm.initial(CONFIG, B))
    no_action = actions.copy()
    no_action[:, 0] = 0
    one = observe(parameters, tokens, actions, marked, from_elsewhere)
    two = observe(parameters, tokens, no_action, first)
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_observing_goes_on_from_a_state_as_if_never_stopped(parameters, seen):
    """Step by step with the same keys: what a sequence passes on is all that the next one needs."""
    whole = observe(parameters, *seen)
    state, step = rssm.initial(CONFIG, B), jax.jit(rssm.observe_step, static_argnums=0)
    for t, key in enumerate(jax.random.split(jax.random.key(1), T)):
        state, logits = step(CONFIG, parameters, state, *(x[:, t] for x in seen), key)
        np.testing.assert_allclose(state.deter, whole.states.deter[:, t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(logits, whole.posterior_logits[:, t], rtol=1e-3, atol=1e-4)


def test_an_imagined_step_is_the_recurrence_and_a_draw_from_the_prior(parameters):
    networks, start = make_networks(CONFIG), jax.tree.map(lambda x: x + 0.1, rssm.initial(CONFIG, B))
    imagined = jax.jit(rssm.imagine, static_argnums=(0, 3, 4))(
        CONFIG, parameters, start, _constant, 4, jax.random.key(2)
    )
    assert imagined.actions_bha.shape == (B, 4, 4)
    np.testing.assert_allclose(imagined.actions_bha, 0.3)
    before = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[:, None], rest[:, :-1]], 1), start, imagined.states
    )
    for t in (0, 3):
        deter = networks.recurrence.apply(
            parameters.recurrence, before.deter[:, t], before.stoch[:, t], jnp.full((B, 4), 0.3)
        )
        np.testing.assert_allclose(imagined.states.deter[:, t], deter, rtol=1e-4, atol=1e-5)
        logits = networks.prior.apply(parameters.prior, deter)
        key = jax.random.split(jax.random.split(jax.random.key(2), 4)[t])[1]
        drawn = latents.sample(logits, CONFIG.unimix, key)
        np.testing.assert_allclose(imagined.states.stoch[:, t], drawn, atol=1e-5)


def _constant(state: rssm.State, key: jax.Array) -> jax.Array:
    return jnp.full((len(state.deter), 4), 0.3)
