"""The space in which rewards are learned: symmetric logarithm (paper section 3.2, after DreamerV3)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def symlog(x: Array) -> Array:
    """sign(x) ln(1 + |x|): near x for small x, a logarithm for large ones of either sign."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """The inverse of symlog."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))
