"""A batch larger than memory, computed piece after piece inside one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def in_pieces(compute: Callable[[Any, Array], Any], batch: Any, key: Array, max_batch: int | None) -> Any:
    """`compute(batch, key)`, at most `max_batch` rows at a time; None: all at once.

    batch: a tree of arrays [B, ...]; `compute` returns one, too. The pieces are equally large: the last row is repeated
    where B does not divide, and what comes of that is dropped. Each piece gets a key of its own, so what is drawn at
    random depends on the number of pieces; what is not does not. Raises ValueError for a max_batch below 1.
    """
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"max_batch {max_batch}: expected at least 1, or None for all at once")
    rows = len(jax.tree.leaves(batch)[0])
    if max_batch is None or rows <= max_batch:
        return compute(batch, key)
    pieces = -(-rows // max_batch)
    size = -(-rows // pieces)

    def cut(x: Array) -> Array:
        padding = ((0, pieces * size - rows), *((0, 0),) * (x.ndim - 1))
        return jnp.pad(x, padding, mode="edge").reshape(pieces, size, *x.shape[1:])

    done = jax.lax.map(lambda piece: compute(*piece), (jax.tree.map(cut, batch), jax.random.split(key, pieces)))
    return jax.tree.map(lambda x: x.reshape(pieces * size, *x.shape[2:])[:rows], done)
