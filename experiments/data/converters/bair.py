"""BAIR robot pushing, the original TFRecords (`softmotion30_44k/train` or `/test`): a feature a step, frames uncompressed."""

from __future__ import annotations

import functools
import itertools
import pathlib

import numpy as np

from experiments.data.converters.example import Example
from experiments.data.converters.source import Source, Wanted, shrunk_all
from experiments.data.converters.tfrecord import tfrecord_source
from experiments.data.recording import DataError, Recording, recording

SIDE = 64
CAMERA = "image_aux1"
"""The camera that the field reports on."""


def open_bair(place: pathlib.Path, wanted: Wanted) -> Source:
    """Camera `image_aux1` (or `--image-key image_main`) and actions of four numbers, 30 steps an episode."""
    return tfrecord_source(place, functools.partial(_episode, wanted=wanted))


def _episode(data: bytes, wanted: Wanted) -> Recording:
    example = Example(data)
    camera = wanted.image_key or CAMERA
    frames, actions = [], []
    for step in itertools.count():
        image = f"{step}/{camera}/encoded"
        if image not in example:
            break
        (pixels,) = example[image]
        if len(pixels) != SIDE * SIDE * 3:
            raise DataError(f"frame {step} has {len(pixels)} bytes, expected {SIDE * SIDE * 3}")
        frames.append(np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE, 3))
        actions.append(example[f"{step}/action"])
    return recording(shrunk_all(frames, wanted.resolution), np.stack(actions))
