"""Shared by the tests of converters: frames whose grey says which they are, videos of them, and a conversion."""

from __future__ import annotations

import fractions
import io
import pathlib

import av
import numpy as np
import pytest

from experiments.data.convert import convert
from experiments.data.converters.registry import FORMATS
from experiments.data.converters.source import ConvertOptions
from experiments.data.store import Store
from experiments.data.writer import StoreWriter


def _grey(numbers, height: int = 32, width: int = 48) -> np.ndarray:
    """uint8 [T, H, W, 3]: frame i is evenly 8 times numbers[i]."""
    values = 8 * np.asarray(list(numbers), np.uint8)
    return np.broadcast_to(values[:, None, None, None], (len(values), height, width, 3)).copy()


@pytest.fixture
def grey():
    return _grey


@pytest.fixture
def numbers_of():
    """The numbers that frames are the grey of, lossy videos' too."""
    return lambda frames: np.rint(frames.mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


def _film(numbers, fps: int = 10, container: str = "mp4", codec: str = "libx264") -> bytes:
    """A video file of grey frames with a key frame now and then, between which others depend on those before."""
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format=container) as film:
        stream = film.add_stream(codec, rate=fractions.Fraction(fps), options={"g": "8"})
        frames = _grey(numbers)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())
    return buffer.getvalue()


@pytest.fixture
def film():
    return _film


@pytest.fixture
def converted(tmp_path):
    """Convert a folder into a data set."""

    def run(kind: str, folder: pathlib.Path, **options) -> Store:
        source = FORMATS[kind](folder, ConvertOptions(**options))
        folder = tmp_path / "converted" / str(len(list(tmp_path.glob("converted/*"))))
        with StoreWriter(folder, {}) as writer:
            progress = list(convert(source, writer))
        assert [step.done for step in progress] == list(range(1, source.total + 1))
        return Store(folder)

    return run
