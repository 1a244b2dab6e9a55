"""Shared by the tests of data sets: recordings in which every frame of every recording can be told apart."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from experiments.data.recording import Recording, make_recording
from experiments.data.store import Store
from experiments.data.writer import StoreWriter


def _numbered(number: int, length: int, side: int = 4, action_size: int = 2, rewards: bool = True) -> Recording:
    """Frame t of recording `number` is filled with number in red and t in green; its action and reward are t, too."""
    frames = np.zeros((length, side, side, 3), np.uint8)
    frames[..., 0], frames[..., 1] = number, np.arange(length)[:, None, None]
    frames[..., 2] = np.random.default_rng(number).integers(256, size=frames.shape[:3])
    steps = np.arange(length, dtype=np.float32)
    return make_recording(frames, np.repeat(steps[:, None], action_size, 1), steps if rewards else None)


@pytest.fixture
def numbered():
    return _numbered


@pytest.fixture
def make_store(tmp_path):
    """A data set of numbered recordings of these lengths, named by their numbers from `first` on."""

    def make(lengths, name: str = "set", first: int = 0, shard_bytes: int = 1500, **kinds) -> Store:
        with StoreWriter(tmp_path / name, {"name": name}, shard_bytes) as writer:
            for number, length in enumerate(lengths, first):
                writer.add(f"{number}", _numbered(number, length, **kinds))
            writer.finish()
        return Store(tmp_path / name)

    return make


@pytest.fixture
def contents():
    """What lies in a data set folder, by name."""

    def of(folder: pathlib.Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".arrayrecord")}

    return of
