"""DrQ-v2 (Yarats et al., 2021) as a pure step: state and batch in, state and metrics out.

Settings that the paper does not have (`behaviour_cloning`, `demonstration_share`, layer norm in the critics, reward
scale) default to off; the laptop presets switch them on for every algorithm alike.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from agent.drqv2.augmentation import random_shift
from agent.drqv2.networks import DrQv2Networks, NetworkConfig, make_networks
from tokenizer.limits import require_at_least, require_positive, require_shares


@dataclasses.dataclass(frozen=True)
class DrQv2Config:
    """The whole learner. `action_size` and `resolution` are those of the simulator."""

    network: NetworkConfig = NetworkConfig()
    action_size: int = 4
    resolution: int = 64  # side in pixels of what the policy sees
    stack: int = 3
    batch: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 1e-6  # added to the gradient, as in the published code
    discount: float = 0.99
    n_step: int = 3
    tau: float = 0.01
    shift_pixels: int = 4
    noise_start: float = 1.0
    noise_end: float = 0.1
    noise_agent_steps: int = 100_000
    noise_clip: float = 0.3
    updates_per_agent_step: int = 2
    initial_updates: int = 0  # on the episodes there are when the random steps end
    actor_average: float | None = None  # decay of an average of all actors, by which evaluations act; None: the newest
    reward_scale: float = 1.0
    demonstration_share: float = 0.0  # of a real batch (Ball et al., 2023)
    behaviour_cloning: float = 0.0  # weight of the squared distance to demonstrated actions, at agent step 0
    behaviour_cloning_end: float = 0.0  # and after the fade
    behaviour_cloning_agent_steps: int = 1  # length of the fade

    def __post_init__(self):
        require_at_least(1, self, "action_size", "resolution", "stack", "batch", "n_step", "updates_per_agent_step")
        require_at_least(1, self, "noise_agent_steps", "behaviour_cloning_agent_steps")
        require_at_least(0, self, "weight_decay", "shift_pixels", "noise_start", "noise_end", "noise_clip")
        require_at_least(0, self, "initial_updates", "behaviour_cloning", "behaviour_cloning_end")
        require_positive(self, "learning_rate", "reward_scale")
        require_shares(self, "discount", "tau", "demonstration_share", "actor_average")

    @property
    def world_model(self) -> None:
        """It has no interactive world model."""

    def for_simulator(self, action_size: int, resolution: int) -> DrQv2Config:
        """The same learner for actions of `action_size` numbers and pictures of `resolution` pixels per side."""
        return dataclasses.replace(self, action_size=action_size, resolution=resolution)


class DrQv2Parameters(NamedTuple):
    encoder: optax.Params
    actor: optax.Params
    critics: optax.Params


class Policy(NamedTuple):
    """All that acting takes."""

    encoder: optax.Params
    actor: optax.Params


class DrQv2State(NamedTuple):
    parameters: DrQv2Parameters
    target_critics: optax.Params
    optimizers: DrQv2Parameters  # one optax state each
    updates: Array  # int32, learner updates so far
    averaged: Policy | None  # over the updates, where the config asks for that

    @property
    def best(self) -> Policy:
        """By what an evaluation acts."""
        return self.averaged or Policy(self.parameters.encoder, self.parameters.actor)


class LearnerBatch(NamedTuple):
    """Shapes as in agent.replay.Transitions; observations uint8 until inside the compiled step."""

    observations_bshwc: Array
    actions_ba: Array
    rewards_b: Array
    discounts_b: Array
    next_observations_bshwc: Array
    demonstrations_b: Array
    weights_b: Array | None = None


def as_channels(stacks_bshwc: Array) -> Array:
    """Stacks of frames as pictures [B, H, W, 3 * stack], newest frame last: what the networks see."""
    b, s, h, w, c = stacks_bshwc.shape
    return stacks_bshwc.transpose(0, 2, 3, 1, 4).reshape(b, h, w, s * c)


def _optimizer(config: DrQv2Config) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(config.weight_decay), optax.adam(config.learning_rate))


def _networks(config: DrQv2Config) -> DrQv2Networks:
    return make_networks(config.network, config.action_size)


@functools.partial(jax.jit, static_argnames="config")
def init(config: DrQv2Config, key: Array) -> DrQv2State:
    """Fresh parameters."""
    networks = _networks(config)
    encoder_key, actor_key, critic_key = jax.random.split(key, 3)
    observation = jnp.zeros((1, config.resolution, config.resolution, 3 * config.stack), jnp.uint8)
    encoder = networks.encoder.init(encoder_key, observation)
    features = networks.encoder.apply(encoder, observation)
    parameters = DrQv2Parameters(
        encoder,
        networks.actor.init(actor_key, features),
        networks.critics.init(critic_key, features, jnp.zeros((1, config.action_size))),
    )
    optimizer = _optimizer(config)
    # A copy, so that no buffer belongs to both when the state is donated.
    target = jax.tree.map(jnp.copy, parameters.critics)
    averaged = None
    if config.actor_average is not None:
        averaged = jax.tree.map(jnp.copy, Policy(parameters.encoder, parameters.actor))
    return DrQv2State(parameters, target, DrQv2Parameters(*map(optimizer.init, parameters)), jnp.int32(0), averaged)


def noise_std(config: DrQv2Config, agent_steps: Array | int) -> Array:
    """Standard deviation of the exploration noise: linear from start to end."""
    fade = optax.linear_schedule(config.noise_start, config.noise_end, config.noise_agent_steps)
    return jnp.asarray(fade(jnp.asarray(agent_steps)), jnp.float32)


def cloning_weight(config: DrQv2Config, agent_steps: Array | int) -> Array:
    """Weight of the behaviour-cloning term: linear from start to end."""
    start, end = config.behaviour_cloning, config.behaviour_cloning_end
    fade = optax.linear_schedule(start, end, config.behaviour_cloning_agent_steps)
    return jnp.asarray(fade(jnp.asarray(agent_steps)), jnp.float32)


def mean_action(config: DrQv2Config, parameters: DrQv2Parameters | Policy, observations_bhwc: Array) -> Array:
    """Actions [B, A] in (-1, 1) for uint8 observations [B, H, W, 3 * stack]."""
    networks = _networks(config)
    return networks.actor.apply(parameters.actor, networks.encoder.apply(parameters.encoder, observations_bhwc))


def explore(
    config: DrQv2Config, parameters: DrQv2Parameters | Policy, observations_bhwc: Array, std: Array, key: Array
) -> Array:
    """The mean action plus Gaussian noise, clipped to [-1, 1]."""
    mean = mean_action(config, parameters, observations_bhwc)
    return jnp.clip(mean + std * jax.random.normal(key, mean.shape), -1.0, 1.0)


def _smooth(mean_ba: Array, std: Array, clip: float, key: Array) -> Array:
    noise = jnp.clip(std * jax.random.normal(key, mean_ba.shape), -clip, clip)
    # Straight through at the limits: a saturated action still gets the critic's gradient, as in the published code.
    action = mean_ba + noise
    return action + jax.lax.stop_gradient(jnp.clip(action, -1 + 1e-6, 1 - 1e-6) - action)


def critic_target(rewards_b: Array, discounts_b: Array, next_values_2b: Array) -> Array:
    """n-step return plus the discounted smaller of the two target values."""
    return rewards_b + discounts_b * next_values_2b.min(axis=0)


def critic_loss(values_2b: Array, targets_b: Array, weights_b: Array | None = None) -> Array:
    """Mean squared error of both critics, added; each row counts as much as its weight (Lee et al., 2021)."""
    return _weighted(jnp.square(values_2b - targets_b), weights_b).mean(axis=1).sum()


def actor_loss(config: DrQv2Config, values_2b: Array, weights_b: Array | None = None) -> Array:
    """Minus the smaller value; with cloning of demonstrations, values are scaled to unit size (Fujimoto, 2021)."""
    value = values_2b.min(axis=0)
    if not config.behaviour_cloning:
        return -_weighted(value, weights_b).mean()
    scaled = value * jax.lax.stop_gradient(1.0 / (jnp.abs(value).mean() + 1e-3))
    return -_weighted(scaled, weights_b).mean()


def _weighted(values_b: Array, weights_b: Array | None) -> Array:
    return values_b if weights_b is None else values_b * weights_b


def cloning_distance(mean_ba: Array, batch: LearnerBatch) -> Array:
    """Mean squared distance to the demonstrated actions of a batch, summed over an action's numbers; 0 without any."""
    squared = jnp.square(mean_ba - batch.actions_ba).sum(axis=-1)
    return (squared * batch.demonstrations_b).sum() / jnp.maximum(batch.demonstrations_b.sum(), 1.0)


def update(
    config: DrQv2Config, state: DrQv2State, batch: LearnerBatch, agent_steps: Array, key: Array
) -> tuple[DrQv2State, dict[str, Array]]:
    """One update: encoder and critics, then the actor by the new critics, then the target (see `train_step`)."""
    networks, optimizer = _networks(config), _optimizer(config)
    shift_key, next_shift_key, target_key, actor_key = jax.random.split(key, 4)
    observations, next_observations = map(as_channels, (batch.observations_bshwc, batch.next_observations_bshwc))
    observations = random_shift(observations, shift_key, config.shift_pixels)
    next_observations = random_shift(next_observations, next_shift_key, config.shift_pixels)
    # The barrier keeps XLA from shifting again at each place where the first convolution reads a pixel.
    observations, next_observations = jax.lax.optimization_barrier((observations, next_observations))
    std = noise_std(config, agent_steps)
    cloning = cloning_weight(config, agent_steps)

    old = state.parameters
    next_features = networks.encoder.apply(old.encoder, next_observations)
    next_actions = _smooth(networks.actor.apply(old.actor, next_features), std, config.noise_clip, target_key)
    next_values = networks.critics.apply(state.target_critics, next_features, next_actions)
    targets = critic_target(config.reward_scale * batch.rewards_b, batch.discounts_b, next_values)

    def critics_and_cloning(parameters: DrQv2Parameters) -> tuple[Array, tuple[Array, Array, Array]]:
        features = networks.encoder.apply(parameters.encoder, observations)
        values = networks.critics.apply(parameters.critics, features, batch.actions_ba)
        loss = critic_loss(values, targets, batch.weights_b)
        if not config.behaviour_cloning:
            return loss, (features, values, jnp.float32(0))
        # In DrQ-v2 only the critics shape the features; cloning also needs to see what the demonstrator looked at.
        distance = cloning_distance(networks.actor.apply(parameters.actor, features), batch)
        return loss + cloning * distance, (features, values, distance)

    gradients, (features, values, distance) = jax.grad(critics_and_cloning, has_aux=True)(old)
    new: dict[str, optax.Params] = {}
    optimizers: dict[str, optax.OptState] = {}
    for part in ("encoder", "critics"):
        gradient, moments, parameters = (getattr(trees, part) for trees in (gradients, state.optimizers, old))
        new[part], optimizers[part] = _descend(optimizer, gradient, moments, parameters)

    def act(actor: optax.Params) -> Array:
        chosen = _smooth(networks.actor.apply(actor, features), std, config.noise_clip, actor_key)
        return actor_loss(config, networks.critics.apply(new["critics"], features, chosen), batch.weights_b)

    of_actor, gradient = jax.value_and_grad(act)(old.actor)
    gradient = jax.tree.map(jnp.add, gradient, gradients.actor)  # of the cloning; zero without it
    new["actor"], optimizers["actor"] = _descend(optimizer, gradient, state.optimizers.actor, old.actor)

    target = optax.incremental_update(new["critics"], state.target_critics, config.tau)
    metrics = {
        "critic_loss": critic_loss(values, targets, batch.weights_b),
        "actor_loss": of_actor + cloning * distance,
        "cloning_distance": distance,
        "value": values.mean(),
        "target": targets.mean(),
        "batch_reward": batch.rewards_b.mean(),
        "noise_std": std,
        "value_smallest": values.min(),
        "value_largest": values.max(),
    }
    learned, moments, averaged = DrQv2Parameters(**new), DrQv2Parameters(**optimizers), _averaged(config, state, new)
    return DrQv2State(learned, target, moments, state.updates + 1, averaged), metrics


def _averaged(config: DrQv2Config, state: DrQv2State, new: Mapping[str, optax.Params]) -> Policy | None:
    """The moving average with what was just learned in it; None where nobody asks for one."""
    if config.actor_average is None or state.averaged is None:
        return None
    rate = 1 - config.actor_average
    pairs = ((new[part], getattr(state.averaged, part)) for part in Policy._fields)
    return Policy(*(optax.incremental_update(latest, average, rate) for latest, average in pairs))


def _descend(
    optimizer: optax.GradientTransformation, gradient: optax.Updates, state: optax.OptState, parameters: optax.Params
) -> tuple[optax.Params, optax.OptState]:
    steps, state = optimizer.update(gradient, state, parameters)
    return optax.apply_updates(parameters, steps), state


@functools.partial(jax.jit, static_argnames="config", donate_argnames="state")
def train_step(
    config: DrQv2Config, state: DrQv2State, batches: LearnerBatch, agent_steps: Array, key: Array
) -> tuple[DrQv2State, dict[str, Array]]:
    """Several updates in one compiled call: every array of `batches` has a leading axis of updates [U, B, ...]."""

    # A Python loop, not a scan: in a scan, XLA runs the convolutions on a CPU eight times slower.
    keys, rows = jax.random.split(key, batches.rewards_b.shape[0]), []
    for index, update_key in enumerate(keys):
        batch = jax.tree.map(lambda values, index=index: values[index], batches)
        state, metrics = update(config, state, batch, agent_steps, update_key)
        rows.append(metrics)
    return state, jax.tree.map(lambda *values: jnp.stack(values).mean(), *rows)
