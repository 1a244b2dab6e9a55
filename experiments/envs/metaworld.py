"""Meta-World as pixels, by the paper's protocol (section 4.2): `corner` camera, action repeat 2, 100 agent steps."""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.envs.camera import Camera, Quality
from experiments.envs.mujoco_state import bindings, read_fields, read_physics, write_fields, write_physics
from experiments.envs.simulator import PixelSimulator, State, Suite
from experiments.errors import UserError

ACTION_REPEAT = 2
AGENT_STEPS = 100
SUCCESS_BONUS = 10.0
"""Added to the reward of an agent step that succeeded (paper appendix on Meta-World)."""
CAMERA = "corner"
SUFFIX = "-v3"
"""What Meta-World 3 adds to a task's plain name."""


class UnknownTaskError(UserError, ValueError):
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
    hint = f"did you mean {', '.join(close)}? " if close else "none is called like that. "
    raise UnknownTaskError(f"unknown task '{task}': {hint}All 50: ivideogpt tasks")


class MetaWorld(PixelSimulator):
    """One task. Observation: uint8 [resolution, resolution, 3], upright; action: float32 [4], clipped to [-1, 1].

    An agent step is two simulator steps; its reward is their sum, plus 10 if the step succeeded. An episode lasts 100
    agent steps whatever happens. The scene is drawn from the seed given to `reset` alone.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 40}  # noqa: RUF012

    def __init__(self, task: str, render_quality: Quality = "fast", resolution: int = 64):
        super().__init__(check_task(task), 4, resolution, ACTION_REPEAT, AGENT_STEPS)
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
        self._camera = Camera(simulator.model, CAMERA, resolution, render_quality)

    def _begin(self, seed: int) -> None:
        simulator = self._simulator
        simulator.seed(seed)
        bindings().mj_resetData(simulator.model, simulator.data)
        self._state, _ = simulator.reset()

    def _advance(self, action: np.ndarray, last: bool) -> tuple[float, bool]:
        total, success = 0.0, False
        for _ in range(ACTION_REPEAT):
            self._state, reward, _, _, info = self._simulator.step(action)
            total += float(reward)
            success = success or bool(info["success"])
        return total + SUCCESS_BONUS * success, success

    def render(self) -> np.ndarray:
        """The picture of this moment, uint8 [resolution, resolution, 3]."""
        # Meta-World's markers of the target: its own step places them, then loses them again in a forward pass.
        for site in self._simulator._target_site_config:
            self._simulator._set_pos_site(*site)
        return self._camera.picture(self._simulator.data)[::-1].copy()  # the camera is mounted upside down

    def state_vector(self) -> np.ndarray:
        """The simulator's observation with the goal, float64 [39]: what scripted policies read."""
        return self._state

    def scripted_policy(self) -> Callable[[], np.ndarray]:
        """Meta-World's own policy for the task."""
        from metaworld.policies import ENV_POLICY_MAP

        policy = ENV_POLICY_MAP[self.task + SUFFIX]()

        def act() -> np.ndarray:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns that its actions will be clipped, which they are
                return policy.get_action(self._state)

        return act

    def simulator_state(self) -> dict[str, np.ndarray]:
        """MuJoCo's integration state, float64, and the positions that a task moves in a reset."""
        physics = read_physics(self._simulator.model, self._simulator.data, "body_pos", "site_pos")
        return {"state": physics["state"], "bodies": physics["body_pos"], "sites": physics["site_pos"]}

    def save_state(self) -> State:
        """See Simulator."""
        simulator = self._simulator
        return {
            "physics": read_physics(simulator.model, simulator.data, "body_pos", "site_pos"),
            "fields": read_fields(simulator),
            "observation": self._state.copy(),
            "agent_steps": self._agent_steps,
        }

    def restore_state(self, state: State) -> None:
        """See Simulator."""
        write_physics(self._simulator.model, self._simulator.data, state["physics"])
        write_fields(self._simulator, state["fields"])
        self._state, self._agent_steps = state["observation"].copy(), state["agent_steps"]

    def close(self) -> None:
        self._camera.close()


PROTOCOL = {
    "benchmark": "Meta-World v3",
    "camera": CAMERA,
    "reward": f"summed over {ACTION_REPEAT} steps, + {SUCCESS_BONUS:.0f} on success",
}
SUITE = Suite("metaworld", "", MetaWorld, task_names, PROTOCOL)
