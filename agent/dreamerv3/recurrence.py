"""The recurrent step of the world model: a GRU whose state falls into blocks, and what is read from its state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from agent.dreamerv3.config import ModelConfig
from agent.dreamerv3.layers import BlockLinear, ScaledLinear, activated, dense, mlp


def recurrence(config: ModelConfig, deter_bd: Array, stoch_bsk: Array, actions_ba: Array) -> Array:
    """The next recurrent state [B, D], from state, latents [B, S, K] and the action [B, A] that was taken."""
    actions = actions_ba / jax.lax.stop_gradient(jnp.maximum(1, jnp.abs(actions_ba)))
    inputs = [deter_bd, stoch_bsk.reshape(len(stoch_bsk), -1), actions]
    shared = jnp.concatenate(
        [dense(x, config.hidden, name) for x, name in zip(inputs, ("deter", "stoch", "action"), strict=True)], -1
    )
    x = activated(BlockLinear(config.deter, config.blocks, name="block")(_beside(config, deter_bd, shared)), "block")
    return gru(config, deter_bd, BlockLinear(3 * config.deter, config.blocks, name="gates")(x))


def _beside(config: ModelConfig, deter_bd: Array, shared_bh: Array) -> Array:
    """Every block of the state, each followed by the shared inputs: [B, blocks * (D / blocks + H)]."""
    b = len(deter_bd)
    copies = jnp.broadcast_to(shared_bh[:, None], (b, config.blocks, shared_bh.shape[-1]))
    return jnp.concatenate([deter_bd.reshape(b, config.blocks, -1), copies], -1).reshape(b, -1)


def gru(config: ModelConfig, deter_bd: Array, gates: Array) -> Array:
    """The gated update; `gates` [B, 3 D] holds each block's reset, candidate and update gates together."""
    groups = gates.reshape(len(gates), config.blocks, 3, -1)
    reset, candidate, update = (groups[:, :, i].reshape(deter_bd.shape) for i in range(3))
    candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
    update = jax.nn.sigmoid(update - 1)  # starts near keeping the state
    return update * candidate + (1 - update) * deter_bd


def prior(config: ModelConfig, deter: Array) -> Array:
    """Logits [..., S, K] of the latents before the frame is seen."""
    return _logits(config, mlp(deter, config.hidden, config.prior_layers))


def posterior(config: ModelConfig, deter: Array, tokens: Array) -> Array:
    """Logits [..., S, K] of the latents once the frame is seen."""
    return _logits(config, mlp(jnp.concatenate([deter, tokens], -1), config.hidden, config.posterior_layers))


def _logits(config: ModelConfig, x: Array) -> Array:
    return ScaledLinear(config.stoch * config.classes, name="logits")(x).reshape(
        *x.shape[:-1], config.stoch, config.classes
    )
