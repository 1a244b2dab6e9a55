"""Random shifts of pictures: what lets an actor-critic learn from pixels (Kostrikov et al., 2020)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import Array


def random_shift(frames_bhwc: Array, key: Array, pixels: int) -> Array:
    """Move each picture by whole pixels in [-pixels, pixels] along each side; its edge fills what comes into view.

    frames_bhwc: [B, H, W, channels] of any dtype; one shift per picture, the same for all channels (stacked frames).
    """
    chex.assert_rank(frames_bhwc, 4)
    b, h, w, _ = frames_bhwc.shape
    shifts_b2 = jax.random.randint(key, (b, 2), -pixels, pixels + 1)
    rows_bh = jnp.clip(jnp.arange(h) + shifts_b2[:, :1], 0, h - 1)
    columns_bw = jnp.clip(jnp.arange(w) + shifts_b2[:, 1:], 0, w - 1)
    return jax.vmap(lambda frame, rows, columns: frame[rows][:, columns])(frames_bhwc, rows_bh, columns_bw)
