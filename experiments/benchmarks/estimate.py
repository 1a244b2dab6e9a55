"""`ivideogpt estimate`: what an update of a preset would need on devices that are not here, before anyone rents them.

The update is compiled for them: by the TPU's own compiler where libtpu is installed, which needs no TPU; otherwise for
as many simulated CPU devices, which gives the same arithmetic and the same collectives, and memory as a rough guide.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

import world_model
from experiments.benchmarks.bench import check_positive
from experiments.benchmarks.device_kinds import DeviceKind, size_of
from experiments.benchmarks.flops import flops
from experiments.benchmarks.hot_paths import zero_perceptual
from experiments.errors import UsageError
from experiments.pretraining.config import Pretraining
from experiments.pretraining.mesh import DATA, Devices, MeshConfig, by_segment, everywhere, make_mesh
from experiments.pretraining.program import program
from experiments.runs.progress import format_duration

SHARE = 0.4
"""Of the peak arithmetic that a well-run transformer reaches; an assumption, not a measurement."""

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "bf16": 2,
    "f16": 2,
    "s16": 2,
    "u16": 2,
    "f32": 4,
    "s32": 4,
    "u32": 4,
    "s64": 8,
    "f64": 8,
}
GB = 1e9


Part = Literal["tokenizer", "transformer"]


@dataclasses.dataclass(frozen=True)
class EstimateOptions:
    """Which update, and the devices it is for."""

    preset: str = "paper-64"
    part: Part = "transformer"
    devices: int = 8
    device_kind: str = "v5e"
    model: int = 1
    """Devices that share the transformer's matrices."""
    batch: int | None = None
    """Segments per step; default: the preset's."""
    shard_parameters: bool = False
    """Share the parameters among all groups of devices, too."""
    recompute: bool = False
    """Keep less between forward and backward pass."""
    json: bool = False
    """Print one JSON object."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one update of one part of a model. Bytes are those of one device."""

    preset: str
    part: str
    devices: int
    kind: str
    compiler: str
    mesh: dict[str, int]
    batch: int
    parameters: int
    flops: int
    """Of all devices together."""
    state_bytes: int
    """Parameters and optimizer."""
    memory_bytes: int
    """The most that is held at a time, as the compiler laid it out."""
    memory_available_bytes: int
    collectives: dict[str, dict[str, int]]
    """How many and their bytes, by kind."""
    seconds_arithmetic: float
    """At `SHARE` of the peak."""
    seconds_collectives: float
    """One after the other, none beside the arithmetic."""
    steps: int

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= self.memory_available_bytes

    @property
    def seconds(self) -> float:
        return self.seconds_arithmetic + self.seconds_collectives

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"seconds": self.seconds, "fits": self.fits}


def apply_options(config: Pretraining, options: EstimateOptions) -> Pretraining:
    """A preset with what was typed. Raises UsageError for numbers that do not fit."""
    check_positive({"devices": options.devices, "model": options.model, "batch": options.batch})
    if options.model > options.devices:
        raise UsageError(f"--model {options.model}: there are only {options.devices} devices to share the matrices")
    stage = getattr(config, options.part)
    sized = dataclasses.replace(stage, batch=options.batch or stage.batch)
    model = config.world_model
    if options.recompute:
        thrifty = dataclasses.replace(getattr(model, options.part), recompute=True)
        model = dataclasses.replace(model, **{options.part: thrifty})
    mesh = MeshConfig(model=options.model, shard_parameters=options.shard_parameters)
    return dataclasses.replace(config, world_model=model, mesh=mesh, **{options.part: sized})


def estimate_update(config: Pretraining, part: Part, kind: DeviceKind, devices: Devices, compiler: str) -> Estimate:
    """Compile one update of a part for these devices. Raises UsageError where they cannot share its batch."""
    mesh = make_mesh(config.mesh, devices)
    model, batch = config.scheduled, getattr(config, part).batch
    pieces = getattr(model, f"{part}_optimizer").accumulate
    _check_batch(mesh, batch, pieces)
    update = program(part, model, config.mesh, mesh)
    state, arguments = _abstract(config, part, update, mesh, batch // pieces)
    traced = update.step.trace(*arguments)
    compiled = traced.lower().compile()
    memory = compiled.memory_analysis()
    found = collectives(compiled.as_text())
    arithmetic = flops(traced) * pieces
    moved = sum(each["bytes"] for each in found.values()) * pieces
    leaves = jax.tree.leaves(state)
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Estimate(
        preset=config.preset,
        part=part,
        devices=mesh.size,
        kind=kind.name,
        compiler=compiler,
        mesh=dict(mesh.shape),
        batch=batch,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        flops=arithmetic,
        state_bytes=sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves),
        memory_bytes=held + memory.temp_size_in_bytes,
        memory_available_bytes=int(kind.memory_gb * GB),
        collectives=found,
        seconds_arithmetic=seconds_of(config, part, arithmetic / mesh.size, kind),
        seconds_collectives=moved / (kind.links_gb_per_second * GB),
        steps=getattr(config, part).steps,
    )


def _check_batch(mesh: Mesh, batch: int, pieces: int) -> None:
    """As `mesh.check_batch` does before a run; what it advises are the options of this command."""
    groups = mesh.shape[DATA]
    if batch % (groups * pieces):
        of = f" in {pieces} pieces" if pieces > 1 else ""
        raise UsageError(
            f"{groups} groups of devices cannot share a batch of {batch} segments{of}: set --batch to a multiple of "
            f"{groups * pieces}, or --devices to another number"
        )


def step_flops(config: Pretraining, part: str) -> int:
    """Multiplications and additions of one update of a part, all its pieces together."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    pieces = getattr(config.scheduled, f"{part}_optimizer").accumulate
    update = program(part, config.scheduled, MeshConfig(), mesh)
    _, arguments = _abstract(config, part, update, mesh, getattr(config, part).batch // pieces)
    return flops(update.step.trace(*arguments)) * pieces


def seconds_of(config: Pretraining, part: str, arithmetic: float, kind: DeviceKind) -> float:
    """Seconds that so many FLOP of a part take on one device, at SHARE of its peak for the part's precision."""
    dtype = getattr(config.world_model, part).compute_dtype
    return arithmetic / (kind.teraflops * 1e12 * (1 if dtype == "bfloat16" else 0.5) * SHARE)


def _abstract(config: Pretraining, part: str, update, mesh: Mesh, batch: int) -> tuple[Any, tuple]:
    """The state and all arguments of an update, as shapes with their shardings."""
    model, key = config.scheduled, jax.random.key(0)

    def lay(tree: Any, shardings: Any) -> Any:
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)

    state = lay(jax.eval_shape(update.init, key), update.shardings)
    frozen, perceptual = jax.eval_shape(
        lambda k: (world_model.init(model, k).params.tokenizer, zero_perceptual(model)), key
    )
    frames, side = getattr(config, part).segment_frames or model.segment_frames, model.tokenizer.resolution
    segments = [
        jax.ShapeDtypeStruct((batch, frames, side, side, 3), jnp.uint8),
        jax.ShapeDtypeStruct((batch, frames, model.transformer.action_size), jnp.float32),
        jax.ShapeDtypeStruct((batch, frames), jnp.float32),
    ]
    whole, rows = everywhere(mesh), by_segment(mesh)
    spread = [lay(array, rows) for array in segments]
    others = [lay(tree, jax.tree.map(lambda _: whole, tree)) for tree in (frozen, key, perceptual)]
    return state, update.arguments(state, others[0], *spread, others[1], others[2])


def collectives(program_text: str) -> dict[str, dict[str, int]]:
    """Count and result bytes of the collectives in a compiled program, by kind; a start and its end are one."""
    found: dict[str, dict[str, int]] = {}
    pattern = re.compile(rf"= (.+?) ({'|'.join(COLLECTIVES)})(-start)?\(")
    for line in program_text.splitlines():
        match = pattern.search(line)
        if match:
            arrays = [_bytes(kind, shape) for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", match[1])]
            # What a start returns holds its operands beside its results.
            size = sum(arrays) // 2 if match[3] and len(arrays) > 1 else sum(arrays)
            entry = found.setdefault(match[2], {"count": 0, "bytes": 0})
            entry["count"] += 1
            entry["bytes"] += size
    return found


def _bytes(kind: str, shape: str) -> int:
    return BYTES.get(kind, 4) * math.prod(int(side) for side in shape.split(",") if side)


def devices_of(kind: DeviceKind, count: int) -> tuple[Devices, str]:
    """So many devices to compile for, and whose compiler that is. Call it before anything touches a device.

    Raises UsageError for a number of TPUs that no slice has.
    """
    shape = kind.slice_of(count)
    if kind.slices and shape is None:
        sizes = ", ".join(str(size_of(each)) for each in kind.slices)
        raise UsageError(f"no slice of {kind.name} has {count} devices; there are those of {sizes}")
    if shape is not None and importlib.util.find_spec("libtpu"):
        return _tpus(kind, shape), "libtpu"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)
    hint = " (for the TPU's own: pip install -e '.[tpu]')" if kind.slices else ""
    return jax.devices("cpu")[:count], f"XLA for simulated CPU devices{hint}"


def _tpus(kind: DeviceKind, shape: str) -> Devices:
    """Devices of a topology that nobody here has."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # which asks a cloud machine about itself
    from jax.experimental import topologies

    options = {"chips_per_host_bounds": [1, 1, 1]} if shape == "1x1" else {}
    return topologies.get_topology_desc(platform="tpu", topology_name=f"{kind.name}:{shape}", **options).devices


def as_text(found: Estimate) -> str:
    """The same for people."""
    shared = ", ".join(f"{axis} {size}" for axis, size in found.mesh.items())
    moved = ", ".join(
        f"{each['count']} {kind} of {each['bytes'] / 1e6:.3g} MB" for kind, each in sorted(found.collectives.items())
    )
    if moved:
        moved += f": {found.seconds_collectives * 1e3:.3g} ms at the published rate"
    return (
        f"{found.preset}, {found.part}: {found.parameters / 1e6:.0f} M parameters, batch {found.batch}, "
        f"on {found.devices} {found.kind} ({shared}); compiled by {found.compiler}. Estimates:\n"
        f"  memory      {found.memory_bytes / GB:.2f} GB of each device's {found.memory_available_bytes / GB:.0f} "
        f"({'fits' if found.fits else 'DOES NOT FIT'}), {found.state_bytes / GB:.2f} of it parameters and optimizer\n"
        f"  arithmetic  {found.flops / 1e12:.3g} TFLOP per step: {found.seconds_arithmetic * 1e3:.3g} ms at "
        f"{SHARE:.0%} of the published peak\n"
        f"  collectives {moved or 'none'}\n"
        f"  time        {found.seconds * 1e3:.3g} ms per step, {found.batch / found.seconds:.3g} segments per second, "
        f"{found.steps:,} steps in {format_duration(found.seconds * found.steps)}"
    )
