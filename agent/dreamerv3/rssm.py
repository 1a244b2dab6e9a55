"""The recurrent state-space model run over time: along what was observed, and on into what is imagined."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp
from jax import Array

from agent.dreamerv3 import latents
from agent.dreamerv3.config import ModelConfig
from agent.dreamerv3.networks import DreamerParameters, make_networks

Tree = TypeVar("Tree")


class State(NamedTuple):
    """All that the model knows of the past; leading axes [B], or [B, T] where a sequence is meant."""

    deter: Array  # [..., D] in (-1, 1)
    stoch: Array  # [..., S, K] one-hot


class Observed(NamedTuple):
    states: State  # [B, T]
    posterior_logits: Array  # [B, T, S, K]


class ImaginedStates(NamedTuple):
    states: State  # [B, H]: what each action leads to
    actions_bha: Array


Policy = Callable[[State, Array], Array]
"""`policy(state, key) -> actions_ba`, traced inside `imagine`."""


def initial(config: ModelConfig, batch: int) -> State:
    """The state before an episode's first frame: zeros."""
    return State(
        jnp.zeros((batch, config.deter), config.compute),
        jnp.zeros((batch, config.stoch, config.classes), config.compute),
    )


def features(state: State) -> Array:
    """What the heads read: [..., D + S * K]."""
    return jnp.concatenate([state.deter, state.stoch.reshape(*state.stoch.shape[:-2], -1)], -1)


def observe_step(
    config: ModelConfig,
    parameters: DreamerParameters,
    before: State,
    tokens_be: Array,
    actions_ba: Array,
    first_b: Array,
    key: Array,
) -> tuple[State, Array]:
    """The state once a frame is seen, and the posterior logits [B, S, K] that its latents were drawn from.

    actions_ba: what led to this frame. Where `first_b` (bool) an episode starts: the past and that action are zeros.
    """
    networks = make_networks(config)
    blank = jax.tree.map(jnp.zeros_like, (before, actions_ba))
    before, actions_ba = jax.tree.map(lambda zero, x: _where(first_b, zero, x), blank, (before, actions_ba))
    deter = networks.recurrence.apply(parameters.recurrence, before.deter, before.stoch, actions_ba)
    logits = networks.posterior.apply(parameters.posterior, deter, tokens_be)
    return State(deter, latents.sample(logits, config.unimix, key)), logits


def observe(
    config: ModelConfig,
    parameters: DreamerParameters,
    start: State,
    tokens_bte: Array,
    actions_bta: Array,
    first_bt: Array,
    key: Array,
) -> Observed:
    """`observe_step` along sequences; `start` [B] is the state before their first frame."""
    chex.assert_equal_shape_prefix([tokens_bte, actions_bta, first_bt], 2)
    chex.assert_shape(actions_bta, (None, None, config.action_size))
    start, tokens_bte, actions_bta = _cast(config, (start, tokens_bte, actions_bta))

    def step(before: State, inputs: tuple[Array, Array, Array, Array]) -> tuple[State, tuple[State, Array]]:
        after, logits = observe_step(config, parameters, before, *inputs)
        return after, (after, logits)

    keys = jax.random.split(key, tokens_bte.shape[1])
    tokens_tbe, actions_tba, first_tb = (jnp.moveaxis(x, 1, 0) for x in (tokens_bte, actions_bta, first_bt))
    inputs = tokens_tbe, actions_tba, first_tb, keys
    return Observed(*jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), jax.lax.scan(step, start, inputs)[1]))


def imagine(
    config: ModelConfig, parameters: DreamerParameters, start: State, policy: Policy, horizon: int, key: Array
) -> ImaginedStates:
    """Act in the model for `horizon` steps from the states `start` [B], with latents drawn from the prior."""
    networks = make_networks(config)

    def step(before: State, key: Array) -> tuple[State, tuple[State, Array]]:
        policy_key, latent_key = jax.random.split(key)
        actions = policy(before, policy_key)
        deter = networks.recurrence.apply(parameters.recurrence, *before, actions.astype(config.compute))
        logits = networks.prior.apply(parameters.prior, deter)
        after = State(deter, latents.sample(logits, config.unimix, latent_key))
        return after, (after, actions)

    steps = jax.lax.scan(step, _cast(config, start), jax.random.split(key, horizon))[1]
    return ImaginedStates(*jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), steps))


def _cast(config: ModelConfig, tree: Tree) -> Tree:
    return jax.tree.map(lambda x: x.astype(config.compute), tree)


def _where(condition_b: Array, yes: Array, no: Array) -> Array:
    return jnp.where(condition_b.reshape(-1, *[1] * (no.ndim - 1)), yes, no)
