"""A training run from its first second to its report; the same call on the same folder goes on where it stopped."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterable

from gymnasium.vector import VectorEnv

from agent.acting import side_by_side
from agent.events import Border, Progress
from agent.loop import Loop, Snapshot
from agent.mbpo import MBPO
from agent.replay import Episode
from experiments.baselines.dreamerv3.loop import DreamerV3
from experiments.checkpoints import Checkpoints
from experiments.config import Experiment, suited
from experiments.demonstrations import collect, collect_random, load_folder
from experiments.metric_weights import perceptual_weights
from experiments.metrics import keep_first
from experiments.preemption import StopRequest, stop_request
from experiments.pretrained import start_from_pretrained
from experiments.progress import ProgressDisplay
from experiments.recorder import Recorder
from experiments.report import write_report
from experiments.run_folder import RunFolder
from experiments.simulators import Processes, Simulator, simulator
from tokenizer import PerceptualWeights
from world_model import WorldModel, WorldModelParams

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
    Raises RunFolderError, EpisodeError, UnknownTaskError, MetricWeightsError and Diverged, each with one sentence on
    what to do, SimulatorDiedError, and Preempted after a SIGTERM: at the next border of the loop (agent.events.Border),
    once it is saved.
    """
    perceptual = _perceptual(experiment, perceptual_file)  # first: missing weights must not cost a collection
    folder = RunFolder(run_dir)
    env = simulator(experiment.task, experiment.render_quality, experiment.resolution)
    experiment = suited(experiment, env.action_space.shape[0], env.scripted or demonstrations is not None)
    experiment, pretrained = start_from_pretrained(experiment)
    if pretrained is not None:  # with a tokenizer of its own
        perceptual = _perceptual(experiment, perceptual_file)
    with (
        folder.claim(experiment, command),
        stop_request() as stop,
        ProgressDisplay() as display,
        Checkpoints(folder.checkpoints, experiment.keep_checkpoints) as checkpoints,
    ):
        given, held_out = _episodes(experiment, env, folder, demonstrations, display, stop)
        with contextlib.closing(_simulators(experiment, env)) as envs:
            loop = _loop(experiment, envs, given, held_out, folder, perceptual, pretrained)
            score = _resume(loop, checkpoints, folder, display)
            with Recorder(folder, checkpoints, display, score) as recorder:
                for event in loop.events():
                    recorder.record(event)
                    if stop.made and isinstance(event, Border):
                        recorder.save(event)
                        stop.refuse_to_go_on(f"saved at agent step {event.clock.agent_steps}")
            if isinstance(loop, MBPO) and loop.model is not None:
                WorldModel(experiment.mbpo.world_model, loop.model.params).save(folder.model)
        return write_report([folder])


def _simulators(experiment: Experiment, env: Simulator) -> VectorEnv:
    """The one simulator that is there, or as many new ones as are asked for, in processes."""
    if experiment.num_envs == 1:
        return side_by_side(env)
    env.close()
    return Processes(experiment.num_envs, experiment.task, experiment.render_quality, experiment.resolution)


def _loop(
    experiment: Experiment,
    envs: VectorEnv,
    demonstrations: list[Episode],
    held_out: list[Episode],
    folder: RunFolder,
    perceptual: PerceptualWeights | None,
    pretrained: WorldModelParams | None,
) -> Loop:
    seed, mbpo = experiment.seed, experiment.mbpo
    if experiment.algorithm == "dreamerv3":
        return DreamerV3(experiment.dreamerv3, mbpo, envs, demonstrations, seed, folder.replay)
    return MBPO(mbpo, envs, demonstrations, held_out, seed, folder.replay, perceptual, pretrained)


def _perceptual(experiment: Experiment, path: str | os.PathLike | None) -> PerceptualWeights | None:
    """The weights of LPIPS, where the experiment's tokenizer is trained with it."""
    model = experiment.mbpo.world_model
    return None if model is None or model.tokenizer.perceptual_weight == 0 else perceptual_weights(path)


def _episodes(
    experiment: Experiment,
    env: Simulator,
    folder: RunFolder,
    given: str | os.PathLike | None,
    display: ProgressDisplay,
    stop: StopRequest,
) -> tuple[list[Episode], list[Episode]]:
    """Demonstrations and held-out episodes: from a folder, or collected once and kept in the run folder."""
    if given is None:
        own = folder.path / "demonstrations"
        count = experiment.demonstrations
        source = _collected(collect(env, own, count, experiment.seed), own, count, display, stop)
    else:
        source = load_folder(given)[: experiment.demonstrations]
    return source, [] if experiment.mbpo.world_model is None else _held_out(experiment, env, folder, display, stop)


def _held_out(
    experiment: Experiment, env: Simulator, folder: RunFolder, display: ProgressDisplay, stop: StopRequest
) -> list[Episode]:
    """Scripted episodes and random ones in turn, so that each is judged under the actions of the other kind as well."""
    count, seed = experiment.held_out, experiment.seed + HELD_OUT_SEED
    scripted, random = folder.path / "held_out" / "scripted", folder.path / "held_out" / "random"
    phase, kind = "held-out episodes", experiment.mbpo.random_actions
    pairs = zip(
        _collected(collect(env, scripted, count, seed, phase=phase), scripted, count, display, stop),
        _collected(collect_random(env, random, count, seed, kind, phase), random, count, display, stop),
        strict=True,
    )
    return [episode for pair in pairs for episode in pair]


def _collected(
    collecting: Iterable[Progress], folder: pathlib.Path, count: int, display: ProgressDisplay, stop: StopRequest
) -> list[Episode]:
    for progress in collecting:
        display.update(progress)
        stop.refuse_to_go_on("with the episodes collected so far kept")
    return load_folder(folder)[:count] if count else []


def _resume(loop: Loop, checkpoints: Checkpoints, folder: RunFolder, display: ProgressDisplay) -> float | None:
    """Take the latest checkpoint, and forget what metrics.jsonl says of the time after it; returns its score."""
    start = loop.snapshot()
    restored = checkpoints.restore(start.arrays)
    if restored is None:
        keep_first(folder.metrics, 0)
        return None
    loop.restore(Snapshot(restored.state, restored.extra["counts"]))
    keep_first(folder.metrics, restored.extra["metrics_lines"])
    display.message(f"going on from agent step {loop.clock.agent_steps} of {folder.path}")
    return restored.extra["score"]
