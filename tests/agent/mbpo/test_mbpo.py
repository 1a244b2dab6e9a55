"""What model-based policy optimisation refuses before it begins."""

import dataclasses

import pytest

from agent.mbpo import MBPOConfig
from world_model import WorldModelConfig


def test_a_world_model_that_needs_a_goal_is_refused():
    with pytest.raises(ValueError, match="imagines from real frames alone and has no goal frame: set goal_conditioned"):
        MBPOConfig(world_model=WorldModelConfig(goal_conditioned=True))


def test_a_world_model_without_rewards_is_refused():
    with pytest.raises(ValueError, match="learns from imagined rewards: keep the reward head"):
        MBPOConfig(world_model=WorldModelConfig())


def test_a_stack_shorter_than_the_context_is_refused():
    config = MBPOConfig()
    with pytest.raises(ValueError, match="the policy's stack of 1 frames, but the model's context takes 2: raise"):
        dataclasses.replace(config, agent=dataclasses.replace(config.agent, stack=1))
