"""From pictures to actions in an environment: one step of acting, and evaluation with the mean action."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from jax import Array

from agent import drqv2
from agent.drqv2 import DrQv2Config, Parameters
from agent.replay import Episode, stacked


@dataclasses.dataclass(frozen=True)
class RandomActions:
    """How an agent that knows nothing moves. Short, small moves hide in a frame of 64 pixels what an action does."""

    hold_agent_steps: int = 1  # how long one is held
    reach: float = 1.0  # uniform in [-reach, reach], then clipped to [-1, 1], where most of a scripted policy's are

    def draw(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        """Actions [*shape] in [-1, 1]; who holds them is the caller's business."""
        return np.clip(rng.uniform(-self.reach, self.reach, shape), -1, 1)


@functools.partial(jax.jit, static_argnames="config")
def act(config: DrQv2Config, parameters: Parameters, observations_nhwc: Array, std: Array, key: Array) -> Array:
    """Actions [N, A] in [-1, 1] for uint8 observations [N, H, W, 3 * stack]; std 0 is the mean action."""
    return drqv2.explore(config, parameters, observations_nhwc, std, key)


Parts = tuple[list, list, list, list]
"""Of an episode: frames, actions, rewards, successes; growing."""


@functools.lru_cache(maxsize=16)
def _stack_policy(config: DrQv2Config) -> Callable:
    def policy(parameters: Parameters, std: Array, frames_bshwc: Array, key: Array) -> Array:
        b, s, h, w, c = frames_bshwc.shape
        observations = frames_bshwc.transpose(0, 2, 3, 1, 4).reshape(b, h, w, s * c)
        return drqv2.explore(config, parameters, observations, std, key)

    return policy


def imagination_policy(config: DrQv2Config, parameters: Parameters, std: Array) -> jax.tree_util.Partial:
    """The exploring policy as the world model traces it: `policy(frames_bshwc, key) -> actions_ba`.

    The function inside is the same object for one config, so that new parameters do not compile the program again.
    """
    return jax.tree_util.Partial(_stack_policy(config), parameters, std)


def side_by_side(env: gymnasium.Env | VectorEnv) -> VectorEnv:
    """One simulator as a vector environment of one, in this process; what is one already stays."""
    if isinstance(env, VectorEnv):
        return env
    return SyncVectorEnv([lambda: env], autoreset_mode=AutoresetMode.DISABLED)


def play(
    envs: VectorEnv, seeds: Sequence[int], stack: int, choose: Callable[[np.ndarray, int], np.ndarray]
) -> Iterator[tuple[int, list[Parts]]]:
    """Play an episode in each of N simulators; after every step of all yield how many are done and what was played so far.

    `choose(observations_nhwc, step)` returns actions [N, A] in [-1, 1]. All episodes have one length: ValueError where one
    ends before the others.
    """
    frames_nhwc = envs.reset(seed=list(seeds))[0]
    played: list[Parts] = [([frame], [], [], []) for frame in frames_nhwc]
    truncated = np.zeros(len(played), bool)
    while not truncated.any():
        recent = [frames[-stack:] for frames, *_ in played]
        observations = np.stack([stacked(frames, len(frames) - 1, stack) for frames in recent])
        actions = np.clip(np.asarray(choose(observations, len(played[0][1])), np.float32), -1, 1)
        frames_nhwc, rewards, _, truncated, info = envs.step(actions)
        for parts, *step in zip(played, frames_nhwc, actions, rewards, info["success"], strict=True):
            for column, value in zip(parts, step, strict=True):
                column.append(value)
        yield len(played[0][1]), played
    if not truncated.all():
        raise ValueError("episodes side by side must have the same length")


def as_episode(parts: Parts) -> Episode:
    """An episode that `play` has come to the end of."""
    frames, actions, rewards, successes = parts
    return Episode(np.stack(frames), np.stack(actions), np.asarray(rewards, np.float32), np.asarray(successes, bool))
