"""A program for a process of its own: trains on several meshes of simulated devices and prints what came of it as JSON.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python on_devices.py DATA_SET FOLDER
"""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np

import world_model
from agent.events import CheckpointDue, Progress
from experiments.data.loader import DatasetSpec
from experiments.pretraining import loop, mesh, presets
from experiments.pretraining.config import Pretraining, Stage
from experiments.pretraining.loop import Validated
from experiments.pretraining.mesh import MeshConfig
from experiments.runs.checkpoints import Checkpoints

loop.METRICS_EVERY = 1
mesh.SMALLEST = 2**8  # the arrays of a tiny model


def settings(data: str, **changes) -> Pretraining:
    config = dataclasses.replace(
        presets.get("debug"), data=(DatasetSpec(pathlib.Path(data)),), validation_share=0.4, evaluated_recordings=0,
        tokenizer=Stage(2, 8), transformer=Stage(2, 8), checkpoint_every=2, validate_every=100,
    )  # fmt: skip
    return dataclasses.replace(config, **changes)


def trainer_of(config: Pretraining) -> loop.Trainer:
    return loop.Trainer(config, world_model.init(config.world_model, jax.random.key(0)).params)


def losses(trainer: loop.Trainer, checkpoints: Checkpoints | None = None, until: int | None = None) -> dict[str, float]:
    """Of every update and of what is held out, by name."""
    found = {}
    for event in trainer.events():
        if isinstance(event, Progress):
            found[f"{event.phase} {event.done}"] = event.metrics["loss"]
        elif isinstance(event, CheckpointDue):
            if checkpoints is not None:
                checkpoints.save(trainer.step, event.state["arrays"], event.state["loader"])
            if trainer.step == until:
                break
        elif isinstance(event, Validated):
            found |= {f"held out {part}": values["loss"] for part, values in event.metrics.items()}
    return found


def divided(trainer: loop.Trainer) -> dict[str, float]:
    """The share of parameters and of optimizer state that a device holds."""
    shares = {}
    for name in ("params", "optimizer"):
        leaves = jax.tree.leaves(getattr(trainer.state, name))
        here = sum(leaf.addressable_shards[0].data.size for leaf in leaves)
        shares[name] = here / sum(leaf.size for leaf in leaves)
    return shares


def main(data: str, folder: str) -> None:
    meshes = {"1": (1, 1), "8": (8, 1), "4x2": (4, 2)}
    # The tokenizer takes the longest to compile.
    meshes |= {"1, transformer": (1, 1), "2, transformer": (2, 1), "4, transformer": (4, 1)}
    out = {"losses": {}, "divided": {}}
    for name, (groups, per_group) in meshes.items():
        config = settings(data, mesh=MeshConfig(groups, per_group, shard_parameters=per_group > 1))
        if name.endswith("transformer"):
            config = dataclasses.replace(config, tokenizer=Stage(0, 8), source="a model")
        trainer = trainer_of(config)
        if name == "8":
            with Checkpoints(pathlib.Path(folder)) as checkpoints:
                out["losses"][name] = losses(trainer, checkpoints)
        else:
            out["losses"][name] = losses(trainer)
        out["divided"][name] = divided(trainer)
    resumed = trainer_of(settings(data, mesh=MeshConfig(2)))
    with Checkpoints(pathlib.Path(folder), read_only=True) as checkpoints:
        restored = checkpoints.restore(resumed.prepare(2), 2)
    resumed.restore(2, restored.state, restored.extra)
    places = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(resumed.snapshot())}
    assert places == {2}, places
    out["restored"] = losses(resumed)
    print(json.dumps(out, default=np.float64))


if __name__ == "__main__":
    main(*sys.argv[1:])
