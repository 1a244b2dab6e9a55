"""What is predicted: segments of recordings that the model has not learned from."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from agent.replay import load_episode
from experiments.data.augment import resize
from experiments.data.converters.arrays import open_arrays
from experiments.data.converters.source import Wanted
from experiments.data.recording import DataError, Recording, of_episode
from experiments.data.segments import VALIDATION_SHARE, Split, members
from experiments.data.shards import DESCRIPTION
from experiments.data.store import Store
from world_model import WorldModelConfig, pad_actions


@dataclasses.dataclass(frozen=True)
class Segments:
    """V segments of T frames by name. `actions[:, t]` leads from frame t to t + 1; A is the model's action size."""

    names: tuple[str, ...]
    frames_vthwc: np.ndarray  # uint8
    actions_vta: np.ndarray  # float32


def named_recordings(
    places: Sequence[pathlib.Path], split: Split, share: float = VALIDATION_SHARE, resolution: int = 64
) -> list[tuple[str, Recording]]:
    """Recordings of data sets (one split of each), of episode files, and of folders with those, in order.

    A data set of one recording gives that one. Raises DataError and EpisodeError.
    """
    found = []
    for place in places:
        if (place / DESCRIPTION).exists():
            store = Store(place)
            chosen = members(store.names, split, share) if len(store) > 1 else [0]
            found += [(store.names[index], store.read(int(index))) for index in chosen]
        elif place.exists():
            candidates = open_arrays(place, Wanted(resolution)).candidates
            found += [(candidate.name, candidate.read()) for candidate in candidates]
        else:
            raise DataError(f"{place}: no such data set, folder or file")
    return found


def held_out_of(run: pathlib.Path) -> list[tuple[str, Recording]]:
    """The episodes that a training run kept to judge its model, scripted and random ones by turns."""
    paths = sorted((run / "held_out").glob("*/*.npz"), key=lambda path: (path.stem, path.parent.name))
    return [(f"{path.parent.name}-{path.stem}", of_episode(load_episode(path))) for path in paths]


def cut_segments(
    recordings: Sequence[tuple[str, Recording]], config: WorldModelConfig, horizon: int, count: int
) -> Segments:
    """`count` segments at most, spread evenly over the recordings and over the time of each; too short ones are left out.

    Raises DataError where none is long enough, and where actions do not fit the model.
    """
    length = config.tokenizer.context_frames + horizon
    fitting = [(name, recording) for name, recording in recordings if recording.length >= length]
    if not fitting:
        longest = max((recording.length for _, recording in recordings), default=0)
        raise DataError(
            f"no recording has the {length} frames of a context and {horizon} to predict; the longest has {longest}"
        )
    shares = [len(part) for part in np.array_split(np.arange(count), len(fitting))]
    names, frames, actions = [], [], []
    for (name, recording), share in zip(fitting, shares, strict=True):
        for start in np.unique(np.linspace(0, recording.length - length, share).astype(int)) if share else ():
            names.append(f"{name} from {start}")
            frames.append(resize(recording.frames[start : start + length], config.tokenizer.resolution))
            actions.append(_fitted(recording.actions[start : start + length], config, name))
    return Segments(tuple(names), np.stack(frames), np.stack(actions))


def _fitted(actions_ta: np.ndarray, config: WorldModelConfig, name: str) -> np.ndarray:
    size = config.transformer.action_size
    if not size:
        return actions_ta[:, :0]
    if actions_ta.shape[1] == 0:
        raise DataError(f"'{name}' has no actions, and the model predicts from those")
    try:
        return np.asarray(pad_actions(actions_ta, size))
    except ValueError as error:
        raise DataError(f"'{name}': {error}") from error
