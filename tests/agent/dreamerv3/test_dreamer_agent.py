"""Laws of the whole learner."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.dreamerv3 import learner as agent
from agent.dreamerv3 import rssm
from agent.dreamerv3.config import DreamerConfig, LaPropConfig, LossWeights
from agent.dreamerv3.losses import Losses
from agent.dreamerv3.networks import make_networks
from agent.dreamerv3.objective import SequenceBatch, objective

OF_MODEL = ("reconstruction", "reward", "continuation", "dynamics", "representation")


def key(seed: int) -> jax.Array:
    """Of a kind that compiles sooner."""
    return jax.random.key(seed, impl="unsafe_rbg")


def model_loss(config, metrics) -> float:
    return sum(float(metrics[f"{name}_loss"]) * getattr(config.weights, name) for name in OF_MODEL)


# Compiled for nothing but its result.
@functools.partial(jax.jit, static_argnames="config", compiler_options={"xla_backend_optimization_level": 0})
def gradients(config: DreamerConfig, weights: LossWeights, state: agent.DreamerState, batch: SequenceBatch):
    weighted = dataclasses.replace(config, weights=weights, free_nats=0.0)

    def loss(parameters):
        return objective(weighted, parameters, state.slow_critic, state.returns, batch, key(1))[0]

    return jax.grad(loss)(state.parameters)


def moved(config, state, batch, weights: LossWeights) -> set[str]:
    """Networks that some gradient reaches. Zero output layers would hide what is behind them, so nothing is zero."""
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(
        lambda x: x + np.float32(0.01) * rng.normal(size=x.shape).astype(np.float32), state.parameters
    )
    found = gradients(config, weights, state._replace(parameters=parameters), batch)
    return {name for name, tree in found._asdict().items() if any(np.any(x != 0) for x in jax.tree.leaves(tree))}


def only(**weights: float) -> LossWeights:
    return LossWeights(*[0.0] * len(LossWeights._fields))._replace(**weights)


def test_every_loss_has_a_weight_and_the_published_ones():
    assert Losses._fields == LossWeights._fields
    assert LossWeights() == (1, 1, 1, 1, 0.1, 1, 1, 0.3)


@pytest.mark.slow
def test_a_few_steps_lower_the_world_models_loss(config, fresh, batch):
    state, found = fresh, []
    for index in range(40):
        state, metrics, states = agent.train_step(config, state, batch, key(index))
        found.append(model_loss(config, metrics))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert found[-1] < 0.5 * found[0]
    assert int(state.updates) == 40
    assert states.deter.shape == (config.batch, config.length, config.model.deter)
    assert states.stoch.shape == (config.batch, config.length, config.model.stoch, config.model.classes)


def test_the_slow_critic_moves_by_its_rate(config, fresh, batch):
    state, _, _ = agent.train_step(config, fresh, batch, key(1))
    expected = jax.tree.map(lambda old, new: 0.98 * old + 0.02 * new, fresh.slow_critic, state.parameters.critic)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), state.slow_critic, expected)


def test_imagination_teaches_the_actor_and_the_critic_and_nothing_else(config, fresh, batch):
    assert moved(config, fresh, batch, only(policy=1.0, value=1.0)) == {"actor", "critic"}


def test_replayed_rewards_teach_the_critic_and_shape_the_features(config, fresh, batch):
    assert moved(config, fresh, batch, only(replay_value=1.0)) == {"critic", "encoder", "recurrence", "posterior"}


def test_what_was_seen_teaches_the_model_and_neither_actor_nor_critic(config, fresh, batch):
    weights = LossWeights()._replace(policy=0.0, value=0.0, replay_value=0.0)
    assert moved(config, fresh, batch, weights) == set(agent.DreamerParameters._fields) - {"actor", "critic"}


def test_the_states_of_a_step_start_the_sequence_after_it(config, fresh, batch):
    """The first state of a later sequence is one recurrent step on from where its start was left."""
    _, _, states = agent.train_step(config, fresh, batch, key(1))
    start = jax.tree.map(lambda x: x[:, 1], states)
    _, _, later = agent.train_step(config, fresh, batch._replace(start=start), key(2))
    recurrence = make_networks(config.model).recurrence
    deter = recurrence.apply(fresh.parameters.recurrence, *start, batch.actions_bta[:, 0])
    np.testing.assert_allclose(later.deter[:, 0], deter, rtol=1e-4, atol=1e-5)


def test_a_policy_acts_in_range_remembers_and_without_exploring_gives_the_mean(config, fresh, batch):
    model, parameters = config.model, fresh.parameters
    frames, carry = batch.frames_bthwc[:, 0], agent.initial_carry(config.model, config.batch)
    drawn = [agent.policy(model, parameters, carry, frames, key(i)) for i in range(8)]
    actions = np.stack([a for _, a in drawn])
    assert np.abs(actions).max() <= 1 and actions.std(0).min() > 0.2
    after, chosen = drawn[0]
    np.testing.assert_array_equal(after.actions_ba, chosen)
    assert np.any(after.state.stoch != 0)
    _, mean = agent.policy(model, parameters, carry, frames, key(0), explore=False)
    assert np.abs(mean).max() < 0.2


def test_in_bfloat16_the_parameters_stay_float32(config, fresh, batch, dtypes_in):
    half = dataclasses.replace(config, model=dataclasses.replace(config.model, compute="bfloat16"))
    start = rssm.initial(half.model, half.batch)
    traced = agent.train_step.trace(half, fresh, batch._replace(start=start), key(1))
    after, metrics, states = traced.out_info
    assert {x.dtype.name for x in jax.tree.leaves(after.parameters)} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves(states)} == {"bfloat16"}
    assert {x.dtype.name for x in metrics.values()} == {"float32"}
    assert dtypes_in(traced, "conv_general_dilated") == {"bfloat16"}


def test_the_published_ratio_is_a_quarter_of_an_update_for_each_agent_step():
    assert DreamerConfig().updates_per_agent_step == pytest.approx(0.25)
    assert DreamerConfig().optimizer == LaPropConfig(4e-5, 1000, 0.3, 1e-3, 0.999, 0.9, 1e-20)
    assert jnp.isclose(DreamerConfig().discount, 1 - 1 / 333)
