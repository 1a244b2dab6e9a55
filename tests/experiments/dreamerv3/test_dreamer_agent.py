"""Laws of the whole learner."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.baselines.dreamerv3 import agent, rssm
from experiments.baselines.dreamerv3.config import DreamerConfig, LossWeights, OptimizerConfig
from experiments.baselines.dreamerv3.losses import Losses
from experiments.baselines.dreamerv3.objective import objective

OF_MODEL = ("reconstruction", "reward", "continuation", "dynamics", "representation")


def model_loss(config, metrics) -> float:
    return sum(float(metrics[f"{name}_loss"]) * getattr(config.weights, name) for name in OF_MODEL)


@functools.cache
def gradients_of(config: DreamerConfig, weights: LossWeights):
    config = dataclasses.replace(config, weights=weights)

    @jax.jit
    def gradients(state, batch, key):
        def loss(parameters):
            return objective(config, parameters, state.slow_critic, state.returns, batch, key)[0]

        return jax.grad(loss)(state.parameters)

    return gradients


def moved(config, batch, weights: LossWeights) -> set[str]:
    """Networks that some gradient reaches. Zero output layers would hide what is behind them, so nothing is zero."""
    state = agent.init(config, jax.random.key(0))
    parameters = jax.tree.map(lambda x: x + 0.01 * jax.random.normal(jax.random.key(x.size), x.shape), state.parameters)
    gradients = gradients_of(config, weights)(state._replace(parameters=parameters), batch, jax.random.key(1))
    return {name for name, tree in gradients._asdict().items() if any(np.any(x != 0) for x in jax.tree.leaves(tree))}


def only(**weights: float) -> LossWeights:
    return LossWeights(*[0.0] * len(LossWeights._fields))._replace(**weights)


def test_every_loss_has_a_weight_and_the_published_ones():
    assert Losses._fields == LossWeights._fields
    assert LossWeights() == (1, 1, 1, 1, 0.1, 1, 1, 0.3)


def test_a_few_steps_lower_the_world_models_loss(config, batch):
    state, found = agent.init(config, jax.random.key(0)), []
    for key in jax.random.split(jax.random.key(1), 40):
        state, metrics, states = agent.train_step(config, state, batch, key)
        found.append(model_loss(config, metrics))
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert found[-1] < 0.5 * found[0]
    assert int(state.updates) == 40
    assert states.deter.shape == (config.batch, config.length, config.model.deter)
    assert states.stoch.shape == (config.batch, config.length, config.model.stoch, config.model.classes)


def test_the_slow_critic_moves_by_its_rate(config, batch):
    state = agent.init(config, jax.random.key(0))
    before = jax.tree.map(np.asarray, state.slow_critic)
    state, _, _ = agent.train_step(config, state, batch, jax.random.key(1))
    expected = jax.tree.map(lambda old, new: 0.98 * old + 0.02 * new, before, state.parameters.critic)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), state.slow_critic, expected)


def test_imagination_teaches_the_actor_and_the_critic_and_nothing_else(config, batch):
    assert moved(config, batch, only(policy=1.0, value=1.0)) == {"actor", "critic"}


def test_replayed_rewards_teach_the_critic_and_shape_the_features(config, batch):
    assert moved(config, batch, only(replay_value=1.0)) == {"critic", "encoder", "recurrence", "posterior"}


def test_what_was_seen_teaches_the_model_and_neither_actor_nor_critic(config, batch):
    weights = LossWeights()._replace(policy=0.0, value=0.0, replay_value=0.0)
    found = moved(dataclasses.replace(config, free_nats=0.0), batch, weights)
    assert found == set(agent.Parameters._fields) - {"actor", "critic"}


def test_the_states_of_a_step_start_the_sequence_after_it(config, batch):
    """A second half that starts from the first half's last state sees the same past as the whole."""
    state = agent.init(config, jax.random.key(0))
    tokens = np.random.default_rng(0).normal(size=(config.batch, config.length, 128)).astype(np.float32)
    observe = functools.partial(rssm.observe, config.model, state.parameters)
    first = observe(batch.start, tokens[:, :3], batch.actions_bta[:, :3], batch.first_bt[:, :3], jax.random.key(1))
    last = jax.tree.map(lambda x: x[:, -1], first.states)
    second = observe(last, tokens[:, 3:], batch.actions_bta[:, 3:], batch.first_bt[:, 3:], jax.random.key(2))
    deter = agent.make_networks(config.model).recurrence.apply(
        state.parameters.recurrence, last.deter, last.stoch, batch.actions_bta[:, 3]
    )
    np.testing.assert_allclose(second.states.deter[:, 0], deter, rtol=1e-4, atol=1e-5)


def test_a_policy_acts_in_range_remembers_and_without_exploring_gives_the_mean(config, batch):
    model, parameters = config.model, agent.init(config, jax.random.key(0)).parameters
    frames, carry = batch.frames_bthwc[:, 0], agent.initial_carry(config.model, config.batch)
    drawn = [agent.policy(model, parameters, carry, frames, jax.random.key(i)) for i in range(8)]
    actions = np.stack([a for _, a in drawn])
    assert np.abs(actions).max() <= 1 and actions.std(0).min() > 0.2
    after, chosen = drawn[0]
    np.testing.assert_array_equal(after.actions_ba, chosen)
    assert np.any(after.state.deter != 0)
    _, mean = agent.policy(model, parameters, carry, frames, jax.random.key(0), explore=False)
    assert np.abs(mean).max() < 0.2


def test_in_bfloat16_the_parameters_stay_float32(config, batch, dtypes_in):
    half = dataclasses.replace(config, model=dataclasses.replace(config.model, compute="bfloat16"))
    start = rssm.initial(half.model, half.batch)
    state = jax.eval_shape(functools.partial(agent.init, half), jax.random.key(0))
    traced = agent.train_step.trace(half, state, batch._replace(start=start), jax.random.key(1))
    after, metrics, states = traced.out_info
    assert {x.dtype.name for x in jax.tree.leaves(after.parameters)} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves(states)} == {"bfloat16"}
    assert {x.dtype.name for x in metrics.values()} == {"float32"}
    assert dtypes_in(traced, "conv_general_dilated") == {"bfloat16"}


def test_the_published_ratio_is_a_quarter_of_an_update_for_each_agent_step():
    assert DreamerConfig().updates_per_agent_step == pytest.approx(0.25)
    assert DreamerConfig().optimizer == OptimizerConfig(4e-5, 1000, 0.3, 1e-3, 0.999, 0.9, 1e-20)
    assert jnp.isclose(DreamerConfig().discount, 1 - 1 / 333)
