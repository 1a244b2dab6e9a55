"""Episodes in any simulator, whoever chooses the actions: in vector environments, step by step, from reset to end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from agent.replay import Episode, stack_frames
from tokenizer.limits import require_at_least, require_positive


@dataclasses.dataclass(frozen=True)
class RandomActions:
    """How an agent that knows nothing moves. At 64 pixels, short small moves barely show what an action does."""

    hold_agent_steps: int = 1  # how long an action is held
    reach: float = 1.0  # uniform in [-reach, reach], then clipped to [-1, 1], where most of a scripted policy's are

    def __post_init__(self):
        require_at_least(1, self, "hold_agent_steps")
        require_positive(self, "reach")

    def draw(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        """Actions [*shape] in [-1, 1]; the caller holds them."""
        return np.clip(rng.uniform(-self.reach, self.reach, shape), -1, 1)


class Playable(Protocol):
    """What an agent needs of a simulator, a gymnasium environment whose episodes all last as long."""

    action_repeat: int
    """Steps of the simulator that an agent step is."""
    episode_agent_steps: int
    observation_space: Any  # a Box of uint8 [H, W, 3]
    action_space: Any  # a Box of float32 [A] from -1 to 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]: ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]: ...

    def close(self) -> None: ...


class Settable(Playable, Protocol):
    """A simulator that can be set back to any moment, bit for bit, and draws when it is asked to."""

    def save_state(self) -> Any: ...

    def restore_state(self, state: Any) -> None: ...

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """`step` without its picture: the reward, whether it succeeded, whether the episode is over."""
        ...

    def render(self) -> np.ndarray: ...


Simulators = SyncVectorEnv | AsyncVectorEnv
"""Simulators side by side, as a vector environment."""

EpisodeBuffer = tuple[list[np.ndarray], list[np.ndarray], list[float], list[bool]]
"""An episode in the making: frames, actions, rewards, successes."""


def clip_actions(actions: np.ndarray) -> np.ndarray:
    """Actions [..., A] as a simulator takes them and a replay keeps them: float32 in [-1, 1]."""
    return np.clip(np.asarray(actions, np.float32), -1, 1)


def as_vector_env(env: Playable | Simulators) -> Simulators:
    """One simulator as a vector environment of one, in this process; a vector environment stays as it is."""
    if isinstance(env, VectorEnv):
        return env
    one = cast(gymnasium.Env[np.ndarray, np.ndarray], env)  # which no Protocol can inherit from
    return SyncVectorEnv([lambda: one], autoreset_mode=AutoresetMode.DISABLED)


def play(
    envs: Simulators, seeds: Sequence[int], stack: int, choose: Callable[[np.ndarray, int], np.ndarray]
) -> Iterator[tuple[int, list[EpisodeBuffer]]]:
    """Play an episode in each of N simulators; after each step yield how many steps are done and the episodes so far.

    `choose(stacks_nshwc, step)` sees the newest `stack` frames and returns actions [N, A] in [-1, 1]. All episodes have
    the same length: ValueError where one ends before the others.
    """
    frames_nhwc = envs.reset(seed=list(seeds))[0]
    played: list[EpisodeBuffer] = [([frame], [], [], []) for frame in frames_nhwc]
    truncated = np.zeros(len(played), bool)
    while not truncated.any():
        recent = [frames[-stack:] for frames, *_ in played]
        stacks = np.stack([stack_frames(frames, len(frames) - 1, stack) for frames in recent])
        actions = clip_actions(choose(stacks, len(played[0][1])))
        frames_nhwc, rewards, _, truncated, info = envs.step(actions)
        for parts, *step in zip(played, frames_nhwc, actions, rewards, info["success"], strict=True):
            for column, value in zip(parts, step, strict=True):
                column.append(value)
        yield len(played[0][1]), played
    if not truncated.all():
        raise ValueError("episodes side by side must have the same length")


def as_episode(parts: EpisodeBuffer) -> Episode:
    """An episode that `play` has finished."""
    frames, actions, rewards, successes = parts
    return Episode(np.stack(frames), np.stack(actions), np.asarray(rewards, np.float32), np.asarray(successes, bool))
