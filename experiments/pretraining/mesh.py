"""Several devices as one: a mesh with the axes `data` and `model`, and rules that say which array lies where.

The programs stay those of one device; XLA divides them by where their arrays lie (GSPMD; Xu et al., 2021).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.errors import UsageError

DATA, MODEL = "data", "model"

RULES = (
    (r"(qkv|gate_and_up|head)/kernel", (None, MODEL)),
    (r"(attention/output|down)/kernel", (MODEL, None)),
    (r"embedding/embedding", (None, MODEL)),
)
"""Which dimension of a matrix of the transformer the axis `model` divides, by the end of its name (Shoeybi et al.,
2019). An optimizer's moments have the names and the places of their parameters."""

SMALLEST = 2**14
"""Numbers of an array from which dividing it is worth a collective."""


Devices = Sequence[Any]
"""JAX's, which have no type of their own."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How devices share the work. The losses do not depend on it, but for rounding."""

    data: int | None = None
    """Groups of devices, each with its own segments of a batch; None: all devices there are, by `model`."""
    model: int = 1
    """Devices of a group, which share the transformer's matrices."""
    shard_parameters: bool = False
    """Whether the groups share the parameters, too, as they always share the optimizer's state."""


def make_mesh(config: MeshConfig, devices: Devices | None = None) -> Mesh:
    """Axes `data` and `model`, over all devices of all hosts. Raises UsageError where their number does not fit."""
    devices = jax.devices() if devices is None else devices
    data = len(devices) // config.model if config.data is None else config.data
    if data * config.model > len(devices) or data < 1 or config.model < 1:
        raise UsageError(
            f"--mesh.data {data} by --mesh.model {config.model} asks for {data * config.model} devices, "
            f"and there are {len(devices)}"
        )
    if jax.process_count() > 1 and (data * config.model < len(devices) or jax.local_device_count() % config.model):
        raise UsageError(
            f"with several hosts the mesh takes all {len(devices)} devices, and --mesh.model has to divide the "
            f"{jax.local_device_count()} of each"
        )
    return Mesh(np.array(devices[: data * config.model]).reshape(data, config.model), (DATA, MODEL))


def check_batch(mesh: Mesh, batch: int, pieces: int, part: str) -> None:
    """Raise UsageError where the groups of devices cannot share a batch evenly."""
    groups = mesh.shape[DATA]
    if batch % (groups * pieces):
        of = f" in {pieces} pieces" if pieces > 1 else ""
        raise UsageError(
            f"{groups} groups of devices cannot share a batch of {batch} segments{of}: set --{part}.batch to a "
            f"multiple of {groups * pieces}, or --mesh.data to a number of groups that divides it"
        )


def everywhere(mesh: Mesh) -> NamedSharding:
    """A whole copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def by_segment(mesh: Mesh) -> NamedSharding:
    """Segments [B, ...] divided among the groups."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def state_shardings(mesh: Mesh, config: MeshConfig, state: Any) -> Any:
    """Where each array of a training state lies, as a pytree; the state may be abstract."""
    return _shardings(mesh, state, lambda name: config.shard_parameters or name.startswith("optimizer/"))


def computing_shardings(mesh: Mesh, params: Any) -> Any:
    """Where parameters lie while they are computed with, and gradients when all groups' are summed.

    Left to itself, XLA may divide a gradient like the optimizer's moments, and gather all activations to compute it so.
    """
    return _shardings(mesh, params, lambda name: False)


def _shardings(mesh: Mesh, tree: Any, shared: Callable[[str], bool]) -> Any:
    def place(path: tuple, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        return NamedSharding(mesh, _axes(name, leaf.shape, mesh, shared(name)))

    return jax.tree_util.tree_map_with_path(place, tree)


def _axes(name: str, shape: tuple[int, ...], mesh: Mesh, shared: bool) -> PartitionSpec:
    """An axis divides a dimension only where nothing is left over."""
    rule = next((axes for pattern, axes in RULES if re.search(f"{pattern}$", name)), (None,) * len(shape))
    axes = [axis if axis and size % mesh.shape[axis] == 0 else None for axis, size in zip(rule, shape, strict=True)]
    if shared and np.prod(shape, dtype=np.int64) >= SMALLEST:
        free = [i for i, size in enumerate(shape) if axes[i] is None and size % mesh.shape[DATA] == 0]
        if free:
            axes[max(free, key=lambda i: shape[i])] = DATA
    return PartitionSpec(*axes)


def put(tree: Any, shardings: Any) -> Any:
    """A copy of whole arrays, laid out so: what is donated later is never the caller's."""
    return jax.device_put(jax.tree.map(np.array, tree), shardings)


def whole(mesh: Mesh, tree: Any) -> Any:
    """The arrays, whole on each device; all processes ask at the same time."""
    return _gathering(mesh)(tree)


@functools.cache
def _gathering(mesh: Mesh) -> Callable[[Any], Any]:
    """One program a mesh and structure, however often it is asked for."""
    return jax.jit(lambda tree: tree, out_shardings=everywhere(mesh))


def on_one_device(mesh: Mesh, tree: Any) -> Any:
    """Whole arrays on this process's first device; all processes ask at the same time."""
    if mesh.size == 1:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), whole(mesh, tree))


def from_this_process(sharding: NamedSharding, rows: np.ndarray) -> jax.Array:
    """A batch [B, ...] of which this process has its share of the rows."""
    return jax.make_array_from_process_local_data(sharding, rows)
