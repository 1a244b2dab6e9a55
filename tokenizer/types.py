"""Names for types of numpy, jax and flax that the floors share."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx

AnyArray = jax.Array | np.ndarray
"""What a compiled function takes."""

SameArray = TypeVar("SameArray", jax.Array, np.ndarray)
"""For a function of either kind of array that returns the kind it was given."""

Params = nnx.State[Any, Any]
"""The parameters of a module: `nnx.Param` by nested attribute names."""

Path = tuple[Any, ...]
"""Where a parameter is in Params: attribute names and, in a list, indices."""
