"""Episode files of ours, or of the published code's Meta-World demonstrations."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from agent.episodes import clip_actions
from agent.replay import Episode, episode_of, read_arrays
from experiments.envs.metaworld import ACTION_REPEAT, SUCCESS_BONUS


def read_episode(path: str | os.PathLike) -> Episode:
    """An episode of either layout. Raises EpisodeError, in one sentence that names the file."""
    return read_arrays(path, lambda arrays: (_published_episode if "observation" in arrays else episode_of)(arrays))


def _published_episode(arrays: Mapping[str, np.ndarray]) -> Episode:
    """The published layout: stacks of three frames, channels first; row 0 of actions and rewards is a dummy.

    It holds no success flag. A step's own reward is at most 10 a simulator step, so that the sum over two exceeds 20
    only with the bonus, and a lower sum may hide a success: only certain successes are marked.
    """
    stack = arrays["observation"]
    if stack.ndim != 4 or stack.shape[1] != 9 or stack.dtype != np.uint8:
        raise ValueError(f"'observation' is {stack.dtype} {stack.shape}, expected uint8 [T, 9, H, W]")
    if len(arrays["action"]) != len(stack) or len(arrays["reward"]) != len(stack):
        raise ValueError(
            f"{len(stack)} observations, {len(arrays['action'])} actions and {len(arrays['reward'])} rewards disagree"
        )
    if not np.isfinite(arrays["action"][1:]).all():
        raise ValueError("'action' holds numbers that are not finite")
    rewards = arrays["reward"][1:].reshape(-1).astype(np.float32)
    return Episode(
        frames=np.ascontiguousarray(stack[:, -3:].transpose(0, 2, 3, 1)),
        actions=clip_actions(arrays["action"][1:]),
        rewards=rewards,
        successes=rewards > ACTION_REPEAT * SUCCESS_BONUS,
    )
