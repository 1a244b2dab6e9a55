"""A training run on a data set: it leaves a model that can be read, and a stopped one ends like one never stopped."""

import dataclasses

import jax
import numpy as np
import pytest

import world_model
from agent.events import CheckpointDue
from experiments.data.loader import Part
from experiments.data.recording import recording
from experiments.data.writer import StoreWriter
from experiments.metrics import read_metrics
from experiments.pretraining import config as presets
from experiments.pretraining import run
from world_model import WorldModel


@pytest.fixture
def config(tmp_path):
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "set", {"name": "set"}) as writer:
        for number in range(6):
            frames = rng.integers(256, size=(9, 64, 64, 3), dtype=np.uint8)
            writer.add(f"{number}", recording(frames, rng.uniform(-1, 1, (9, 4)), rng.uniform(size=9)))
        writer.finish()
    return dataclasses.replace(presets.get("debug"), data=(Part(tmp_path / "set"),), ema_decay=0.5)


def values(folder):
    lines = read_metrics(folder / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name != "wall_seconds"} for line in lines]


@pytest.mark.parametrize("stop", [4])
def test_a_stopped_run_ends_like_one_that_was_never_stopped(config, tmp_path, monkeypatch, stop):
    params = world_model.init(config.world_model, jax.random.key(0)).params
    whole = WorldModel.from_pretrained(run.pretrain(config, params, tmp_path / "whole", ""))
    record = run._record

    def dies(event, trainer, *others):
        record(event, trainer, *others)
        if isinstance(event, CheckpointDue) and trainer.step == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "_record", dies)
        run.pretrain(config, params, tmp_path / "stopped", "")
    ended = WorldModel.from_pretrained(run.pretrain(config, params, tmp_path / "stopped", ""))
    assert values(tmp_path / "stopped") == values(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, ended.params, whole.params)
