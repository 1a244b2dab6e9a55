"""From pictures to actions in an environment: one step of acting, and evaluation with the mean action."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import gymnasium
import jax
import numpy as np
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
def act(config: DrQv2Config, parameters: Parameters, observation_hwc: Array, std: Array, key: Array) -> Array:
    """One action [A] in [-1, 1] for one uint8 observation [H, W, 3 * stack]; std 0 is the mean action."""
    return drqv2.explore(config, parameters, observation_hwc[None], std, key)[0]


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


def play(
    env: gymnasium.Env, seed: int, stack: int, choose: Callable[[np.ndarray, int], np.ndarray]
) -> Iterator[tuple[int, tuple]]:
    """Play one episode; after every agent step yield how many are done and the lists that `as_episode` takes.

    `choose(observation_hwc, step)` returns an action [A] in [-1, 1].
    """
    frames = [env.reset(seed=seed)[0]]
    actions, rewards, successes, truncated = [], [], [], False
    while not truncated:
        observation = stacked(frames[-stack:], len(frames[-stack:]) - 1, stack)
        action = np.clip(np.asarray(choose(observation, len(actions)), np.float32), -1, 1)
        frame, reward, _, truncated, info = env.step(action)
        frames.append(frame)
        actions.append(action)
        rewards.append(reward)
        successes.append(info["success"])
        yield len(actions), (frames, actions, rewards, successes)


def as_episode(parts: tuple[list, list, list, list]) -> Episode:
    """The lists that `play` grows, as arrays."""
    frames, actions, rewards, successes = parts
    return Episode(np.stack(frames), np.stack(actions), np.asarray(rewards, np.float32), np.asarray(successes, bool))
