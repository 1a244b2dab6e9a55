"""What a caller hands to a model: frames and actions of another kind would give nonsense without an error."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from tokenizer.types import AnyArray

ROUNDING = 1e-5
"""By so much a float frame may leave [0, 1]."""


def check_frames(frames: AnyArray, name: str = "frames") -> None:
    """Raise ValueError for frames that are neither uint8 nor floats in [0, 1], with what was found.

    Within a traced program, where there are no values yet, the dtype alone is checked.
    """
    kind = np.dtype(frames.dtype)
    if kind == np.uint8:
        return
    floating = jnp.issubdtype(kind, np.floating)
    if isinstance(frames, Tracer):
        found = None if floating else str(kind)
    else:
        low, high = _range(frames)
        inside = floating and -ROUNDING <= low and high <= 1 + ROUNDING  # NaN is not
        found = None if inside else f"{kind} from {low:g} to {high:g}"
    if found is not None:
        raise ValueError(f"{name} are {found}: expected uint8 from 0 to 255, or floats from 0 to 1")


def check_actions(actions: AnyArray, name: str = "actions") -> None:
    """Raise ValueError for actions that hold NaN or infinity, with the first place where; not in a traced program."""
    if isinstance(actions, Tracer):
        return
    wrong = np.argwhere(~np.isfinite(np.asarray(actions, np.float32)))
    if len(wrong):
        place = ", ".join(str(int(index)) for index in wrong[0])
        raise ValueError(f"{name} hold numbers that are not finite ({len(wrong)} of them, the first at [{place}])")


def _range(values: Any) -> tuple[float, float]:
    """Smallest and largest number, where there is one."""
    array = np.asarray(values)
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
