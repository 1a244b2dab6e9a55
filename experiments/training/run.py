"""A training run from its first second to its report; the same call on the same folder goes on where it stopped."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agent.episodes import Simulators, as_vector_env
from agent.events import SafePoint
from agent.loop import Inputs, Loop, Snapshot
from experiments.envs.demonstrations import scripted_scenes
from experiments.envs.processes import Processes
from experiments.envs.registry import make_simulator
from experiments.envs.simulator import Simulator
from experiments.reports.page import write_report
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.metrics_log import keep_first
from experiments.runs.model_card import model_card
from experiments.runs.preemption import StopRequest, stop_request
from experiments.runs.progress import ProgressDisplay
from experiments.runs.run_folder import RunFolder
from experiments.runs.tracking import check_packages, say_where, track
from experiments.training.algorithms import make_loop
from experiments.training.config import Experiment
from experiments.training.recorder import Recorder
from experiments.training.resolve import SimulatorFacts, resolve
from experiments.training.start import Collector, load_perceptual, load_pretrained, starting_params
from world_model import WorldModel

MAY_CHANGE = ("tracking",)
"""Settings with which a run goes on that it did not begin with: no result depends on them."""


def train(
    experiment: Experiment,
    run_dir: str | os.PathLike,
    demonstrations: str | os.PathLike | None,
    command: str,
    perceptual_file: str | os.PathLike | None = None,
    typed: Collection[str] = (),
    recorded: str | os.PathLike | None = None,
    settings: Mapping[str, Any] = types.MappingProxyType({}),
    restart: bool = False,
    change: Sequence[str] = (),
) -> pathlib.Path:
    """Run `experiment` in `run_dir` and return the path of its report.

    demonstrations: a folder of episode files to start from instead of collecting scripted ones.
    perceptual_file: a file for `metric_weights.perceptual_weights` instead of the installed package.
    recorded: a folder of held-out episodes, which only measure a world model, instead of collecting them.
    typed: dotted names of settings that stand beside those of a pre-trained model, as `resolve` takes them.
    settings: by dotted names the values that tell this run from others, as `RunFolder.claim` takes them.
    restart: begin at zero where the run's checkpoints are lost, as `Checkpoints.restore_newest` takes it.
    change: dotted names of settings that may differ from what the run folder has (see config.CHANGEABLE).
    Raises UserError, with one sentence on what to do, and Preempted after a SIGTERM or Ctrl-C: at the next safe point
    of the loop (agent.events.SafePoint), once it is saved.
    """
    check_packages(experiment.tracking)
    folder, model = RunFolder(run_dir), load_pretrained(experiment)
    env = make_simulator(experiment.task, experiment.render_quality, _resolution(experiment, model))
    facts = SimulatorFacts(
        action_size=env.action_space.shape[0],
        resolution=env.observation_space.shape[0],
        demonstrated=demonstrations is not None or env.scripted_policy() is not None,
    )
    experiment = resolve(experiment, facts, None if model is None else model.config, typed)
    wanted = experiment.algorithm.world_model
    perceptual = load_perceptual(wanted, perceptual_file)  # before a collection, which missing weights must not cost
    with (
        folder.claim(experiment.record(), command, (*MAY_CHANGE, *change), settings),
        track(experiment.tracking, folder) as trackers,
        stop_request() as stop,
        ProgressDisplay() as display,
        Checkpoints(folder.checkpoints, experiment.keep_checkpoints) as checkpoints,
    ):
        display.message(say_where(folder, trackers))
        collector = Collector(experiment, env, folder, display, stop)
        given = collector.demonstrations(demonstrations)
        held_out = [] if wanted is None else collector.held_out(recorded)
        pretrained = None if model is None or wanted is None else starting_params(model, wanted)
        with contextlib.closing(_simulators(experiment, env)) as envs, contextlib.ExitStack() as stack:

            def second() -> Simulator:
                made = make_simulator(experiment.task, experiment.render_quality, facts.resolution)
                return stack.enter_context(contextlib.closing(made))

            scenes = None if demonstrations is not None else functools.partial(scripted_scenes, experiment.seed)
            inputs = Inputs(
                envs, given, experiment.seed, folder.replay, held_out, pretrained, perceptual, second, scenes
            )
            loop = make_loop(experiment.algorithm, experiment.schedule, inputs)
            score = _resume(loop, checkpoints, folder, display, restart)
            _record_all(loop, Recorder(folder, checkpoints, display, score, trackers), stop)
        params = loop.trained_model()
        if wanted is not None and params is not None:
            WorldModel(wanted, params).save(folder.model, model_card(folder, [experiment.task], command))
        return write_report([folder])


def _resolution(experiment: Experiment, model: WorldModel | None) -> int:
    """Pixels a side that the simulator is asked to draw."""
    return experiment.algorithm.resolution if model is None else model.config.tokenizer.resolution


def _simulators(experiment: Experiment, env: Simulator) -> Simulators:
    """The one simulator that is there, or as many new ones as are asked for, in processes."""
    if experiment.num_envs == 1:
        return as_vector_env(env)
    resolution = env.observation_space.shape[0]
    env.close()
    return Processes(experiment.num_envs, experiment.task, experiment.render_quality, resolution)


def _record_all(loop: Loop[Any], recorder: Recorder, stop: StopRequest) -> None:
    """The run from where it is to its end, or to the safe point after a request to stop."""
    with recorder:
        for event in loop.events():
            recorder.record(event)
            if stop.made and isinstance(event, SafePoint):
                recorder.save(event)
                stop.refuse_to_go_on(f"saved at agent step {event.clock.agent_steps}")


def _resume(
    loop: Loop[Any], checkpoints: Checkpoints, folder: RunFolder, display: ProgressDisplay, restart: bool
) -> float | None:
    """Take the latest checkpoint, and forget what metrics.jsonl says of the time after it; returns its score."""
    start = loop.snapshot()
    restored = checkpoints.restore_newest(lambda step: start.arrays, display.message, restart)
    if restored is None:
        keep_first(folder.metrics, 0)
        return None
    loop.restore(Snapshot(restored.state, restored.extra["counts"]))
    keep_first(folder.metrics, restored.extra["metrics_lines"])
    display.message(f"going on from agent step {loop.clock.agent_steps} of {folder.path}")
    return restored.extra["score"]
