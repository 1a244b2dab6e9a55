"""Frames as pictures (uint8, 0 to 255) and as what the networks see (float32, 0 to 1)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array


def to_float(frames: Array) -> Array:
    """uint8 is scaled; float32 stays as it is, unclipped."""
    return frames.astype(jnp.float32) / 255 if frames.dtype == jnp.uint8 else frames.astype(jnp.float32)


def to_uint8(frames: Array) -> Array:
    """float32 is clipped to [0, 1] and rounded, as a replay would hold it; uint8 stays as it is."""
    return frames if frames.dtype == jnp.uint8 else jnp.round(jnp.clip(frames, 0, 1) * 255).astype(jnp.uint8)
