"""Meta-World as pixels, by the paper's protocol (section 4.2): `corner` camera, action repeat 2, 100 agent steps."""

from __future__ import annotations

import difflib
import functools
import warnings
from typing import Any, ClassVar

import gymnasium
import numpy as np

from agent.replay import SUCCESS_BONUS
from experiments.camera import Camera, Quality

ACTION_REPEAT = 2
AGENT_STEPS = 100
CAMERA = "corner"
SUFFIX = "-v3"
"""What Meta-World 3 adds to a task's plain name."""


class UnknownTaskError(ValueError):
    """No such task; the message offers the closest names."""


def task_names() -> tuple[str, ...]:
    """The 50 tasks, without version suffix, in alphabetical order."""
    return tuple(sorted(name.removesuffix(SUFFIX) for name in _metaworld().ALL_V3_ENVIRONMENTS))


@functools.cache
def _metaworld():
    # Imported late: MuJoCo fixes its rendering backend when it is imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from metaworld import env_dict
    return env_dict


def check_task(task: str) -> str:
    """Return the name, or raise UnknownTaskError."""
    names = task_names()
    if task in names:
        return task
    close = difflib.get_close_matches(task, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    raise UnknownTaskError(f"unknown task '{task}': {hint}All 50: ivideogpt tasks")


class MetaWorld(gymnasium.Env):
    """One task. Observation: uint8 [resolution, resolution, 3], upright; action: float32 [4], clipped to [-1, 1].

    An agent step is two simulator steps; its reward is their sum, plus 10 if the step succeeded. An episode lasts 100
    agent steps whatever happens. The scene is drawn from the seed given to `reset` alone.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 40}
    action_repeat = ACTION_REPEAT
    episode_agent_steps = AGENT_STEPS
    scripted = True  # collect-demos knows how to solve it
    render_mode = "rgb_array"

    def __init__(self, task: str, render_quality: Quality = "fast", resolution: int = 64):
        self.task = check_task(task)
        self.observation_space = gymnasium.spaces.Box(0, 255, (resolution, resolution, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._simulator = _metaworld().ALL_V3_ENVIRONMENTS[self.task + SUFFIX]()
        simulator = self._simulator
        # Scripted policies need the goal, which pictures and rewards do not depend on. Meta-World caches the bounds it
        # clips observations to, and those of a hidden goal would clip it to zero.
        simulator._partially_observable = False
        del simulator.sawyer_observation_space
        simulator._freeze_rand_vec = False
        simulator.seeded_rand_vec = True
        simulator._set_task_called = True
        self._state = np.zeros(39)
        self._agent_steps = AGENT_STEPS
        self._camera = Camera(simulator.model, CAMERA, resolution, render_quality)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode; without a seed, one is drawn from the environment's own generator."""
        super().reset(seed=seed)
        import mujoco

        simulator = self._simulator
        simulator.seed(int(self.np_random.integers(2**31)))
        mujoco.mj_resetData(simulator.model, simulator.data)
        self._state, _ = simulator.reset()
        self._agent_steps = 0
        return self.render(), {"success": False, "env_steps": 0}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """One agent step. `info`: success (bool), env_steps (simulator steps since reset)."""
        if self._agent_steps >= AGENT_STEPS:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset first")
        action = np.clip(np.asarray(action, np.float64), -1, 1).astype(np.float32)
        total, success = 0.0, False
        for _ in range(ACTION_REPEAT):
            self._state, reward, _, _, info = self._simulator.step(action)
            total += float(reward)
            success = success or bool(info["success"])
        self._agent_steps += 1
        info = {"success": success, "env_steps": self._agent_steps * ACTION_REPEAT}
        return self.render(), total + SUCCESS_BONUS * success, False, self._agent_steps >= AGENT_STEPS, info

    def render(self) -> np.ndarray:
        """The picture of this moment, uint8 [resolution, resolution, 3]."""
        # Meta-World's markers of the target: its own step places them, then loses them again in a forward pass.
        for site in self._simulator._target_site_config:
            self._simulator._set_pos_site(*site)
        return self._camera.picture(self._simulator.data)[::-1].copy()  # the camera is mounted upside down

    def state_vector(self) -> np.ndarray:
        """The simulator's observation with the goal, float64 [39]: what scripted policies read."""
        return self._state

    def simulator_state(self) -> dict[str, np.ndarray]:
        """All that the next step depends on, float64: MuJoCo's integration state and the places a task moves in a reset."""
        import mujoco

        model, data = self._simulator.model, self._simulator.data
        state = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        return {"state": state, "bodies": model.body_pos.copy(), "sites": model.site_pos.copy()}

    def close(self) -> None:
        self._camera.close()
