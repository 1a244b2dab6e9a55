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
    steps: int | None = None
    """Of the whole run; default: the preset's."""
    shard_parameters: bool = False
    """Share the parameters among all groups of devices, too."""
    recompute: bool = False
    """Keep less between forward and backward pass."""
    json: bool = False
    """Print one JSON object."""


@dataclasses.dataclass(frozen=True)
class Adversary:
    """What a step needs besides, once the discriminator plays: its term in the tokenizer's update, and its own turn."""

    steps: int
    """Of the run's: those that it plays in, the last ones."""
    flops: int
    """Of all devices together."""
    collectives: dict[str, dict[str, int]]
    """Of its turn."""
    seconds_arithmetic: float
    seconds_collectives: float

    @property
    def seconds(self) -> float:
        return self.seconds_arithmetic + self.seconds_collectives


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one update of one part of a model, before a discriminator plays. Bytes are those of one device."""

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
    """The most that is held at a time, as the compiler laid it out, a discriminator's part among it."""
    memory_available_bytes: int
    collectives: dict[str, dict[str, int]]
    """How many and their bytes, by kind; those of a discriminator's term count from the first step on."""
    seconds_arithmetic: float
    """At `SHARE` of the peak."""
    seconds_collectives: float
    """One after the other, none beside the arithmetic."""
    steps: int
    adversary: Adversary | None = None
    """None where no discriminator plays within the steps."""

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= self.memory_available_bytes

    @property
    def seconds(self) -> float:
        return self.seconds_arithmetic + self.seconds_collectives

    @property
    def run_seconds(self) -> float:
        """Of all steps."""
        played = self.adversary.seconds * self.adversary.steps if self.adversary else 0.0
        return self.seconds * self.steps + played

    def as_dict(self) -> dict[str, Any]:
        found = {"seconds": self.seconds, "run_seconds": self.run_seconds, "fits": self.fits}
        return dataclasses.asdict(self) | found


def apply_options(config: Pretraining, options: EstimateOptions) -> Pretraining:
    """A preset with what was typed. Raises UsageError for numbers that do not fit."""
    counts = {name: getattr(options, name) for name in ("devices", "model", "batch", "steps")}
    check_positive(counts)
    if options.model > options.devices:
        raise UsageError(f"--model {options.model}: there are only {options.devices} devices to share the matrices")
    stage = getattr(config, options.part)
    sized = dataclasses.replace(stage, batch=options.batch or stage.batch, steps=options.steps or stage.steps)
    model = config.world_model
    if options.recompute:
        thrifty = dataclasses.replace(getattr(model, options.part), recompute=True)
        model = dataclasses.replace(model, **{options.part: thrifty})
    mesh = MeshConfig(model=options.model, shard_parameters=options.shard_parameters)
    return dataclasses.replace(config, world_model=model, mesh=mesh, **{options.part: sized})


def estimate_update(config: Pretraining, part: Part, kind: DeviceKind, devices: Devices, compiler: str) -> Estimate:
    """Compile one update of a part for these devices. Raises UsageError where they cannot share its batch."""
    mesh = make_mesh(config.mesh, devices)
    model, stage = config.scheduled, getattr(config, part)
    pieces = getattr(model, f"{part}_optimizer").accumulate
    _check_batch(mesh, stage.batch, pieces)
    update = program(part, model, config.mesh, mesh)
    state, arguments = _abstract(config, part, update, mesh, stage.batch // pieces)
    compiled = _compile(update.step, arguments, pieces)
    turn, playing = None, steps_with_adversary(config, part)
    if update.turn is not None and playing:
        turn = _compile(update.turn, arguments[:3], pieces)
    leaves = jax.tree.leaves(state)
    return Estimate(
        preset=config.preset,
        part=part,
        devices=mesh.size,
        kind=kind.name,
        compiler=compiler,
        mesh=dict(mesh.shape),
        batch=stage.batch,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        flops=compiled.flops,
        state_bytes=sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves),
        memory_bytes=max(each.memory_bytes for each in (compiled, turn) if each),
        memory_available_bytes=int(kind.memory_gb * GB),
        collectives=compiled.collectives,
        seconds_arithmetic=seconds_of(config, part, compiled.flops / mesh.size, kind),
        seconds_collectives=compiled.moved_bytes / (kind.links_gb_per_second * GB),
        steps=stage.steps,
        adversary=_adversary(config, kind, mesh, playing, compiled, turn) if playing else None,
    )


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """An update or a turn, all its pieces together."""

    flops: int
    """Before a discriminator plays."""
    flops_playing: int
    memory_bytes: int
    collectives: dict[str, dict[str, int]]
    """Of one piece."""
    moved_bytes: int


def _compile(step: Any, arguments: tuple, pieces: int) -> _Compiled:
    traced = step.trace(*arguments)
    compiled = traced.lower().compile()
    memory, found = compiled.memory_analysis(), collectives(compiled.as_text())
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return _Compiled(
        flops=flops(traced, min) * pieces,
        flops_playing=flops(traced) * pieces,
        memory_bytes=held + memory.temp_size_in_bytes,
        collectives=found,
        moved_bytes=sum(each["bytes"] for each in found.values()) * pieces,
    )


def steps_with_adversary(config: Pretraining, part: Part) -> int:
    """How many steps of a run of this part a discriminator plays in."""
    tokenizer = config.world_model.tokenizer
    if part != "tokenizer" or tokenizer.adversarial_weight == 0:
        return 0
    return max(config.tokenizer.steps - tokenizer.adversarial_start_step, 0)


def _adversary(
    config: Pretraining, kind: DeviceKind, mesh: Mesh, playing: int, update: _Compiled, turn: _Compiled | None
) -> Adversary:
    """turn: None of a discriminator that learns in the tokenizer's update."""
    arithmetic = update.flops_playing - update.flops + (turn.flops if turn else 0)
    return Adversary(
        steps=playing,
        flops=arithmetic,
        collectives=turn.collectives if turn else {},
        seconds_arithmetic=seconds_of(config, "tokenizer", arithmetic / mesh.size, kind),
        seconds_collectives=turn.moved_bytes / (kind.links_gb_per_second * GB) if turn else 0.0,
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
    played = ""
    if found.adversary is not None:
        played = (
            f"  adversary   in the last {found.adversary.steps:,} steps, its own turns among it: "
            f"{found.adversary.flops / 1e12:.3g} TFLOP and {found.adversary.seconds * 1e3:.3g} ms more per step\n"
        )
    return (
        f"{found.preset}, {found.part}: {found.parameters / 1e6:.0f} M parameters, batch {found.batch}, "
        f"on {found.devices} {found.kind} ({shared}); compiled by {found.compiler}. Estimates:\n"
        f"  memory      {found.memory_bytes / GB:.2f} GB of each device's {found.memory_available_bytes / GB:.0f} "
        f"({'fits' if found.fits else 'DOES NOT FIT'}), {found.state_bytes / GB:.2f} of it parameters and optimizer\n"
        f"  arithmetic  {found.flops / 1e12:.3g} TFLOP per step: {found.seconds_arithmetic * 1e3:.3g} ms at "
        f"{SHARE:.0%} of the published peak\n"
        f"  collectives {moved or 'none'}\n"
        f"{played}"
        f"  time        {found.seconds * 1e3:.3g} ms per step, {found.batch / found.seconds:.3g} segments per second, "
        f"{found.steps:,} steps in {format_duration(found.run_seconds)}"
    )
