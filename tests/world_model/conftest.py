"""The small world model, and frames and actions for it."""

from __future__ import annotations

import numpy as np
import pytest
from small import CONFIG, small_model

from world_model import WorldModel, WorldModelConfig


@pytest.fixture(scope="session")
def config() -> WorldModelConfig:
    return CONFIG


@pytest.fixture(scope="session")
def model() -> WorldModel:
    return small_model()


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """uint8 [B, T, H, W, 3]: two context and three future frames."""
    return np.random.default_rng(0).integers(0, 256, (2, 5, 16, 16, 3), np.uint8)


@pytest.fixture(scope="session")
def actions() -> np.ndarray:
    """float32 [B, T, A]"""
    return np.random.default_rng(1).uniform(-1, 1, (2, 5, 3)).astype(np.float32)
