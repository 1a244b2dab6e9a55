"""BAIR robot pushing, the original TFRecords (`softmotion30_44k/train` or `/test`): one feature per step."""

from __future__ import annotations

import functools
import itertools
import pathlib

import numpy as np

from experiments.data.converters.example import Example
from experiments.data.converters.source import ConvertOptions, Source, shrink_all
from experiments.data.converters.tfrecord import tfrecord_source
from experiments.data.recording import DataError, Recording, make_recording

SIDE = 64
CAMERA = "image_aux1"
"""The camera that the field reports on."""


def open_bair(source: pathlib.Path, options: ConvertOptions) -> Source:
    """Camera `image_aux1` (or `--image-key image_main`) and actions of four numbers; 30 steps per episode."""
    return tfrecord_source(source, functools.partial(_episode, options=options))


def _episode(data: bytes, options: ConvertOptions) -> Recording:
    example = Example(data)
    camera = options.image_key or CAMERA
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
    return make_recording(shrink_all(frames, options.resolution), np.stack(actions))
