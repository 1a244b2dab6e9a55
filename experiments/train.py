"""A training run from its first second to its report; the same call on the same folder goes on where it stopped."""

from __future__ import annotations

import os
import pathlib

from agent.mbpo import MBPO, Snapshot
from agent.replay import Episode
from experiments.checkpoints import Checkpoints
from experiments.config import Experiment
from experiments.demonstrations import collect, load_folder
from experiments.metaworld import MetaWorld
from experiments.metric_weights import perceptual_weights
from experiments.metrics import drop_after
from experiments.progress import ProgressDisplay
from experiments.recorder import Recorder
from experiments.report import write_report
from experiments.run_folder import RunFolder
from tokenizer import PerceptualWeights

HELD_OUT_SEED = 1_000_003
"""Added to the seed under which held-out episodes are collected, so that they share none with the demonstrations."""


def train(
    experiment: Experiment,
    run_dir: str | os.PathLike,
    demonstrations: str | os.PathLike | None,
    command: str,
    perceptual_file: str | os.PathLike | None = None,
) -> pathlib.Path:
    """Run `experiment` (as `checked` returns it) in `run_dir` and return the path of its report.

    demonstrations: a folder of episode files to start from instead of collecting scripted ones.
    perceptual_file: a file for `metric_weights.perceptual_weights` instead of the installed package.
    Raises RunFolderError, EpisodeError, UnknownTaskError and MetricWeightsError, each with one sentence on what to do.
    """
    perceptual = _perceptual(experiment, perceptual_file)  # first: missing weights must not cost a collection
    folder = RunFolder(run_dir)
    env = MetaWorld(experiment.task, experiment.render_quality, experiment.resolution)
    with (
        folder.claim(experiment, command),
        ProgressDisplay() as display,
        Checkpoints(folder.checkpoints, experiment.keep_checkpoints) as checkpoints,
    ):
        given, held_out = _episodes(experiment, env, folder, demonstrations, display)
        loop = MBPO(experiment.mbpo, env, given, held_out, experiment.seed, folder.replay, perceptual)
        _resume(loop, checkpoints, folder, display)
        with Recorder(folder, checkpoints, display) as recorder:
            for event in loop.events():
                recorder.record(event)
        env.close()
        return write_report([folder])


def _perceptual(experiment: Experiment, path: str | os.PathLike | None) -> PerceptualWeights | None:
    """The weights of LPIPS, where the experiment's tokenizer is trained with it."""
    model = experiment.mbpo.world_model
    return None if model is None or model.tokenizer.perceptual_weight == 0 else perceptual_weights(path)


def _episodes(
    experiment: Experiment, env: MetaWorld, folder: RunFolder, given: str | os.PathLike | None, display: ProgressDisplay
) -> tuple[list[Episode], list[Episode]]:
    """Demonstrations and held-out episodes: from a folder, or collected once and kept in the run folder."""
    if given is None:
        own = folder.path / "demonstrations"
        source = _collected(env, own, experiment.demonstrations, experiment.seed, "demonstrations", display)
    else:
        source = load_folder(given)[: experiment.demonstrations]
    count = experiment.held_out if experiment.mbpo.world_model is not None else 0
    seed = experiment.seed + HELD_OUT_SEED
    return source, _collected(env, folder.path / "held_out", count, seed, "held-out episodes", display)


def _collected(
    env: MetaWorld, folder: pathlib.Path, count: int, seed: int, phase: str, display: ProgressDisplay
) -> list[Episode]:
    for progress in collect(env, folder, count, seed, phase=phase):
        display.update(progress)
    return load_folder(folder)[:count] if count else []


def _resume(loop: MBPO, checkpoints: Checkpoints, folder: RunFolder, display: ProgressDisplay) -> None:
    """Take the latest checkpoint, and forget what metrics.jsonl says of the time after it."""
    start = loop.snapshot()
    restored = checkpoints.restore(start.arrays)
    if restored is None:
        drop_after(folder.metrics, -1)
        return
    loop.restore(Snapshot(restored.state, restored.extra))
    drop_after(folder.metrics, loop.clock.agent_steps)
    display.message(f"going on from agent step {loop.clock.agent_steps} of {folder.path}")
