"""What a run is: one frozen dataclass, passed whole and written to the run folder."""

from __future__ import annotations

import dataclasses
from typing import Literal

import tyro

from agent.mbpo import MBPOConfig
from experiments.baselines.dreamerv3.config import DreamerConfig
from experiments.camera import Quality
from experiments.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A task, an algorithm and a seed. How long a run is and how it is judged is in `mbpo` for every algorithm.

    What DreamerV3 is made of is in `dreamerv3`; what the others are made of is in `mbpo`, too.
    """

    preset: tyro.conf.Suppress[str]  # where the values came from
    task: str = "handle-press"
    algorithm: Literal["mbpo", "drqv2", "dreamerv3"] = "mbpo"
    seed: int = 0
    num_envs: int = 1  # simulators that play side by side; more than one get processes of their own
    render_quality: Quality = "fast"
    demonstrations: int = 5  # scripted episodes in the real replay (paper section 4.2)
    held_out: int = 4  # scripted episodes that only measure the world model, and as many of random actions
    keep_checkpoints: int = 2
    pretrained: str | None = None
    """A world model to start from: a folder of ours or in the published layout, or the name of one that comes with the
    project (laptop-metaworld). Sizes become its own."""
    mbpo: MBPOConfig = MBPOConfig()
    dreamerv3: DreamerConfig | None = DreamerConfig()

    @property
    def resolution(self) -> int:
        """Pixels a side of what the simulator draws."""
        if self.algorithm == "dreamerv3":
            return self.dreamerv3.model.resolution
        model = self.mbpo.world_model
        return 64 if model is None else model.tokenizer.resolution


def checked(experiment: Experiment) -> Experiment:
    """The experiment as its algorithm runs it, without the parts that others are made of.

    Raises ValueError, with what to do, for values that do not fit each other.
    """
    mbpo = experiment.mbpo
    if experiment.num_envs < 1:
        raise ValueError(f"--num-envs is {experiment.num_envs}, but a run needs at least 1 simulator")
    if mbpo.replay_episodes < 1:
        raise ValueError(f"--mbpo.replay-episodes is {mbpo.replay_episodes}, but a replay keeps at least 1 episode")
    if experiment.algorithm == "dreamerv3":
        return dataclasses.replace(experiment, mbpo=dataclasses.replace(mbpo, world_model=None))
    experiment = dataclasses.replace(experiment, dreamerv3=None)
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


def suited(experiment: Experiment, action_size: int, demonstrated: bool) -> Experiment:
    """The experiment with its networks' action size, and without demonstrations where nobody gives any.

    Raises UsageError where the algorithm cannot do without.
    """
    mbpo, dreamer = experiment.mbpo, experiment.dreamerv3
    if mbpo.world_model is not None and not demonstrated:
        raise UsageError(
            f"{experiment.algorithm} judges its world model on scripted episodes, which {experiment.task} has none of: "
            "choose --algorithm drqv2 or dreamerv3"
        )
    if mbpo.world_model is not None:
        transformer = dataclasses.replace(mbpo.world_model.transformer, action_size=action_size)
        mbpo = dataclasses.replace(mbpo, world_model=dataclasses.replace(mbpo.world_model, transformer=transformer))
    if dreamer is not None:
        dreamer = dataclasses.replace(dreamer, model=dataclasses.replace(dreamer.model, action_size=action_size))
    return dataclasses.replace(
        experiment,
        demonstrations=experiment.demonstrations if demonstrated else 0,
        mbpo=dataclasses.replace(mbpo, agent=dataclasses.replace(mbpo.agent, action_size=action_size)),
        dreamerv3=dreamer,
    )
