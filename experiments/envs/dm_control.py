"""The DeepMind Control Suite as pixels (Tassa et al., 2018; extra `dm-control`), 1000 simulator steps an episode."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from experiments.envs.camera import Camera, Quality
from experiments.envs.mujoco_state import read_fields, read_physics, write_fields, write_physics
from experiments.envs.simulator import PixelSimulator, State, Suite
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


class DmControl(PixelSimulator):
    """One task. Observation: uint8 [resolution, resolution, 3]; action: float32 [A], clipped to [-1, 1].

    An agent step is `action_repeat` steps of the suite; its reward is their sum. An episode's last step succeeds if its
    rewards add up to at least 900 of 1000. The scene is drawn from the seed given to `reset` alone.
    """

    def __init__(self, task: str, render_quality: Quality = "fast", resolution: int = 64):
        names = {f"{PREFIX}{domain}-{name}": (domain, name) for domain, name in _suite().ALL_TASKS}
        if task not in names:
            raise UsageError(f"unknown task '{task}'. All of the suite: ivideogpt tasks --suite dmc")
        self._random = np.random.RandomState(0)
        self._environment = _suite().load(*names[task], task_kwargs={"random": self._random})
        spec, repeat = self._environment.action_spec(), ACTION_REPEATS.get(names[task][0], 2)
        super().__init__(task, spec.shape[0], resolution, repeat, SIMULATOR_STEPS // repeat)
        self._low, self._high = spec.minimum, spec.maximum
        self._return = 0.0
        self._camera = Camera(self._environment.physics.model.ptr, 0, resolution, render_quality)

    def _begin(self, seed: int) -> None:
        self._random.seed(seed)
        self._environment.reset()
        self._return = 0.0

    def _advance(self, action: np.ndarray, last: bool) -> tuple[float, bool]:
        share = (action.astype(np.float64) + 1) / 2
        scaled = self._low + share * (self._high - self._low)
        reward = sum(float(self._environment.step(scaled).reward) for _ in range(self.action_repeat))
        self._return += reward
        return reward, last and self._return >= SOLVED

    def render(self) -> np.ndarray:
        """The picture of this moment, uint8 [resolution, resolution, 3]."""
        return self._camera.picture(self._environment.physics.data.ptr)

    def _pointers(self) -> tuple[Any, Any]:
        physics = self._environment.physics
        return physics.model.ptr, physics.data.ptr

    def simulator_state(self) -> dict[str, np.ndarray]:
        """MuJoCo's integration state, float64, and the positions that a task moves in a reset."""
        physics = read_physics(*self._pointers(), "body_pos", "geom_pos")
        return {"state": physics["state"], "bodies": physics["body_pos"], "geoms": physics["geom_pos"]}

    def save_state(self) -> State:
        """See Simulator."""
        return {
            "physics": read_physics(*self._pointers(), "body_pos", "geom_pos"),
            "task": read_fields(self._environment.task),
            "environment": read_fields(self._environment),
            "random": self._random.get_state(),
            "return": self._return,
            "agent_steps": self._agent_steps,
        }

    def restore_state(self, state: State) -> None:
        """See Simulator."""
        write_physics(*self._pointers(), state["physics"])
        write_fields(self._environment.task, state["task"])
        write_fields(self._environment, state["environment"])
        self._random.set_state(state["random"])
        self._return, self._agent_steps = state["return"], state["agent_steps"]

    def close(self) -> None:
        self._camera.close()


PROTOCOL = {"benchmark": "DeepMind Control Suite", "reward": "summed over the action repeat"}
SUITE = Suite("dmc", PREFIX, DmControl, task_names, PROTOCOL)
