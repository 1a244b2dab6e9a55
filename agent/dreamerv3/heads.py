"""What is read from features [..., F]: reward, continuation, action and value."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from agent.dreamerv3.config import ModelConfig
from agent.dreamerv3.layers import ScaledLinear, mlp


class Normal(NamedTuple):
    """Independent normal distributions of the action's components [..., A]."""

    mean: Array
    std: Array

    def sample(self, key: Array) -> Array:
        return self.mean + self.std * jax.random.normal(key, self.mean.shape)

    def log_prob(self, actions: Array) -> Array:
        """[...], added over the components."""
        return jax.scipy.stats.norm.logpdf(actions, self.mean, self.std).sum(-1)

    def entropy(self) -> Array:
        """[...] in nats, added over the components."""
        return (0.5 * jnp.log(2 * jnp.pi * jnp.e * jnp.square(self.std))).sum(-1)


def reward(config: ModelConfig, features: Array) -> Array:
    """Two-hot logits [..., bins], all zero at the start."""
    return _out(mlp(features, config.units, config.reward_layers), config.bins, scale=0.0)


def critic(config: ModelConfig, features: Array) -> Array:
    """Two-hot logits [..., bins], all zero at the start."""
    return _out(mlp(features, config.units, config.critic_layers), config.bins, scale=0.0)


def continuation(config: ModelConfig, features: Array) -> Array:
    """Logits [...] of the discounted probability that the episode goes on."""
    return _out(mlp(features, config.units, config.continuation_layers), 1)[..., 0]


def actor(config: ModelConfig, features: Array) -> Normal:
    """Means in (-1, 1) and standard deviations within `config.actor_std`, near its upper end at the start."""
    x, (low, high) = mlp(features, config.units, config.actor_layers), config.actor_std
    mean, std = (_out(x, config.action_size, 0.01, name) for name in ("mean", "std"))
    return Normal(jnp.tanh(mean), (high - low) * jax.nn.sigmoid(std + 2.0) + low)


def _out(x: Array, outputs: int, scale: float = 1.0, name: str = "out") -> Array:
    return ScaledLinear(outputs, scale, name=name)(x).astype(jnp.float32)
