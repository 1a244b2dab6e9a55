"""DrQ-v2 (Yarats et al., 2021) as a pure step: state and batch in, state and metrics out.

Settings that the paper does not have (`behaviour_cloning`, `demonstration_share`, layer norm in the critics, reward
scale) default to off; the laptop presets switch them on for every algorithm alike.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

from agent.augmentation import random_shift
from agent.networks import NetworkConfig, Networks, make_networks


@dataclasses.dataclass(frozen=True)
class DrQv2Config:
    network: NetworkConfig = NetworkConfig()
    action_size: int = 4
    stack: int = 3
    batch: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 1e-6  # added to the gradient, as in the published code
    discount: float = 0.99
    n_step: int = 3
    target_rate: float = 0.01
    shift_pixels: int = 4
    noise_start: float = 1.0
    noise_end: float = 0.1
    noise_agent_steps: int = 100_000
    noise_clip: float = 0.3
    updates_per_agent_step: int = 2
    reward_scale: float = 1.0
    demonstration_share: float = 0.0  # of a real batch (Ball et al., 2023)
    behaviour_cloning: float = 0.0  # weight of the squared distance to demonstrated actions, at agent step 0
    behaviour_cloning_end: float = 0.0  # and after the fade
    behaviour_cloning_agent_steps: int = 1  # length of the fade


class Parameters(NamedTuple):
    encoder: chex.ArrayTree
    actor: chex.ArrayTree
    critics: chex.ArrayTree


class AgentState(NamedTuple):
    parameters: Parameters
    target_critics: chex.ArrayTree
    optimizers: Parameters  # an optax state each
    updates: Array  # int32, learner updates so far


class Batch(NamedTuple):
    """Shapes as in agent.replay.Transitions; observations uint8 until inside the compiled step."""

    observations_bhwc: Array
    actions_ba: Array
    rewards_b: Array
    discounts_b: Array
    next_observations_bhwc: Array
    demonstrations_b: Array


def _optimizer(config: DrQv2Config) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(config.weight_decay), optax.adam(config.learning_rate))


def _networks(config: DrQv2Config) -> Networks:
    return make_networks(config.network, config.action_size)


@functools.partial(jax.jit, static_argnames=("config", "resolution"))
def init(config: DrQv2Config, key: Array, resolution: int = 64) -> AgentState:
    """Fresh parameters for pictures of `resolution` pixels a side."""
    networks = _networks(config)
    encoder_key, actor_key, critic_key = jax.random.split(key, 3)
    observation = jnp.zeros((1, resolution, resolution, 3 * config.stack), jnp.uint8)
    encoder = networks.encoder.init(encoder_key, observation)
    features = networks.encoder.apply(encoder, observation)
    parameters = Parameters(
        encoder,
        networks.actor.init(actor_key, features),
        networks.critics.init(critic_key, features, jnp.zeros((1, config.action_size))),
    )
    optimizer = _optimizer(config)
    # A copy, so that no buffer belongs to both when the state is donated.
    target = jax.tree.map(jnp.copy, parameters.critics)
    return AgentState(parameters, target, Parameters(*map(optimizer.init, parameters)), jnp.int32(0))


def noise_std(config: DrQv2Config, agent_steps: Array | int) -> Array:
    """Standard deviation of the exploration noise: linear from start to end."""
    return _fade(config.noise_start, config.noise_end, config.noise_agent_steps, agent_steps)


def _fade(start: float, end: float, length: int, at: Array | int) -> Array:
    return start + (end - start) * jnp.clip(jnp.asarray(at, jnp.float32) / length, 0.0, 1.0)


def mean_action(config: DrQv2Config, parameters: Parameters, observations_bhwc: Array) -> Array:
    """Actions [B, A] in (-1, 1) for uint8 observations [B, H, W, 3 * stack]."""
    networks = _networks(config)
    return networks.actor.apply(parameters.actor, networks.encoder.apply(parameters.encoder, observations_bhwc))


def explore(config: DrQv2Config, parameters: Parameters, observations_bhwc: Array, std: Array, key: Array) -> Array:
    """The mean action plus Gaussian noise, clipped to [-1, 1]."""
    mean = mean_action(config, parameters, observations_bhwc)
    return jnp.clip(mean + std * jax.random.normal(key, mean.shape), -1.0, 1.0)


def _smoothed(mean_ba: Array, std: Array, clip: float, key: Array) -> Array:
    noise = jnp.clip(std * jax.random.normal(key, mean_ba.shape), -clip, clip)
    # Straight through at the border: a saturated action still gets the critic's gradient, as in the published code.
    action = mean_ba + noise
    return action + jax.lax.stop_gradient(jnp.clip(action, -1 + 1e-6, 1 - 1e-6) - action)


def critic_target(rewards_b: Array, discounts_b: Array, next_values_2b: Array) -> Array:
    """n-step return plus the discounted smaller of the two target values."""
    return rewards_b + discounts_b * next_values_2b.min(axis=0)


def critic_loss(values_2b: Array, targets_b: Array) -> Array:
    """Mean squared error of both critics, added."""
    return jnp.square(values_2b - targets_b).mean(axis=1).sum()


def actor_loss(config: DrQv2Config, values_2b: Array) -> Array:
    """Minus the smaller value; where demonstrations are cloned, values are scaled to unit size first (Fujimoto, 2021)."""
    value = values_2b.min(axis=0)
    if not config.behaviour_cloning:
        return -value.mean()
    return -(value * jax.lax.stop_gradient(1.0 / (jnp.abs(value).mean() + 1e-3))).mean()


def cloning_distance(mean_ba: Array, batch: Batch) -> Array:
    """Mean squared distance to the demonstrated actions of a batch, summed over an action's numbers; 0 without any."""
    squared = jnp.square(mean_ba - batch.actions_ba).sum(axis=-1)
    return (squared * batch.demonstrations_b).sum() / jnp.maximum(batch.demonstrations_b.sum(), 1.0)


def update(
    config: DrQv2Config, state: AgentState, batch: Batch, agent_steps: Array, key: Array
) -> tuple[AgentState, dict[str, Array]]:
    """One learner update of encoder and critics, of the actor by the new critics, then of the target (see `train_step`)."""
    networks, optimizer = _networks(config), _optimizer(config)
    shift_key, next_shift_key, target_key, actor_key = jax.random.split(key, 4)
    observations = random_shift(batch.observations_bhwc, shift_key, config.shift_pixels)
    next_observations = random_shift(batch.next_observations_bhwc, next_shift_key, config.shift_pixels)
    # Shifted once, not in every place of the first convolution that reads them.
    observations, next_observations = jax.lax.optimization_barrier((observations, next_observations))
    std = noise_std(config, agent_steps)
    cloning = _fade(
        config.behaviour_cloning, config.behaviour_cloning_end, config.behaviour_cloning_agent_steps, agent_steps
    )

    old = state.parameters
    next_features = networks.encoder.apply(old.encoder, next_observations)
    next_actions = _smoothed(networks.actor.apply(old.actor, next_features), std, config.noise_clip, target_key)
    next_values = networks.critics.apply(state.target_critics, next_features, next_actions)
    targets = critic_target(config.reward_scale * batch.rewards_b, batch.discounts_b, next_values)

    def judge(parameters: Parameters) -> tuple[Array, tuple[Array, Array, Array]]:
        features = networks.encoder.apply(parameters.encoder, observations)
        values = networks.critics.apply(parameters.critics, features, batch.actions_ba)
        loss = critic_loss(values, targets)
        if not config.behaviour_cloning:
            return loss, (features, values, jnp.float32(0))
        # The critics alone shape the features in DrQ-v2; cloning needs to see what a demonstrator looked at, too.
        distance = cloning_distance(networks.actor.apply(parameters.actor, features), batch)
        return loss + cloning * distance, (features, values, distance)

    gradients, (features, values, distance) = jax.grad(judge, has_aux=True)(old)
    new, optimizers = {}, {}
    for part in ("encoder", "critics"):
        given = getattr(gradients, part), getattr(state.optimizers, part), getattr(old, part)
        new[part], optimizers[part] = _descend(optimizer, *given)

    def act(actor: chex.ArrayTree) -> Array:
        chosen = _smoothed(networks.actor.apply(actor, features), std, config.noise_clip, actor_key)
        return actor_loss(config, networks.critics.apply(new["critics"], features, chosen))

    of_actor, gradient = jax.value_and_grad(act)(old.actor)
    gradient = jax.tree.map(jnp.add, gradient, gradients.actor)  # of the cloning; else zero
    new["actor"], optimizers["actor"] = _descend(optimizer, gradient, state.optimizers.actor, old.actor)

    target = optax.incremental_update(new["critics"], state.target_critics, config.target_rate)
    metrics = {
        "critic_loss": critic_loss(values, targets),
        "actor_loss": of_actor + cloning * distance,
        "cloning_distance": distance,
        "value": values.mean(),
        "target": targets.mean(),
        "batch_reward": batch.rewards_b.mean(),
        "noise_std": std,
        "value_smallest": values.min(),
        "value_largest": values.max(),
    }
    return AgentState(Parameters(**new), target, Parameters(**optimizers), state.updates + 1), metrics


def _descend(optimizer, gradient, optimizer_state, parameters):
    steps, optimizer_state = optimizer.update(gradient, optimizer_state, parameters)
    return optax.apply_updates(parameters, steps), optimizer_state


@functools.partial(jax.jit, static_argnames="config", donate_argnames="state")
def train_step(
    config: DrQv2Config, state: AgentState, batches: Batch, agent_steps: Array, key: Array
) -> tuple[AgentState, dict[str, Array]]:
    """Several updates in one compiled call: every array of `batches` has a leading axis of updates [U, B, ...]."""

    # A Python loop, not a scan: in a scan, XLA runs the convolutions on a CPU eight times slower.
    keys, rows = jax.random.split(key, batches.rewards_b.shape[0]), []
    for index, update_key in enumerate(keys):
        batch = jax.tree.map(lambda values, index=index: values[index], batches)
        state, metrics = update(config, state, batch, agent_steps, update_key)
        rows.append(metrics)
    return state, jax.tree.map(lambda *values: jnp.stack(values).mean(), *rows)
