"""The DeepMind Control Suite as pixels (Tassa et al., 2018; extra `dm-control`), 1000 simulator steps an episode."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import gymnasium
import numpy as np

from experiments.camera import Camera, Quality
from experiments.errors import UsageError

PREFIX = "dmc/"
"""Starts a task's name, as in `dmc/cartpole-balance`."""

SIMULATOR_STEPS = 1000
"""Of an episode; the reward of each is at most 1."""
ACTION_REPEATS = {"cartpole": 8, "reacher": 4, "cheetah": 4, "ball_in_cup": 4}
"""By domain, as PlaNet has them (Hafner et al., 2019, table 1); 2 elsewhere."""
SOLVED = 900.0
"""Return from which an episode counts as a success."""

INSTALL = "pip install -e '.[dm-control]'"


@functools.cache
def _suite():
    # Imported late: MuJoCo fixes its rendering backend when it is imported.
    try:
        from dm_control import suite
    except ImportError as error:
        raise UsageError(f"tasks that start with {PREFIX} need dm_control: {INSTALL}") from error
    return suite


def task_names() -> tuple[str, ...]:
    """All tasks of the suite. Raises UsageError where dm_control is not installed."""
    return tuple(sorted(f"{PREFIX}{domain}-{task}" for domain, task in _suite().ALL_TASKS))


class DmControl(gymnasium.Env):
    """One task. Observation: uint8 [resolution, resolution, 3]; action: float32 [A], clipped to [-1, 1].

    An agent step is `action_repeat` steps of the suite; its reward is their sum. An episode's last step succeeds if its
    rewards add up to at least 900 of 1000. The scene is drawn from the seed given to `reset` alone.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 30}
    scripted = False
    render_mode = "rgb_array"

    def __init__(self, task: str, render_quality: Quality = "fast", resolution: int = 64):
        names = {f"{PREFIX}{domain}-{name}": (domain, name) for domain, name in _suite().ALL_TASKS}
        if task not in names:
            raise UsageError(f"unknown task '{task}'. All of the suite: ivideogpt tasks --suite dmc")
        self.task = task
        self.action_repeat = ACTION_REPEATS.get(names[task][0], 2)
        self.episode_agent_steps = SIMULATOR_STEPS // self.action_repeat
        self._random = np.random.RandomState(0)
        self._environment = _suite().load(*names[task], task_kwargs={"random": self._random})
        spec = self._environment.action_spec()
        self._low, self._high = spec.minimum, spec.maximum
        self.observation_space = gymnasium.spaces.Box(0, 255, (resolution, resolution, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, spec.shape, np.float32)
        self._agent_steps, self._return = self.episode_agent_steps, 0.0
        self._camera = Camera(self._environment.physics.model.ptr, 0, resolution, render_quality)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode; without a seed, one is drawn from the environment's own generator."""
        super().reset(seed=seed)
        self._random.seed(int(self.np_random.integers(2**31)))
        self._environment.reset()
        self._agent_steps, self._return = 0, 0.0
        return self.render(), {"success": False, "env_steps": 0}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One agent step. `info`: success (bool), env_steps (the suite's steps since reset)."""
        if self._agent_steps >= self.episode_agent_steps:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset first")
        share = (np.clip(np.asarray(action, np.float64), -1, 1) + 1) / 2
        action = self._low + share * (self._high - self._low)
        reward = sum(float(self._environment.step(action).reward) for _ in range(self.action_repeat))
        self._agent_steps += 1
        self._return += reward
        over = self._agent_steps >= self.episode_agent_steps
        info = {"success": over and self._return >= SOLVED, "env_steps": self._agent_steps * self.action_repeat}
        return self.render(), reward, False, over, info

    def render(self) -> np.ndarray:
        """The picture of this moment, uint8 [resolution, resolution, 3]."""
        return self._camera.picture(self._environment.physics.data.ptr)

    def simulator_state(self) -> dict[str, np.ndarray]:
        """All that the next step depends on, float64: MuJoCo's integration state and the places a task moves in a reset."""
        import mujoco

        model, data = self._environment.physics.model.ptr, self._environment.physics.data.ptr
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return {"state": state, "bodies": model.body_pos.copy(), "geoms": model.geom_pos.copy()}

    def close(self) -> None:
        self._camera.close()
