"""One number for a whole state, so that two runs can be compared by a glance at the last line of their metrics."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def fingerprint(state: Any) -> str:
    """SHA-256, as 64 hexadecimal digits, over the names, dtypes, shapes and bytes of a pytree's leaves in their order.

    Leaves: arrays, random keys, numbers, booleans. States that differ in a single bit, or in a name, get different
    ones.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(getattr(leaf, "dtype", np.int32), jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
