"""One episode per `.npz` file: Meta-World's, ours or published, and the published layout of video data sets."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping

import numpy as np

from agent.replay import StoredArrays
from experiments.data.converters.source import ConvertOptions, EpisodeRef, Source, find_files, name_of, shrink_all
from experiments.data.recording import DataError, Recording, make_recording, of_episode
from experiments.envs.published_episodes import read_episode

IMAGES = ("aux1_image", "image")
"""Where files of the published code have frames, the first choice first; those of OXE have the set's own key."""


def open_arrays(source: pathlib.Path, options: ConvertOptions) -> Source:
    """Every `.npz` in a folder and those within it. Nothing in them is unpickled.

    Files with `frames` or `observation` are Meta-World episodes, which bring rewards (what `ivideogpt collect-demos`, a
    run's replay folder and the published demonstrations hold). Others hold an image key and, where there are actions,
    `action`.
    """
    found = find_files(source, (".npz",))
    return Source(
        len(found), (EpisodeRef(name_of(path, source), functools.partial(_read, path, options)) for path in found)
    )


def _read(path: pathlib.Path, options: ConvertOptions) -> Recording:
    arrays = StoredArrays(path)
    return _episode(path, options) if arrays.keys() & {"frames", "observation"} else _video(arrays, options)


def _episode(path: pathlib.Path, options: ConvertOptions) -> Recording:
    episode = read_episode(path)
    return of_episode(dataclasses.replace(episode, frames=shrink_all(episode.frames, options.resolution)))


def _video(arrays: Mapping[str, np.ndarray], options: ConvertOptions) -> Recording:
    keys = arrays.keys()
    image_key = options.image_key or next((key for key in IMAGES if key in keys), None)
    if image_key is None or image_key not in keys:
        raise DataError(f"it has no {image_key or 'image'}, only {', '.join(sorted(keys))}: choose with --image-key")
    action_keys = ("action",) if options.action_keys is None else options.action_keys
    frames = shrink_all(arrays[image_key], options.resolution)
    actions = [arrays[key].reshape(len(arrays[key]), -1) for key in action_keys if key in keys or options.action_keys]
    return make_recording(frames, np.concatenate(actions, axis=1) if actions else None)
