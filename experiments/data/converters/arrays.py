"""One episode a `.npz` file: Meta-World's, ours or published, and the published layout of video data sets."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import numpy as np

from agent.replay import load_episode
from experiments.data.converters.source import Candidate, Source, Wanted, files, name_of, shrunk_all
from experiments.data.recording import DataError, Recording, of_episode, recording

IMAGES = ("aux1_image", "image")
"""Frames in files of the published code, the one that is used first; OXE files use the set's own key (`--image-key`)."""


def open_arrays(place: pathlib.Path, wanted: Wanted) -> Source:
    """Every `.npz` in a folder and those within it. Nothing in them is unpickled.

    Files with `frames` or `observation` are Meta-World episodes, which bring rewards (what `ivideogpt collect-demos`, a
    run's replay folder and the published demonstrations hold); others hold an image key and, where there are any, `action`.
    """
    found = files(place, (".npz",))
    return Source(
        len(found), (Candidate(name_of(path, place), functools.partial(_read, path, wanted)) for path in found)
    )


def _read(path: pathlib.Path, wanted: Wanted) -> Recording:
    with np.load(path, allow_pickle=False) as file:
        keys = set(file.files)
    return _episode(path, wanted) if keys & {"frames", "observation"} else _video(path, keys, wanted)


def _episode(path: pathlib.Path, wanted: Wanted) -> Recording:
    episode = load_episode(path)
    return of_episode(dataclasses.replace(episode, frames=shrunk_all(episode.frames, wanted.resolution)))


def _video(path: pathlib.Path, keys: set[str], wanted: Wanted) -> Recording:
    image_key = wanted.image_key or next((key for key in IMAGES if key in keys), None)
    if image_key not in keys:
        raise DataError(f"it has no {image_key or 'image'}, only {', '.join(sorted(keys))}: choose with --image-key")
    chosen = ("action",) if wanted.action_keys is None else wanted.action_keys
    with np.load(path, allow_pickle=False) as file:
        frames = shrunk_all(file[image_key], wanted.resolution)
        actions = [file[key].reshape(len(file[key]), -1) for key in chosen if key in keys or wanted.action_keys]
    return recording(frames, np.concatenate(actions, axis=1) if actions else None)
