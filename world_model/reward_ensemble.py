"""How unsure a reward is: networks that learn the same rewards from different beginnings, and how far they differ.

Where the data say what a reward is, they agree; elsewhere each says something of its own (ensembles of heads on shared
features, as in Plan2Explore: Sekar et al., 2020; lowering rewards by the spread: MOPO, Yu et al., 2020).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from world_model.config import TransformerConfig
from world_model.symlog import symexp, symlog

HIDDEN = 128
"""Units of each network."""


class RewardEnsemble(nnx.Module):
    """E networks beside the reward head. What they look at does not learn from them, and the reward is the head's."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        heads, normal = config.reward_networks, nnx.initializers.lecun_normal(batch_axis=0)
        einsum = functools.partial(nnx.Einsum, kernel_init=normal, rngs=rngs)
        self.inner = einsum("...d,edh->...eh", (heads, config.width, HIDDEN), (heads, HIDDEN))
        self.outer = einsum("...eh,ehk->...ek", (heads, HIDDEN, 1), (heads, 1))

    def outputs(self, features: Array) -> Array:
        """What each says of features [..., D]: rewards [..., E] in symlog space."""
        return self.outer(nnx.silu(self.inner(jax.lax.stop_gradient(features))))[..., 0]

    def spread(self, features: Array) -> Array:
        """The standard deviation [...] of their rewards, in the reward's own units."""
        return jnp.std(symexp(self.outputs(features)), axis=-1)

    def loss(self, features: Array, rewards: Array) -> Array:
        """The mean squared error of all of them in symlog space, for rewards [...]."""
        return jnp.mean(jnp.square(self.outputs(features) - symlog(rewards)[..., None]))
