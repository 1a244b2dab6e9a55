"""What a training loop yields; the shell above decides what to do with it (bars, metrics, videos, checkpoints)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.guards import Outlier
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
class Suspicious:
    """An imagined reward or a Q value far outside what was really seen; the run goes on."""

    clock: Clock
    outlier: Outlier


@dataclasses.dataclass(frozen=True)
class Border:
    """A run that ends here goes on exactly from `state` and the replay's files: worth saving where the process must end.

    Borders lie between episodes, between evaluation episodes, and between updates of a first training.
    """

    clock: Clock
    state: Any  # a Snapshot


@dataclasses.dataclass(frozen=True)
class CheckpointDue(Border):
    """A border at which the schedule asks for a checkpoint."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the loop keeps in memory, in bytes."""

    clock: Clock
    real_replay: int
    imagined_replay: int


@dataclasses.dataclass(frozen=True)
class Finished:
    """The run is done; its last checkpoint follows."""

    clock: Clock
    restorable: Any  # everything that a resume restores: a pytree of arrays and integers


Event = Progress | EpisodeFinished | Evaluated | ModelEvaluated | Suspicious | Border | Sizes | Finished
