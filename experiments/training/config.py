"""What a run is: one frozen dataclass, passed whole and written to the run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, TypeVar

import tyro

from agent.loop import AlgorithmConfig, Schedule
from experiments.envs.camera import Quality
from experiments.runs.run_folder import flat, plain
from experiments.runs.tracking import Tracking
from experiments.training.algorithms import name_of
from tokenizer.limits import require_at_least

UNCOMPARED = {
    "preset",
    "task",
    "seed",
    "pretrained",
    "tracking",
    "schedule.agent_steps",
    "schedule.evaluation_episodes",
}
"""Settings that tables have columns for, and those that runs of one curve may differ in."""

CHANGEABLE = ("learning_rate", "weight_decay", "tau", "behaviour_cloning", "behaviour_cloning_end", "entropy")
"""Last parts of the names of settings that a run may go on with another value of: they enter an update's arithmetic
alone, and no array's shape, nothing that was stored, and not how long anything lasts."""

LENGTH = "schedule.agent_steps"
"""A run may go on to more of these: nothing that came before depends on how long it was to be."""


def is_changeable(name: str) -> bool:
    """Whether a run that has begun can go on with another value of this setting."""
    last = name.rpartition(".")[2].replace("-", "_")
    return last in CHANGEABLE or last.endswith("_weight")


ConfigOf = TypeVar("ConfigOf")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A task, an algorithm and a seed; how long the run is and how it is evaluated."""

    preset: tyro.conf.Suppress[str]  # where the values came from
    algorithm: tyro.conf.Suppress[AlgorithmConfig]
    """The settings of one of the algorithms: MBPOConfig, DrQv2Config or DreamerConfig."""
    task: str = "handle-press"
    seed: int = 0
    num_envs: int = 1  # simulators that play side by side; more than one get processes of their own
    render_quality: Quality = "fast"
    demonstrations: int = 5  # scripted episodes in the real replay (paper section 4.2)
    held_out: int = 4  # scripted episodes that only measure the world model, and as many of random actions
    keep_checkpoints: int = 2
    pretrained: tyro.conf.Suppress[str | None] = None
    """A world model to start from: a folder, a finished run, or the name of a bundled checkpoint."""
    schedule: Schedule = Schedule()
    tracking: tuple[Tracking, ...] = ()
    """Where else to send the metrics, which metrics.jsonl holds always; each has an extra of its name."""

    def __post_init__(self):
        if self.num_envs < 1:
            raise ValueError(f"--num-envs is {self.num_envs}, but a run needs at least 1 simulator")
        require_at_least(0, self, "seed", "demonstrations", "held_out")
        require_at_least(1, self, "keep_checkpoints")
        if self.held_out < 1 and self.algorithm.world_model is not None:
            raise ValueError("held_out is 0, but a world model is evaluated on at least 1 episode of each kind")

    def settings_as(self, kind: type[ConfigOf]) -> ConfigOf:
        """The algorithm's settings, for those who know which algorithm it is."""
        assert isinstance(self.algorithm, kind), f"{self.preset} holds settings of {name_of(self.algorithm)}"
        return self.algorithm

    @property
    def name(self) -> str:
        """What the run is called where nobody gives it a name."""
        return f"{name_of(self.algorithm)}-{self.preset}-{self.task.replace('/', '-')}-{self.seed}"

    def record(self) -> dict[str, Any]:
        """The run as config.yaml holds it: every setting under the name that it is typed by."""
        fields = plain(self)
        name = name_of(self.algorithm)
        return fields | {"algorithm": name, name: fields["algorithm"]}

    def select(self, typed: Collection[str]) -> dict[str, Any]:
        """The settings of these dotted names, with their values, that tell this run from others of its kind."""
        values = flat(self.record())
        return {name: values[name] for name in sorted(set(typed) - UNCOMPARED)}
