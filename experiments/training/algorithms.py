"""The algorithms that `ivideogpt train` knows. Another one is a folder in agent/ and a line here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from agent.dreamerv3 import DreamerConfig, DreamerV3
from agent.drqv2 import DrQv2Config
from agent.drqv2.loop import DrQv2
from agent.loop import AlgorithmConfig, Inputs, Loop, Schedule
from agent.mbpo import MBPO, MBPOConfig
from experiments.errors import by_name


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """What makes an algorithm: its settings, and the loop that they are the settings of."""

    config: type[Any]  # an AlgorithmConfig; its defaults are the published ones
    loop: Callable[[Any, Schedule, Inputs], Loop[Any]]


ALGORITHMS: dict[str, Algorithm] = {
    "mbpo": Algorithm(MBPOConfig, MBPO),
    "drqv2": Algorithm(DrQv2Config, DrQv2),
    "dreamerv3": Algorithm(DreamerConfig, DreamerV3),
}


def get(name: str) -> Algorithm:
    """An algorithm by name. Raises UsageError with the closest names."""
    return by_name("algorithm", name, ALGORITHMS)


def name_of(config: AlgorithmConfig) -> str:
    """The name of the algorithm that these are the settings of."""
    return next(name for name, algorithm in ALGORITHMS.items() if type(config) is algorithm.config)


def make_loop(config: AlgorithmConfig, schedule: Schedule, inputs: Inputs) -> Loop[Any]:
    """A run's loop, at its beginning."""
    return ALGORITHMS[name_of(config)].loop(config, schedule, inputs)
