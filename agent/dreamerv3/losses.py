"""Each loss of DreamerV3 by itself: arrays in, one value per step out, nothing weighted or averaged."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from agent.dreamerv3 import latents
from agent.dreamerv3.heads import Normal
from world_model import twohot


class Losses(NamedTuple):
    """In the order of LossWeights: one value per step each, or their means."""

    reconstruction: Array
    reward: Array
    continuation: Array
    dynamics: Array
    representation: Array
    policy: Array
    value: Array
    replay_value: Array


def reconstruction(predicted_bthwc: Array, frames_bthwc: Array) -> Array:
    """Squared error [B, T], added over the pixels; predictions in [0, 1], frames uint8."""
    chex.assert_equal_shape([predicted_bthwc, frames_bthwc])
    return jnp.square(predicted_bthwc - frames_bthwc.astype(jnp.float32) / 255).sum((-3, -2, -1))


def binary(logits: Array, probabilities: Array) -> Array:
    """Cross entropy [...] in nats of a prediction with the probability that something is so."""
    return -(probabilities * jax.nn.log_sigmoid(logits) + (1 - probabilities) * jax.nn.log_sigmoid(-logits))


def divergences(posterior: Array, prior: Array, unimix: float, free_nats: float) -> tuple[Array, Array]:
    """Dynamics and representation losses [...] of logits [..., S, K]: the same KL, at least `free_nats`.

    The first moves only the prior, the second only the posterior; below `free_nats` neither moves anything.
    """
    stop = jax.lax.stop_gradient
    dynamics = latents.divergence(stop(posterior), prior, unimix)
    representation = latents.divergence(posterior, stop(prior), unimix)
    return jnp.maximum(dynamics, free_nats), jnp.maximum(representation, free_nats)


def policy(actions: Normal, taken: Array, advantages: Array, weights: Array, entropy: float) -> Array:
    """REINFORCE [...] with an entropy bonus; advantages are already scaled; no gradient but through `actions`."""
    taken, advantages, weights = jax.lax.stop_gradient((taken, advantages, weights))
    return -weights * (actions.log_prob(taken) * advantages + entropy * actions.entropy())


def value(logits: Array, slow_logits: Array, returns: Array, weights: Array, slow_weight: float) -> Array:
    """Two-hot loss [...] towards the returns, and towards what the slow critic says."""
    slow = jax.lax.stop_gradient(twohot.decode(slow_logits))
    both = twohot.cross_entropy(logits, returns) + slow_weight * twohot.cross_entropy(logits, slow)
    return jax.lax.stop_gradient(weights) * both
