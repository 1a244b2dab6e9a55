"""What the loop accepts."""

import pytest

from agent.mbpo import MBPOConfig
from world_model import WorldModelConfig


def test_a_world_model_that_needs_a_goal_is_refused():
    with pytest.raises(ValueError, match="imagines from real frames alone and has no goal frame: set goal_conditioned"):
        MBPOConfig(world_model=WorldModelConfig(goal_conditioned=True))
