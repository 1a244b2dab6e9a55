"""All networks as pure functions, and their parameters side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import haiku as hk
import jax
import jax.numpy as jnp
from jax import Array

from agent.dreamerv3 import heads, pictures, recurrence
from agent.dreamerv3.config import ModelConfig


class DreamerParameters(NamedTuple):
    """What is learned, one tree per network; all float32."""

    encoder: chex.ArrayTree
    recurrence: chex.ArrayTree
    posterior: chex.ArrayTree
    prior: chex.ArrayTree
    decoder: chex.ArrayTree
    reward: chex.ArrayTree
    continuation: chex.ArrayTree
    actor: chex.ArrayTree
    critic: chex.ArrayTree


class DreamerNetworks(NamedTuple):
    """The function of each of DreamerParameters: `apply(parameters, *inputs)`."""

    encoder: hk.Transformed
    recurrence: hk.Transformed
    posterior: hk.Transformed
    prior: hk.Transformed
    decoder: hk.Transformed
    reward: hk.Transformed
    continuation: hk.Transformed
    actor: hk.Transformed
    critic: hk.Transformed


@functools.lru_cache(maxsize=16)
def make_networks(config: ModelConfig) -> DreamerNetworks:
    """Pure functions without random state; their inputs are what the function of the same name takes."""

    def pure(function: Callable[..., Any]) -> hk.Transformed:
        return hk.without_apply_rng(hk.transform(lambda *inputs: function(config, *inputs)))

    return DreamerNetworks(
        encoder=pure(pictures.encoder),
        recurrence=pure(recurrence.recurrence),
        posterior=pure(recurrence.posterior),
        prior=pure(recurrence.prior),
        decoder=pure(pictures.decoder),
        reward=pure(heads.reward),
        continuation=pure(heads.continuation),
        actor=pure(heads.actor),
        critic=pure(heads.critic),
    )


def init_parameters(config: ModelConfig, key: Array) -> DreamerParameters:
    """Fresh parameters."""
    networks = make_networks(config)
    inputs = _inputs(config)
    keys = jax.random.split(key, len(networks))
    return DreamerParameters(*(n.init(k, *x) for n, k, x in zip(networks, keys, inputs, strict=True)))


def _inputs(config: ModelConfig) -> list[tuple[Array, ...]]:
    """Zeros of the shapes that each network takes, for a batch of one."""
    frames = jnp.zeros((1, config.resolution, config.resolution, 3), jnp.uint8)
    deter = jnp.zeros((1, config.deter), config.compute)
    stoch = jnp.zeros((1, config.stoch, config.classes), config.compute)
    tokens = jnp.zeros((1, config.smallest**2 * config.depth * config.multipliers[-1]), config.compute)
    features = jnp.zeros((1, config.features), config.compute)
    actions = jnp.zeros((1, config.action_size), config.compute)
    return [(frames,), (deter, stoch, actions), (deter, tokens), (deter,), (deter, stoch), *[(features,)] * 4]


def count(parameters: chex.ArrayTree) -> int:
    """Numbers in a tree of arrays, or of their shapes."""
    return sum(x.size for x in jax.tree.leaves(parameters))
