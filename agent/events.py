"""What a training loop yields; the shell above decides what to do with it (bars, metrics, videos, checkpoints)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.model_evaluation import Comparison


@dataclasses.dataclass(frozen=True)
class Clock:
    """How far a run is. One agent step is `action_repeat` simulator steps."""

    agent_steps: int = 0
    env_steps: int = 0


@dataclasses.dataclass(frozen=True)
class Progress:
    """`done` of `total` units of a long phase, with the newest training metrics (may be empty)."""

    clock: Clock
    phase: str
    done: int
    total: int
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EpisodeFinished:
    """One real episode went into the replay."""

    clock: Clock
    episode_index: int
    episode_return: float
    success: bool


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """K evaluation episodes with the mean action; frames of the first M of them for a video."""

    clock: Clock
    returns: np.ndarray  # float32 [K]
    successes: np.ndarray  # bool [K]
    frames: np.ndarray  # uint8 [M, T, H, W, 3]


@dataclasses.dataclass(frozen=True)
class ModelEvaluated:
    """Imagination against held-out real segments."""

    clock: Clock
    comparison: Comparison


@dataclasses.dataclass(frozen=True)
class CheckpointDue:
    """Everything a resume needs besides the replay folder: a pytree of arrays."""

    clock: Clock
    state: Any


Event = Progress | EpisodeFinished | Evaluated | ModelEvaluated | CheckpointDue
