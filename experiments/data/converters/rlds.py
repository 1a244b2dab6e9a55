"""RLDS episodes of Open X-Embodiment: one tf.train.Example an episode, its steps laid side by side in each feature."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import numpy as np

from experiments.data import mixture
from experiments.data.converters.example import Example
from experiments.data.converters.source import Source, Wanted, decoded, shrunk_all
from experiments.data.converters.tfrecord import tfrecord_source
from experiments.data.recording import DataError, Recording, recording

OBSERVATION, ACTION, REWARD = "steps/observation/", "steps/action", "steps/reward"


def open_rlds(place: pathlib.Path, wanted: Wanted) -> Source:
    """A folder as tensorflow-datasets writes it: `<name>/<version>/` or that name's only version.

    A set of the published mixture, known by the name of its folder, brings its own keys; any other is read with the image
    key `image` and all of its action. `reward`, where there is one, becomes that of arriving at the frame after. Splits
    become one data set.
    """
    return tfrecord_source(place, functools.partial(_episode, wanted=_with_own_keys(place, wanted)))


def _with_own_keys(place: pathlib.Path, wanted: Wanted) -> Wanted:
    place = place.resolve()
    known = next(filter(None, map(mixture.of_catalogue, (place.name, place.parent.name))), None)
    if known is None:
        return dataclasses.replace(wanted, image_key=wanted.image_key or "image")
    keys = known.action_keys or None
    return dataclasses.replace(
        wanted, image_key=wanted.image_key or known.image_key, action_keys=wanted.action_keys or keys
    )


def _episode(data: bytes, wanted: Wanted) -> Recording:
    example = Example(data)
    image = OBSERVATION + wanted.image_key
    if image not in example:
        others = sorted(name.removeprefix(OBSERVATION) for name in example if name.startswith(OBSERVATION))
        raise DataError(f"it has no image '{wanted.image_key}' among {', '.join(others)}: choose with --image-key")
    frames = shrunk_all(map(decoded, example[image]), wanted.resolution)
    parts = [_by_step(example, name, len(frames)) for name in _action_names(example, wanted)]
    return recording(frames, np.concatenate(parts, axis=1) if parts else None, _rewards(example, len(frames)))


def _action_names(example: Example, wanted: Wanted) -> list[str]:
    """The features that together are the action: those chosen, or the one there is, or all that are numbers."""
    if wanted.action_keys:
        names = [f"{ACTION}/{key}" for key in wanted.action_keys]
        if missing := [name for name in names if name not in example]:
            raise DataError(f"it has no {', '.join(missing)}: choose with --action-keys")
        return names
    if ACTION in example:
        return [ACTION]
    under = sorted(name for name in example if name.startswith(f"{ACTION}/"))
    return [name for name in under if isinstance(example[name], np.ndarray)]


def _rewards(example: Example, steps: int) -> np.ndarray | None:
    """float32 [T]: a step's reward is that of its action, which leads to the frame after; the last leads nowhere."""
    if REWARD not in example:
        return None
    rewards = _by_step(example, REWARD, steps)
    if rewards.shape[1] != 1:
        raise DataError(f"'{REWARD}' has {rewards.shape[1]} values a step, expected one")
    return np.concatenate([[0], rewards[:-1, 0]])


def _by_step(example: Example, name: str, steps: int) -> np.ndarray:
    values = example[name]
    if not isinstance(values, np.ndarray) or not len(values) or len(values) % steps:
        raise DataError(f"'{name}' has {len(values)} values, which {steps} steps cannot share")
    return values.reshape(steps, -1).astype(np.float32)
