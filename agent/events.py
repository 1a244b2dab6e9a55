"""What a training loop yields; the shell above decides what to do with it (bars, metrics, videos, checkpoints)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from agent.guards import Outlier


@dataclasses.dataclass(frozen=True)
class Clock:
    """How far a run is. One agent step is `action_repeat` simulator steps."""

    agent_steps: int = 0
    env_steps: int = 0


class Event:
    """The base of everything that a loop yields; an algorithm may add kinds of its own."""


@dataclasses.dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` units of a long phase, with the newest metrics (may be empty)."""

    phase: str
    done: int
    total: int
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Measured(Event):
    """Training metrics, each the newest of its name."""

    clock: Clock
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class EpisodeFinished(Event):
    """One real episode went into the replay."""

    clock: Clock
    episode_index: int
    episode_return: float
    success: bool


@dataclasses.dataclass(frozen=True)
class Evaluated(Event):
    """K evaluation episodes with the mean action; frames of the first M of them for a video."""

    clock: Clock
    returns: np.ndarray  # float32 [K]
    successes: np.ndarray  # bool [K]
    frames: np.ndarray  # uint8 [M, T, H, W, 3]


@dataclasses.dataclass(frozen=True)
class OutlierWarning(Event):
    """An imagined reward or a Q value far outside what was really seen; the run goes on."""

    clock: Clock
    outlier: Outlier


@dataclasses.dataclass(frozen=True)
class SafePoint(Event):
    """A run that ends here goes on exactly from `state` and the replay's files: what to save if the process must end.

    Safe points lie between episodes, between evaluation episodes, and between updates of a first training.
    """

    clock: Clock
    state: Any  # a Snapshot


@dataclasses.dataclass(frozen=True)
class CheckpointDue(SafePoint):
    """A safe point at which the schedule asks for a checkpoint."""


@dataclasses.dataclass(frozen=True)
class MemoryUsage(Event):
    """What the loop keeps in memory, in bytes."""

    clock: Clock
    real_replay: int
    imagined_replay: int


@dataclasses.dataclass(frozen=True)
class Finished(Event):
    """The run is done; its last checkpoint follows."""

    clock: Clock
    restorable: Any  # everything that a resume restores: a pytree of arrays and integers
