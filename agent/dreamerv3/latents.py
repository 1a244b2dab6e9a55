"""Categorical latents: mixing with the uniform distribution, sampling with a gradient, divergence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def log_probabilities(logits: Array, unimix: float) -> Array:
    """Logarithms [..., S, K] of (1 - unimix) softmax + unimix / K, float32: none is smaller than log(unimix / K)."""
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    return jnp.log((1 - unimix) * probabilities + unimix / logits.shape[-1])


def sample(logits: Array, unimix: float, key: Array) -> Array:
    """One-hot latents [..., S, K] in the dtype of the logits; gradients pass straight to the probabilities."""
    log = log_probabilities(logits, unimix)
    drawn = jax.nn.one_hot(jax.random.categorical(key, log), log.shape[-1])
    probabilities = jnp.exp(log)
    return (drawn + probabilities - jax.lax.stop_gradient(probabilities)).astype(logits.dtype)


def divergence(logits: Array, other_logits: Array, unimix: float) -> Array:
    """KL [...] in nats from the first distribution to the second, added over the S latents of [..., S, K]."""
    log, other = log_probabilities(logits, unimix), log_probabilities(other_logits, unimix)
    return (jnp.exp(log) * (log - other)).sum((-2, -1))


def entropy(logits: Array, unimix: float) -> Array:
    """Entropy [...] in nats, added over the S latents of [..., S, K]."""
    log = log_probabilities(logits, unimix)
    return -(jnp.exp(log) * log).sum((-2, -1))
