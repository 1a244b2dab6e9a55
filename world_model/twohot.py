"""Rewards and values as distributions over bins that widen away from zero (DreamerV3, critic learning)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from world_model.symlog import symexp

REACH = 20.0
"""symlog of the outermost bins, 4.9e8."""


def bins(count: int) -> Array:
    """Values [count] of an odd number of bins: symexp of even steps from -20 to 20, mirrored exactly, with zero."""
    below = symexp(jnp.linspace(-REACH, 0, count // 2 + 1))
    return jnp.concatenate([below, -below[:-1][::-1]])


def encode(values: Array, count: int) -> Array:
    """Weights [..., count] on the two bins around each value, so that they average to it; they sum to one.

    Values beyond the outermost bins count as those.
    """
    centres = bins(count)
    values = jnp.clip(values.astype(jnp.float32), centres[0], centres[-1])
    upper = jnp.clip(jnp.searchsorted(centres, values, side="right"), 1, count - 1)
    lower = upper - 1
    share = (values - centres[lower]) / (centres[upper] - centres[lower])
    below, above = jax.nn.one_hot(lower, count), jax.nn.one_hot(upper, count)
    return below * (1 - share)[..., None] + above * share[..., None]


def decode(logits: Array) -> Array:
    """The mean [...] of the bins under logits [..., count].

    Opposite bins are added first, so that a symmetric distribution has a mean of exactly zero, as at the start.
    """
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    weighted = probabilities * bins(logits.shape[-1])
    middle = logits.shape[-1] // 2
    return (weighted[..., :middle] + weighted[..., :middle:-1]).sum(-1)


def cross_entropy(logits: Array, values: Array) -> Array:
    """Cross entropy [...] in nats between logits [..., count] and the encoded values [...]; no gradient into values."""
    targets = encode(jax.lax.stop_gradient(values), logits.shape[-1])
    return -(targets * jax.nn.log_softmax(logits.astype(jnp.float32))).sum(-1)
