"""PushT (package gym-pusht, extra `plan`): a disc pushes a T on a table, seen from above."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from experiments.envs.camera import Quality
from experiments.envs.simulator import PixelSimulator, State, Suite
from experiments.errors import UsageError

TASK = "pusht"
EPISODE_AGENT_STEPS = 300
"""As gym-pusht registers it; each is a tenth of a second."""
REACH = 100.0
"""Of an action, in pixels of a table of 512: as stable-worldmodel's actions are, relative to where the disc is."""
TABLE = 512.0
NEAR, TURNED = 20.0, np.pi / 9
"""Success at a goal: disc and T together nearer than so many pixels, T turned by less. As stable-worldmodel has it."""

INSTALL = "pip install -e '.[plan]'"


@functools.cache
def _package():
    try:
        return importlib.import_module("gym_pusht.envs").PushTEnv
    except ImportError as error:
        raise UsageError(f"task '{TASK}' needs gym-pusht: {INSTALL} ({error})") from error


class PushT(PixelSimulator):
    """One table. Observation: uint8 [resolution, resolution, 3]; action: float32 [2] in [-1, 1], where the disc is to
    go, in 100 pixels from where it is, at most to the edge.

    The reward is how much of the green T is covered, 1 from 95% on, where a step succeeds. Where there is a goal
    (`set_goal`), a step succeeds near it instead. gym-pusht's own actions are absolute, and it draws the last one into
    the picture; here neither is so.

    What follows is a function of ten numbers, which `save_state` holds: each agent step begins in a new physical space
    set to them, since the one before remembers forces of contact that cannot be read or set.
    """

    def __init__(self, task: str, render_quality: Quality = "fast", resolution: int = 64):
        """render_quality: there is one alone. Raises UsageError where the task's name or the package is not known."""
        if task != TASK:
            raise UsageError(f"unknown task '{task}': the only one of its suite is {TASK}")
        self._environment = _package()(obs_type="state")
        super().__init__(task, 2, resolution, action_repeat=1, episode_agent_steps=EPISODE_AGENT_STEPS)
        self._resolution, self._goal = resolution, None
        self._begin(0)

    def _begin(self, seed: int) -> None:
        self._environment.reset(seed=seed)
        self._goal = None
        self._write(self._read())

    def _advance(self, action: np.ndarray, last: bool) -> tuple[float, bool]:
        disc = np.array(self._environment.agent.position)
        target = np.clip(disc + REACH * action.astype(np.float64), 0, TABLE)
        _, reward, covered, _, _ = self._environment.step(target)
        self._write(self._read())
        success = covered if self._goal is None else is_near(self._bodies, self._goal)
        # gym-pusht sums areas in the order of a set, which addresses in memory decide: the last digits are chance.
        return round(float(reward), 6), bool(success)

    def set_goal(self, state: State) -> None:
        """Until the next reset, a step succeeds where disc and T are near those of this state, a saved one."""
        self._goal = state["bodies"].copy()

    def exploring_policy(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """Random targets about the T, as stable-worldmodel collects data: it pushes, and solves nothing."""

        def act() -> np.ndarray:
            disc, block = (np.array(body.position) for body in (self._environment.agent, self._environment.block))
            target = disc + REACH * rng.uniform(-1, 1, 2)
            return (np.clip(target, block - REACH, block + REACH) - disc) / REACH

        return act

    def render(self) -> np.ndarray:
        """The picture of this moment, uint8 [resolution, resolution, 3]."""
        picture = importlib.import_module("pygame").surfarray.array3d(self._environment._draw()).swapaxes(0, 1)
        return np.asarray(Image.fromarray(picture).resize((self._resolution, self._resolution), Image.Resampling.BOX))

    def simulator_state(self) -> dict[str, np.ndarray]:
        """Position and velocity of the disc; angle, position, velocity and turning rate of the T: float64 [10]."""
        return {"bodies": self._bodies.copy()}

    def save_state(self) -> State:
        """See Simulator."""
        return {**self.simulator_state(), "goal": self._goal, "agent_steps": self._agent_steps}

    def restore_state(self, state: State) -> None:
        """See Simulator."""
        self._goal, self._agent_steps = state["goal"], state["agent_steps"]
        self._write(state["bodies"])

    def _read(self) -> np.ndarray:
        disc, block = self._environment.agent, self._environment.block
        return np.array(
            [*disc.position, *disc.velocity, block.angle, *block.position, *block.velocity, block.angular_velocity]
        )

    def _write(self, bodies: np.ndarray) -> None:
        """A new space with these bodies in it. They are kept: read back, they could differ in the last bit."""
        self._bodies = bodies
        environment: Any = self._environment
        environment._setup()
        disc, block, values = environment.agent, environment.block, bodies.tolist()
        disc.position, disc.velocity = values[:2], values[2:4]
        block.angle = values[4]  # turns about the centre of mass, which moves the T: its position comes after
        block.position, block.velocity, block.angular_velocity = values[5:7], values[7:9], values[9]
        for body in (disc, block):
            environment.space.reindex_shapes_for_body(body)

    def close(self) -> None:
        self._environment.close()


def is_near(bodies: np.ndarray, goal: np.ndarray) -> bool:
    """Whether disc and T of one state [10] are where they are in another."""
    moved = np.linalg.norm((bodies - goal)[[0, 1, 5, 6]])
    turned = abs(bodies[4] - goal[4]) % (2 * np.pi)
    return bool(moved < NEAR and min(turned, 2 * np.pi - turned) < TURNED)


PROTOCOL = {"benchmark": "PushT", "reward": "share of the target that is covered"}
SUITE = Suite("pusht", TASK, PushT, lambda: (TASK,), PROTOCOL)
