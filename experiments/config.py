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
    held_out: int = 4  # scripted episodes that only measure the world model, and as many of random actions
    keep_checkpoints: int = 2
    mbpo: MBPOConfig = MBPOConfig()

    @property
    def resolution(self) -> int:
        """Pixels a side of what the simulator draws."""
        model = self.mbpo.world_model
        return 64 if model is None else model.tokenizer.resolution


def checked(experiment: Experiment) -> Experiment:
    """The experiment as its algorithm runs it: DrQ-v2 is the same loop without a world model.

    Raises ValueError, with what to do, for values that do not fit each other.
    """
    mbpo = experiment.mbpo
    if mbpo.replay_episodes < 1:
        raise ValueError(f"--mbpo.replay-episodes is {mbpo.replay_episodes}, but a replay keeps at least 1 episode")
    if experiment.algorithm == "drqv2":
        return dataclasses.replace(experiment, mbpo=dataclasses.replace(mbpo, world_model=None))
    if mbpo.world_model is None:
        raise ValueError(f"preset '{experiment.preset}' has no world model: choose --algorithm drqv2")
    mbpo.world_model.check_horizon(mbpo.model.horizon)
    mbpo.world_model.check_horizon(mbpo.world_model.segment_frames - mbpo.world_model.tokenizer.context_frames)
    if mbpo.agent.stack < mbpo.world_model.tokenizer.context_frames:
        raise ValueError(
            f"rollouts start from the policy's stack of {mbpo.agent.stack} frames, but the model's context takes "
            f"{mbpo.world_model.tokenizer.context_frames}: raise --mbpo.agent.stack"
        )
    return experiment
