"""Any gymnasium environment with continuous actions that draws itself, as pixels: `gym/Pendulum-v1`,
`gym/module:Name-v0`."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from experiments.envs.camera import Quality
from experiments.envs.simulator import PixelSimulator, State, Suite
from experiments.errors import UsageError

PREFIX = "gym/"
"""Starts a task's name; behind it stands an id that `gymnasium.make` takes."""
ACTION_REPEAT = 2


class GymnasiumPixels(PixelSimulator):
    """One environment. Observation: its picture, cut to a square about its middle and shrunk; action: [A] in [-1, 1],
    stretched to the environment's own limits.

    An agent step is two of its steps. An episode lasts as long as the environment's time limit; where one ends before,
    its last picture stays and earns nothing. A step succeeds where its info says `success` or `is_success`; of an
    environment that says neither but has a reward threshold, the last step does where the return reaches it.
    """

    def __init__(self, task: str, render_quality: Quality = "fast", resolution: int = 64):
        """render_quality: the environment's own renderer has one alone. Raises UsageError, with what does not fit."""
        identifier = task.removeprefix(PREFIX)
        try:
            self._environment = gymnasium.make(identifier, render_mode="rgb_array")
        except (gymnasium.error.Error, ImportError, ValueError) as error:
            raise UsageError(f"task '{task}': gymnasium cannot make {identifier} ({_first_line(error)})") from error
        space, spec = self._environment.action_space, self._environment.spec
        if not isinstance(space, gymnasium.spaces.Box) or space.shape is None or len(space.shape) != 1:
            raise UsageError(f"task '{task}' has actions of the kind {space}, expected a Box of one axis")
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise UsageError(f"task '{task}' has actions without limits: wrap it in gymnasium's RescaleAction first")
        if spec is None or spec.max_episode_steps is None or spec.max_episode_steps < ACTION_REPEAT:
            raise UsageError(f"task '{task}' has no time limit: register it with max_episode_steps")
        steps = spec.max_episode_steps // ACTION_REPEAT
        super().__init__(task, space.shape[0], resolution, ACTION_REPEAT, steps)
        self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
        self._resolution = resolution
        self._threshold, self._return, self._ended = spec.reward_threshold, 0.0, False
        self._environment.reset(seed=0)
        try:
            self.render()
        except (gymnasium.error.Error, ImportError, AttributeError) as error:
            raise UsageError(f"task '{task}' cannot be drawn: {_first_line(error)}") from error

    def _begin(self, seed: int) -> None:
        self._environment.reset(seed=seed)
        self._return, self._ended = 0.0, False

    def _advance(self, action: np.ndarray, last: bool) -> tuple[float, bool]:
        share = (action.astype(np.float64) + 1) / 2
        scaled = (self._low + share * (self._high - self._low)).astype(self._environment.action_space.dtype)
        total, success = 0.0, False
        for _ in range(ACTION_REPEAT):
            if self._ended:
                break
            _, reward, terminated, truncated, info = self._environment.step(scaled)
            total, self._ended = total + float(reward), terminated or truncated
            success = success or bool(info.get("success", info.get("is_success", False)))
        self._return += total
        solved = last and self._threshold is not None and self._return >= self._threshold
        return total, success or solved

    def render(self) -> np.ndarray:
        """The picture of this moment, uint8 [resolution, resolution, 3]."""
        picture: Any = self._environment.render()
        height, width = picture.shape[:2]
        side, resolution = min(height, width), self._resolution
        top, left = (height - side) // 2, (width - side) // 2
        square = Image.fromarray(picture[top : top + side, left : left + side])
        return np.asarray(square.resize((resolution, resolution), Image.Resampling.BOX))

    def save_state(self) -> State:
        """See Simulator. Raises UsageError where the environment cannot be copied."""
        try:
            environment = copy.deepcopy(self._environment)
        except Exception as error:  # whatever an environment holds that cannot be copied: a window, a process
            raise UsageError(f"the state of {self.task} cannot be saved: {_first_line(error)}") from error
        return {
            "environment": environment,
            "return": self._return,
            "ended": self._ended,
            "agent_steps": self._agent_steps,
        }

    def restore_state(self, state: State) -> None:
        """See Simulator."""
        self._environment = copy.deepcopy(state["environment"])
        self._return, self._ended, self._agent_steps = state["return"], state["ended"], state["agent_steps"]

    def close(self) -> None:
        self._environment.close()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def task_names() -> tuple[str, ...]:
    """Ids that gymnasium knows by itself; whether they fit shows when one is made."""
    return tuple(sorted(f"{PREFIX}{identifier}" for identifier in gymnasium.registry))


SUITE = Suite("gym", PREFIX, GymnasiumPixels, task_names)
