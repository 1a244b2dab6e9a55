"""What a reward head says: a reward in symlog space, or a distribution over bins that widen away from zero."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from world_model import twohot
from world_model.symlog import symexp, symlog


def reward_of(outputs: Array) -> Array:
    """Rewards [...] in their own units, of a head's outputs [..., 1] in symlog space or logits [..., bins]."""
    return symexp(outputs[..., 0]) if outputs.shape[-1] == 1 else twohot.decode(outputs)


def reward_loss(outputs: Array, rewards: Array) -> Array:
    """The mean squared error in symlog space (paper equation 7) of outputs [..., 1] for rewards [...]; of logits
    [..., bins] their mean cross entropy."""
    if outputs.shape[-1] == 1:
        return jnp.mean(jnp.square(outputs[..., 0] - symlog(rewards)))
    return jnp.mean(twohot.cross_entropy(outputs, rewards))
