"""What a simulator is to everyone else, and what all of them share."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gymnasium
import numpy as np

from agent.episodes import Settable, clip_actions
from experiments.envs.camera import Quality
from experiments.errors import UsageError

State = Mapping[str, Any]
"""All that the future of a simulator depends on; whoever saved it need not know what is in it."""


class Simulator(Settable, Protocol):
    """One task, as pixels. Every episode lasts `episode_agent_steps`, whatever happens in it.

    An agent step is `action_repeat` steps of the simulator. `info` holds success (bool: whether this agent step
    succeeded) and env_steps (the simulator's steps since the reset). Actions are clipped to [-1, 1]. The scene is drawn
    from the seed given to `reset` alone.
    """

    task: str

    def simulator_state(self) -> dict[str, np.ndarray]:
        """The physical state as arrays, by which two runs are compared."""
        ...

    def save_state(self) -> State:
        """A copy of all that the next steps depend on. Raises UsageError where the simulator cannot say."""
        ...

    def restore_state(self, state: State) -> None:
        """Go on from a state that this simulator saved, bit for bit."""
        ...

    def scripted_policy(self) -> Callable[[], np.ndarray] | None:
        """A policy for one episode that knows how to solve the task: called before each step, it looks at the simulator
        itself and returns an action [A], perhaps out of range. None where there is none."""
        ...

    def exploring_policy(self, rng: np.random.Generator) -> Callable[[], np.ndarray] | None:
        """A policy for one episode that makes something happen without a purpose, called as the scripted one is. None
        where actions drawn blindly do that."""
        ...

    def set_goal(self, state: State) -> None:
        """Until the next reset, a step succeeds where this saved state is reached. Raises UsageError where the task
        cannot say when that is."""
        ...


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tasks of one kind."""

    name: str
    """How `ivideogpt tasks --suite` and data sets call it."""
    prefix: str
    """Begins its tasks' names; empty: of all that no other suite claims."""
    make: Callable[[str, Quality, int], Simulator]
    """A task by its whole name, drawn in this quality at so many pixels a side. Raises UserError: no such task."""
    task_names: Callable[[], tuple[str, ...]]
    """Whole names, in alphabetical order."""
    protocol: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What results on its tasks depend on and no setting says, by the names that reports have for it."""


class PixelSimulator(gymnasium.Env, abc.ABC):
    """What simulators share: spaces, clipping, the end of an episode. A task fills in how it begins, moves and
    looks."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, task: str, action_size: int, resolution: int, action_repeat: int, episode_agent_steps: int):
        self.task, self.action_repeat, self.episode_agent_steps = task, action_repeat, episode_agent_steps
        self.observation_space = gymnasium.spaces.Box(0, 255, (resolution, resolution, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (action_size,), np.float32)
        self._agent_steps = episode_agent_steps

    @abc.abstractmethod
    def _begin(self, seed: int) -> None:
        """Start an episode whose scene is drawn from the seed."""

    @abc.abstractmethod
    def _advance(self, action: np.ndarray, last: bool) -> tuple[float, bool]:
        """`action_repeat` simulator steps with an action float32 [A] in [-1, 1]: their reward, and whether they
        succeeded.

        last: whether the episode ends with them.
        """

    @abc.abstractmethod
    def render(self) -> np.ndarray:  # type: ignore[override]
        """The picture of this moment, uint8 [resolution, resolution, 3]."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode; without a seed, one is drawn from the environment's own generator."""
        super().reset(seed=seed)
        self._begin(int(self.np_random.integers(2**31)))
        self._agent_steps = 0
        return self.render(), {"success": False, "env_steps": 0}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One agent step. `info`: success (bool), env_steps (simulator steps since reset)."""
        reward, success, over = self.advance(action)
        info = {"success": success, "env_steps": self._agent_steps * self.action_repeat}
        return self.render(), reward, False, over, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool]:
        """One agent step that nobody draws: its reward, whether it succeeded, and whether the episode is over."""
        if self._agent_steps >= self.episode_agent_steps:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset first")
        over = self._agent_steps + 1 == self.episode_agent_steps
        reward, success = self._advance(clip_actions(action), over)
        self._agent_steps += 1
        return reward, success, over

    def simulator_state(self) -> dict[str, np.ndarray]:
        """See Simulator."""
        return {}

    def scripted_policy(self) -> Callable[[], np.ndarray] | None:
        """See Simulator."""
        return None

    def exploring_policy(self, rng: np.random.Generator) -> Callable[[], np.ndarray] | None:
        """See Simulator."""
        return None

    def set_goal(self, state: State) -> None:
        """See Simulator."""
        raise UsageError(f"{self.task} does not know when a state is reached: choose another kind of goal (--goal)")
