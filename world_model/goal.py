"""What a model starts from: the newest true frames, and before them the goal of a goal-conditioned model."""

from __future__ import annotations

import chex
import jax.numpy as jnp
from jax import Array

from world_model.config import WorldModelConfig
from world_model.frames import to_float


def context_of(config: WorldModelConfig, frames_bshwc: Array, goal_bhwc: Array | None) -> Array:
    """The context float32 [B, C, H, W, 3]: the last C of the frames, or the goal and the last C - 1 of them.

    frames_bshwc: [B, S, H, W, 3] in the order of time; goal_bhwc: [B, H, W, 3], of a goal-conditioned model and of no
    other; both uint8 or float32 in [0, 1]. Raises ValueError for too few frames, and for a goal missing or too many.
    """
    chex.assert_rank(frames_bshwc, 5)
    if config.goal_conditioned != (goal_bhwc is not None):
        raise ValueError(
            "a goal-conditioned model predicts from a goal and the first frame: give the goal"
            if config.goal_conditioned
            else "this model is not goal-conditioned: leave the goal out"
        )
    found, taken = frames_bshwc.shape[1], config.layout.frames_before
    if found < taken:
        beside = " beside the goal" if config.goal_conditioned else ""
        raise ValueError(f"{found} frames to start from: the model's context takes {taken}{beside}")
    newest = to_float(frames_bshwc[:, -taken:])
    if goal_bhwc is None:
        return newest
    chex.assert_equal_shape([goal_bhwc, frames_bshwc[:, 0]])
    return jnp.concatenate([to_float(goal_bhwc)[:, None], newest], axis=1)
