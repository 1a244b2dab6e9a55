"""What a run is: one frozen dataclass, passed whole and written to the run folder."""

from __future__ import annotations

import dataclasses
from typing import Literal

import tyro

from agent.mbpo import MBPOConfig


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A task, an algorithm and a seed. Everything about learning is in `mbpo`."""

    preset: tyro.conf.Suppress[str]  # where the values came from
    task: str = "handle-press"
    algorithm: Literal["mbpo", "drqv2"] = "mbpo"
    seed: int = 0
    render_quality: Literal["fast", "full"] = "fast"
    demonstrations: int = 5  # scripted episodes in the real replay (paper section 4.2)
    held_out: int = 4  # scripted episodes that only measure the world model
    keep_checkpoints: int = 2
    mbpo: MBPOConfig = MBPOConfig()

    @property
    def resolution(self) -> int:
        """Pixels a side of what the simulator draws."""
        model = self.mbpo.world_model
        return 64 if model is None else model.tokenizer.resolution


def with_algorithm(experiment: Experiment) -> Experiment:
    """The experiment as its algorithm runs it: DrQ-v2 is the same loop without a world model."""
    if experiment.algorithm == "mbpo":
        if experiment.mbpo.world_model is None:
            raise ValueError(f"preset '{experiment.preset}' has no world model: choose --algorithm drqv2")
        return experiment
    return dataclasses.replace(experiment, mbpo=dataclasses.replace(experiment.mbpo, world_model=None))
