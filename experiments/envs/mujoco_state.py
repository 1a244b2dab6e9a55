"""The state of a MuJoCo simulation and of the Python object around it, copied and put back."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

INTEGRATION = "state"


def bindings() -> Any:
    """MuJoCo's compiled functions, which have no type stubs. Late: MuJoCo reads its backend when it is imported."""
    import mujoco

    return mujoco


def read_physics(model: Any, data: Any, *positions: str) -> dict[str, np.ndarray]:
    """MuJoCo's integration state, float64, and those arrays of the model that a task moves in a reset, such as
    body_pos."""
    mujoco = bindings()
    state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
    return {INTEGRATION: state} | {name: getattr(model, name).copy() for name in positions}


def write_physics(model: Any, data: Any, physics: Mapping[str, np.ndarray]) -> None:
    """Go on from what `read_physics` gave, and compute all that follows from it, as pictures need it."""
    mujoco = bindings()
    for name, values in physics.items():
        if name != INTEGRATION:
            getattr(model, name)[:] = values
    for again in (True, False):  # a forward pass changes where the next solver starts, which is part of the state
        mujoco.mj_setState(model, data, physics[INTEGRATION], mujoco.mjtState.mjSTATE_INTEGRATION)
        if again:
            mujoco.mj_forward(model, data)


def read_fields(thing: Any, without: Collection[str] = ()) -> dict[str, Any]:
    """Copies of an object's attributes that are plain values or arrays, or containers of such.

    An array that is a window into the simulation's own memory is no state of the object and is left out.
    """
    return {name: copy.deepcopy(value) for name, value in vars(thing).items() if name not in without and _plain(value)}


def write_fields(thing: Any, fields: Mapping[str, Any]) -> None:
    """Put back what `read_fields` copied."""
    for name, value in fields.items():
        setattr(thing, name, copy.deepcopy(value))


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, np.ndarray):
        return not _window(value)
    return value is None or isinstance(value, np.generic | numbers.Number | str | bool)


def _window(array: np.ndarray) -> bool:
    """Whether the memory of an array is not numpy's own."""
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base is not None
