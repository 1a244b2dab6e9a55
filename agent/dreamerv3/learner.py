"""DreamerV3 as a pure step: state and batch in, state and metrics out; and how it acts."""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array

from agent.dreamerv3 import rssm
from agent.dreamerv3.config import DreamerConfig, ModelConfig
from agent.dreamerv3.networks import DreamerParameters, init_parameters, make_networks
from agent.dreamerv3.objective import Outcome, SequenceBatch, objective
from agent.dreamerv3.optimizer import make_optimizer
from agent.dreamerv3.returns import ReturnRange
from agent.dreamerv3.rssm import State
from tokenizer.optimizer import apply_updates


class DreamerState(NamedTuple):
    parameters: DreamerParameters
    slow_critic: optax.Params
    optimizer: optax.OptState
    returns: ReturnRange
    updates: Array  # int32, updates so far


class Carry(NamedTuple):
    """What a policy remembers between two frames of B episodes."""

    state: State
    actions_ba: Array  # float32: the last ones


@functools.partial(jax.jit, static_argnames="config")
def init(config: DreamerConfig, key: Array) -> DreamerState:
    """Fresh parameters; the slow critic starts as a copy of the critic."""
    parameters = init_parameters(config.model, key)
    return DreamerState(
        parameters,
        parameters.critic,
        make_optimizer(config.optimizer).init(parameters),
        ReturnRange(jnp.zeros(()), jnp.zeros(())),
        jnp.int32(0),
    )


@functools.partial(jax.jit, static_argnames="config", donate_argnames="state")
def train_step(
    config: DreamerConfig, state: DreamerState, batch: SequenceBatch, key: Array
) -> tuple[DreamerState, dict[str, Array], State]:
    """One update of everything. Returns state, metrics, and the model's states [B, T] for the replay.

    Those states are where a later sequence that begins after one of these steps takes its `SequenceBatch.start` from.
    """
    chex.assert_shape(batch.frames_bthwc, (None, None, config.model.resolution, config.model.resolution, 3))
    chex.assert_type([batch.frames_bthwc, batch.first_bt, batch.last_bt, batch.terminal_bt], [jnp.uint8] + [bool] * 3)

    def loss(parameters: DreamerParameters) -> tuple[Array, Outcome]:
        return objective(config, parameters, state.slow_critic, state.returns, batch, key)

    (total, outcome), gradients = jax.value_and_grad(loss, has_aux=True)(state.parameters)
    steps, optimizer = make_optimizer(config.optimizer).update(gradients, state.optimizer, state.parameters)
    parameters = apply_updates(state.parameters, steps)
    slow_critic = optax.incremental_update(parameters.critic, state.slow_critic, config.slow_critic_rate)
    metrics = outcome.metrics | {"loss": total, "gradient_norm": optax.tree.norm(gradients)}
    new = DreamerState(parameters, slow_critic, optimizer, outcome.returns, state.updates + 1)
    return new, metrics, outcome.states


def initial_carry(config: ModelConfig, batch: int) -> Carry:
    """What a policy starts an episode with."""
    return Carry(rssm.initial(config, batch), jnp.zeros((batch, config.action_size)))


@functools.partial(jax.jit, static_argnames=("config", "explore"))
def policy(
    config: ModelConfig,
    parameters: DreamerParameters,
    carry: Carry,
    frames_bhwc: Array,
    key: Array,
    explore: bool = True,
) -> tuple[Carry, Array]:
    """Actions [B, A] in [-1, 1] for uint8 frames [B, H, W, 3], drawn from the actor or, without `explore`, its mean.

    The published agent draws its actions in evaluation, too.
    """
    networks = make_networks(config)
    latent_key, action_key = jax.random.split(key)
    tokens = networks.encoder.apply(parameters.encoder, frames_bhwc)
    first = jnp.zeros(len(frames_bhwc), bool)  # an episode starts with `initial_carry`
    actions_before = carry.actions_ba.astype(config.compute)
    state, _ = rssm.observe_step(config, parameters, carry.state, tokens, actions_before, first, latent_key)
    distribution = networks.actor.apply(parameters.actor, rssm.features(state))
    actions = distribution.sample(action_key) if explore else distribution.mean
    actions = jnp.clip(actions, -1, 1)
    return Carry(state, actions), actions
