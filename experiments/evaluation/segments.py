"""What is predicted: segments of recordings that the model has not learned from."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from agent.replay import EpisodeError, load_episode
from experiments.data import held_out as lists
from experiments.data.augment import centre_square
from experiments.data.converters.arrays import open_arrays
from experiments.data.converters.source import ConvertOptions, EpisodeRef
from experiments.data.loader import DatasetSpec
from experiments.data.recording import DataError, Recording, of_episode
from experiments.data.segments import VALIDATION_SHARE, Split, split_of
from experiments.data.shards import DESCRIPTION
from experiments.data.store import Store
from experiments.runs.progress import counted
from experiments.runs.run_folder import RunFolder, RunFolderError
from world_model import WorldModelConfig, pad_actions

Selection = Split | Literal["all"]
"""Of a data set; `all` for one that is a test set as a whole."""


@dataclasses.dataclass(frozen=True)
class EvaluationSegments:
    """V segments of T frames by name. `actions[:, t]` leads from frame t to t + 1; A is the model's action size."""

    names: tuple[str, ...]
    frames_vthwc: np.ndarray  # uint8
    actions_vta: np.ndarray  # float32


@dataclasses.dataclass(frozen=True)
class Footage:
    """A recording that segments can be cut from; only what a segment takes is read."""

    name: str
    length: int
    read: Callable[[np.ndarray], Recording]
    """The frames of these numbers, ascending, each with its own action."""

    @classmethod
    def of(cls, name: str, recording: Recording) -> Footage:
        return cls(name, recording.length, recording.take)


@dataclasses.dataclass(frozen=True)
class RecordingSet:
    """Recordings that lie together, and how segments are cut from them."""

    said: str
    """For a reader: where they lie, and which ones they are."""
    recordings: tuple[Footage, ...]
    step: int = 1
    """Frames from one frame of a segment to the next."""


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a run of pretrain or finetune learned from; an agent's run has no parts."""

    parts: tuple[DatasetSpec, ...] = ()
    validation_share: float = VALIDATION_SHARE
    held_out: tuple[str, ...] = ()

    def of(self, folder: pathlib.Path) -> DatasetSpec | None:
        """The data set of this folder, if the run learned from it."""
        return next((part for part in self.parts if part.folder.resolve() == folder.resolve()), None)


def read_learned(run: pathlib.Path) -> Learned:
    """By the run's config.yaml. Raises RunFolderError."""
    folder = RunFolder(run)
    config = folder.read()["config"]
    try:
        parts = (_part(part) for part in config.get("data") or ())
        share, named = config.get("validation_share", VALIDATION_SHARE), config.get("held_out", ())
        return Learned(tuple(parts), _between(share, 0, 1), tuple(str(name) for name in named))
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{folder.config} does not say what the run learned from ({error!r})") from error


def _part(written: Mapping[str, Any]) -> DatasetSpec:
    weight, step = _between(written["weight"], 0, math.inf), written["step"]
    if not isinstance(step, int) or step < 1:
        raise TypeError(f"step is {step!r}")
    return DatasetSpec(pathlib.Path(written["folder"]), weight, step, bool(written.get("augmented", True)))


def _between(value: float, low: float, high: float) -> float:
    """A number of a configuration. Raises ValueError for one out of bounds, TypeError for something else."""
    if not low <= value <= high:
        raise ValueError(f"{value} is not between {low} and {high}")
    return value


def read_recordings(
    parts: Sequence[DatasetSpec],
    split: Selection,
    share: float = VALIDATION_SHARE,
    lone: bool = True,
    held_out: Sequence[str] = (),
) -> list[RecordingSet]:
    """Recordings of data sets (one split of each, or all), of episode files and of folders with those, in order.

    held_out: names of recordings, as `split_of` takes them. lone: whether a data set of one recording, of which nothing
    can be held out, gives that one. Places without recordings are left out. Raises DataError and EpisodeError.
    """
    sets = []
    for part in parts:
        if (part.folder / DESCRIPTION).exists():
            said, recordings = _of_store(Store(part.folder), split, share, lone, held_out)
            if len(parts) > 1:  # which may have the same names
                recordings = [dataclasses.replace(each, name=f"{part.folder.name}/{each.name}") for each in recordings]
        elif part.folder.exists():
            episodes = open_arrays(part.folder, ConvertOptions()).episodes
            said, recordings = "", [Footage.of(episode.name, _read(episode, part.folder)) for episode in episodes]
        else:
            raise DataError(f"{part.folder}: no such data set, folder or file")
        if recordings:
            step = f", step {part.step}" if part.step > 1 else ""
            sets.append(RecordingSet(f"{part.folder}{said}{step}", tuple(recordings), part.step))
    return sets


def _read(episode: EpisodeRef, place: pathlib.Path) -> Recording:
    """The whole of it. Raises DataError and EpisodeError."""
    try:
        return episode.read()
    except EpisodeError:  # which names its file
        raise
    except Exception as error:  # as a conversion, which skips what cannot be read
        raise DataError(f"{place}: '{episode.name}' cannot be read: {str(error).partition(chr(10))[0]}") from error


def _of_store(
    store: Store, split: Selection, share: float, lone: bool, held_out: Sequence[str]
) -> tuple[str, list[Footage]]:
    """What they are, and the recordings."""
    if split == "all" or (lone and len(store) == 1):
        chosen, said = np.arange(len(store)), " (all)"
    else:
        chosen = split_of(store, split, share, None, held_out)
        named = lists.find(store.names, {*store.held_out, *held_out})
        what = f"{counted(len(named), 'recording')} held out by name" if named else f"validation share {share:g}"
        said = f" ({split} split, {what})"
    return said, [
        Footage(store.names[index], int(store.lengths[index]), functools.partial(store.read, int(index)))
        for index in chosen
    ]


def read_held_out(run: pathlib.Path, step: int = 1) -> list[RecordingSet]:
    """The episodes that an agent's run kept to evaluate its model, scripted and random ones by turns; none of another
    run."""
    paths = sorted((run / "held_out").glob("*/*.npz"), key=lambda path: (path.stem, path.parent.name))
    kept = [Footage.of(f"{path.parent.name}-{path.stem}", of_episode(load_episode(path))) for path in paths]
    return [RecordingSet(f"the episodes that {run} held out", tuple(kept), step)] if kept else []


def cut_segments(
    sets: Sequence[RecordingSet], config: WorldModelConfig, horizon: int, count: int, repeat_last: bool = False
) -> EvaluationSegments:
    """`count` segments at most, spread evenly over the sets, their recordings, and the time of each; one of a recording
    is its beginning. Recordings that are too short for the step of their recording_set are left out.

    repeat_last: the last frame and its action are repeated in those instead, as in the published evaluation. Raises
    DataError where none is long enough, and where actions do not fit the model.
    """
    frames = config.tokenizer.context_frames + horizon
    fitting = [
        (recording_set, recordings)
        for recording_set in sets
        if (recordings := recording_set.recordings if repeat_last else _long_enough(recording_set, frames))
    ]
    if not fitting:
        least = min((recording_set.step for recording_set in sets), default=1)
        longest = max((each.length for recording_set in sets for each in recording_set.recordings), default=0)
        at_step = f" at step {least}" if least > 1 else ""
        raise DataError(
            f"no recording has the {_span(frames, least)} frames of a context and {horizon} to predict{at_step}; the "
            f"longest has {longest}"
        )
    names, pictures, actions = [], [], []
    for (recording_set, recordings), wanted in zip(fitting, _spread(count, len(fitting)), strict=True):
        for each, share in zip(recordings, _spread(wanted, len(recordings)), strict=True):
            last = max(each.length - _span(frames, recording_set.step), 0)
            for start in np.unique(np.linspace(0, last, share).astype(int)):
                segment = each.read(np.minimum(start + recording_set.step * np.arange(frames), each.length - 1))
                names.append(f"{each.name} from {start}")
                pictures.append(centre_square(segment.frames, config.tokenizer.resolution))
                actions.append(_pad(segment.actions, config, each.name))
    return EvaluationSegments(tuple(names), np.stack(pictures), np.stack(actions))


def _span(frames: int, step: int) -> int:
    """Frames of a recording from the first to the last of a segment."""
    return (frames - 1) * step + 1


def _long_enough(recording_set: RecordingSet, frames: int) -> tuple[Footage, ...]:
    return tuple(each for each in recording_set.recordings if each.length >= _span(frames, recording_set.step))


def _spread(count: int, among: int) -> np.ndarray:
    """How many each of them gets, int64 [among]: evenly, the first ones more; of fewer than they are, every so many-th
    one."""
    if count >= among:
        return np.array([len(part) for part in np.array_split(np.arange(count), among)])
    shares = np.zeros(among, np.int64)
    shares[np.linspace(0, among - 1, count).astype(int)] = 1
    return shares


def _pad(actions_ta: np.ndarray, config: WorldModelConfig, name: str) -> np.ndarray:
    size = config.transformer.action_size
    if not size:
        return actions_ta[:, :0]
    if actions_ta.shape[1] == 0:
        raise DataError(f"'{name}' has no actions, and the model predicts from those")
    try:
        return np.asarray(pad_actions(actions_ta, size))
    except ValueError as error:
        raise DataError(f"'{name}': {error}") from error
