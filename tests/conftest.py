"""Shared by all tests: one persistent compilation cache, one rendering backend, episodes of real frames."""

from __future__ import annotations

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "ivideogpt" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import numpy as np
import pytest

from agent.replay import Episode


@pytest.fixture
def make_episode():
    """Episodes whose every frame, action and reward can be told apart: frame t is filled with t, reward t is t + 1."""

    def make(length: int = 10, offset: int = 0, side: int = 8) -> Episode:
        values = (np.arange(length + 1) + offset).astype(np.uint8)
        return Episode(
            frames=np.broadcast_to(values[:, None, None, None], (length + 1, side, side, 3)).copy(),
            actions=np.linspace(-1, 1, length * 4, dtype=np.float32).reshape(length, 4),
            rewards=np.arange(1, length + 1, dtype=np.float32),
            successes=np.arange(length) == length - 1,
        )

    return make
