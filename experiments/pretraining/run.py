"""A training run on data sets in a run folder; the same call on the same folder goes on where it stopped."""

from __future__ import annotations

import contextlib
import pathlib
import types
from collections.abc import Mapping
from typing import Any

import jax

from agent.events import CheckpointDue, Clock, Progress, SafePoint
from experiments.data.segments import split_of
from experiments.data.store import Store
from experiments.errors import UsageError
from experiments.pretraining import tokenizing
from experiments.pretraining.config import Pretraining
from experiments.pretraining.loop import Trainer, Validated
from experiments.reports import videos
from experiments.reports.comparison import scalars, sentence
from experiments.reports.page import TOO_FEW
from experiments.runs import hosts
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.metrics_log import Metrics, keep_first
from experiments.runs.model_card import model_card
from experiments.runs.preemption import StopRequest, stop_request
from experiments.runs.progress import ProgressDisplay
from experiments.runs.run_folder import RunFolder
from experiments.runs.tracking import check_packages, say_where, track
from experiments.weights.metric_weights import perceptual_weights
from world_model import WorldModel, WorldModelParams

MAY_CHANGE = ("mesh", "keep_checkpoints", "tracking")
"""Settings with which a run goes on that it did not begin with: but for rounding, no result depends on them."""


def pretrain(
    config: Pretraining,
    params: WorldModelParams,
    run_dir: pathlib.Path,
    command: str,
    workers: int = 0,
    settings: Mapping[str, Any] = types.MappingProxyType({}),
    restart: bool = False,
) -> pathlib.Path:
    """Train from these weights and return the folder of the model.

    settings: by dotted names the values that tell this run from others, as `RunFolder.claim` takes them.
    restart: begin at zero where the run's checkpoints are lost, as `Checkpoints.restore_newest` takes it.
    Raises UsageError, DataError, RunFolderError, and Preempted after a SIGTERM to any process of the run, or Ctrl-C to
    its only one, once the update that it fell into, with its evaluation where one is due, is saved.
    """
    check_packages(config.tracking)
    check_data(config)
    perceptual = (
        perceptual_weights() if config.tokenizer.steps and config.world_model.tokenizer.perceptual_weight else None
    )
    folder, trainer = RunFolder(run_dir), Trainer(config, params, perceptual, workers)
    claim = folder.claim(config, command, MAY_CHANGE, settings) if hosts.is_first() else contextlib.nullcontext()
    stopping = stop_request() if jax.process_count() == 1 else contextlib.nullcontext(StopRequest())
    with claim, stopping as stop, track(config.tracking if hosts.is_first() else (), folder) as trackers:
        if hosts.is_first():
            with ProgressDisplay() as display:
                display.message(say_where(folder, trackers))
        hosts.wait_for_all("run folder")
        with Checkpoints(folder.checkpoints, config.keep_checkpoints) as checkpoints:
            lines = _go_on(trainer, checkpoints, restart)
            if hosts.is_first():
                keep_first(folder.metrics, lines)
                listeners = [tracker.write for tracker in trackers]
                with ProgressDisplay() as display, Metrics(folder.metrics, listeners=listeners) as metrics:
                    if trainer.step:
                        display.message(f"going on from update {trainer.step} of {folder.path}")
                    with contextlib.closing(trainer.events()) as events:
                        for event in events:
                            _record(event, trainer, folder, metrics, checkpoints, display)
                            _end_if_asked(event, trainer, checkpoints, metrics.lines, stop)
            else:
                with contextlib.closing(trainer.events()) as events:
                    for event in events:
                        if isinstance(event, CheckpointDue):
                            _save(event, trainer, checkpoints, lines)
                        _end_if_asked(event, trainer, checkpoints, lines, stop)
        whole = trainer.whole_params()
        if hosts.is_first():
            names = [pathlib.Path(part.folder).name for part in config.data]
            WorldModel(config.world_model, whole).save(folder.model, model_card(folder, names, command))
        hosts.wait_for_all("model")
    return folder.model


def _go_on(trainer: Trainer, checkpoints: Checkpoints, restart: bool) -> int:
    """Take the newest checkpoint if there is one; returns how many lines of metrics it knows of."""
    with ProgressDisplay() as display:
        restored = checkpoints.restore_newest(trainer.prepare, display.message, restart)
    if restored is None:
        if trainer.stages:
            trainer.prepare(1)  # what was damaged may have been of the second stage
        return 0
    trainer.restore(restored.step, restored.state, restored.extra["loader"])
    return restored.extra["metrics_lines"]


def _end_if_asked(event, trainer: Trainer, checkpoints: Checkpoints, lines: int, stop: StopRequest) -> None:
    """Raise Preempted where that was asked for, at moments from which the run goes on exactly."""
    if isinstance(event, SafePoint):
        stop.made = hosts.asked_to_end(stop.made, trainer.step)
        if stop.made and not isinstance(event, CheckpointDue):
            _save(event, trainer, checkpoints, lines)
        stop.refuse_to_go_on(f"saved at update {trainer.step}")
    elif isinstance(event, Progress) and event.phase == tokenizing.PHASE:
        stop.refuse_to_go_on("with the tokens made so far kept")


def _save(event: SafePoint, trainer: Trainer, checkpoints: Checkpoints, lines: int) -> None:
    checkpoints.save(trainer.step, event.state["arrays"], {"loader": event.state["loader"], "metrics_lines": lines})


def _record(
    event, trainer: Trainer, folder: RunFolder, metrics: Metrics, checkpoints: Checkpoints, display: ProgressDisplay
) -> None:
    if isinstance(event, Progress):
        display.update(event)
        if event.metrics:
            metrics.write(
                Clock(), {"updates": trainer.step} | {f"{event.phase}/{k}": v for k, v in event.metrics.items()}
            )
    elif isinstance(event, Validated):
        _record_evaluation(event, folder, metrics, display)
    elif isinstance(event, CheckpointDue):
        _save(event, trainer, checkpoints, metrics.lines)


def _record_evaluation(event: Validated, folder: RunFolder, metrics: Metrics, display: ProgressDisplay) -> None:
    values = {f"validation/{part}/{name}": v for part, found in event.metrics.items() for name, v in found.items()}
    if event.comparison is not None:
        values |= scalars(event.comparison)
        videos.write_mp4(folder.videos / f"imagination-{event.step}.mp4", videos.imagination_video(event.comparison), 4)
        videos.write_png(folder.videos / f"imagination-{event.step}.png", videos.filmstrip(event.comparison))
    if event.reconstructed is not None:
        pair = event.reconstructed
        path = folder.videos / f"reconstruction-{event.step}.mp4"
        videos.write_mp4(path, videos.comparing_video(pair.real, pair.made, "reconstructed"), 4)
    metrics.write(Clock(), {"updates": event.step} | values)
    if not event.metrics:
        display.message("not evaluated: a data set of one recording holds none out")
    for part, found in event.metrics.items():
        said = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
        display.message(f"held out, {part} after update {event.step}: {said}")
    if event.comparison is not None:
        display.message(f"held out, after update {event.step}: {sentence(event.comparison)}")
    elif "transformer" in event.metrics:
        display.message(f"imagination not evaluated: {TOO_FEW}")


def check_data(config: Pretraining) -> None:
    """Raise UsageError where a data set lacks what the transformer is to learn from, or where settings do not fit."""
    _check_settings(config)
    if not (config.transformer.steps or config.source):
        return
    model = config.world_model.transformer
    for part in config.data:
        signals = Store(part.folder).signals
        if model.action_size and signals.action_size > model.action_size:
            raise UsageError(
                f"{part.folder} has actions of {signals.action_size} numbers, the model takes {model.action_size}: set "
                f"--world-model.transformer.action-size {signals.action_size}, or 0 for a model without actions"
            )
        if config.transformer.steps and model.action_size and not signals.action_size:
            raise UsageError(
                f"{part.folder} has no actions, and the transformer predicts from {model.action_size} numbers: leave "
                f"it out, or learn from it with a tokenizer alone"
            )
        if model.reward_head and not signals.rewards:
            raise UsageError(f"{part.folder} has no rewards to learn: set --world-model.transformer.no-reward-head")


def _check_settings(config: Pretraining) -> None:
    if config.tokens and not config.transformer.steps:
        raise UsageError("--tokens is for training a transformer, which has no updates here")
    if config.token_segments is not None and (config.tokens is None or config.token_segments < 1):
        raise UsageError("--token-segments is a positive number, and needs --tokens FOLDER")
    if config.trajectories is None:
        return
    share, named = config.validation_share, config.held_out
    most = max(len(split_of(Store(part.folder), "train", share, None, named)) for part in config.data)
    if not 1 <= config.trajectories <= most:
        raise UsageError(
            f"--trajectories {config.trajectories}: the data has {most} to learn from, once some are held out"
        )
