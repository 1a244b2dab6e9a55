"""RLDS episodes of Open X-Embodiment: one tf.train.Example per episode; a feature holds the values of all its steps."""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import numpy as np

from agent.replay import rewards_of_arriving
from experiments.data import held_out, mixture
from experiments.data.converters.example import Example
from experiments.data.converters.source import ConvertOptions, Source, decode_image, shrink_all
from experiments.data.converters.tfrecord import tfrecord_source
from experiments.data.recording import DataError, Recording, make_recording

OBSERVATION, ACTION, REWARD = "steps/observation/", "steps/action", "steps/reward"
ORIGIN = "episode_metadata/file_path"
"""The file that an episode was made from."""


def open_rlds(source: pathlib.Path, options: ConvertOptions) -> Source:
    """A folder as tensorflow-datasets writes it: `<name>/<version>/` or that name's only version.

    A set of the published mixture, known by the name of its folder, brings its own keys; any other is read with the
    image key `image` and all of its action. `reward`, where there is one, becomes that of arriving at the frame after.
    All splits become one data set. Left out are copies of recordings that are held out elsewhere, known by the
    `file_path` in an episode's metadata: of robo_net, RoboNet's test recordings, and whatever does not say where it
    comes from; of any set, those of --held-out.
    """
    options = _with_own_keys(source, options)
    found = tfrecord_source(source, functools.partial(_episode, options=options))
    return dataclasses.replace(found, held_out=options.held_out or frozenset())


def _with_own_keys(source: pathlib.Path, options: ConvertOptions) -> ConvertOptions:
    source = source.resolve()
    known = next(filter(None, map(mixture.of_catalogue, (source.name, source.parent.name))), None)
    if known is None:
        return dataclasses.replace(options, image_key=options.image_key or "image")
    if options.held_out is None and known.name == held_out.ROBONET_COPIES:
        options = dataclasses.replace(options, held_out=held_out.robonet_test())
    keys = known.action_keys or None
    return dataclasses.replace(
        options, image_key=options.image_key or known.image_key, action_keys=options.action_keys or keys
    )


def _episode(data: bytes, options: ConvertOptions) -> Recording:
    example = Example(data)
    if options.held_out:
        _refuse_copies(example, options.held_out)
    image = f"{OBSERVATION}{options.image_key}"
    if image not in example:
        others = sorted(name.removeprefix(OBSERVATION) for name in example if name.startswith(OBSERVATION))
        raise DataError(f"it has no image '{options.image_key}' among {', '.join(others)}: choose with --image-key")
    frames = shrink_all(map(decode_image, example[image]), options.resolution)
    actions = [_split_by_step(example, name, len(frames)) for name in _action_names(example, options)]
    return make_recording(frames, np.concatenate(actions, axis=1) if actions else None, _rewards(example, len(frames)))


def _refuse_copies(example: Example, names: frozenset[str]) -> None:
    origins = [path.decode() for path in example.get(ORIGIN, ()) if isinstance(path, bytes)]
    if not origins and names == held_out.robonet_test():
        raise DataError(f"it has no {ORIGIN}, so that it may be a copy of a test recording of RoboNet")
    if copied := held_out.find(origins, names) or held_out.find((f"{path}.hdf5" for path in origins), names):
        raise DataError(f"it is a copy of {min(copied)}, which is held out")


def _action_names(example: Example, options: ConvertOptions) -> list[str]:
    """The features that together are the action: those chosen, or the one there is, or all that are numbers."""
    if options.action_keys:
        names = [f"{ACTION}/{key}" for key in options.action_keys]
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
    rewards = _split_by_step(example, REWARD, steps)
    if rewards.shape[1] != 1:
        raise DataError(f"'{REWARD}' has {rewards.shape[1]} values a step, expected one")
    return rewards_of_arriving(rewards[:-1, 0])


def _split_by_step(example: Example, name: str, steps: int) -> np.ndarray:
    values = example[name]
    if not isinstance(values, np.ndarray) or not len(values) or len(values) % steps:
        raise DataError(f"'{name}' has {len(values)} values, which {steps} steps cannot share")
    return values.reshape(steps, -1).astype(np.float32)
