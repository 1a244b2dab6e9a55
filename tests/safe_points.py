"""The law of resuming, for a loop of any algorithm: every border leads to the same end."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np

from agent.events import Finished, SafePoint
from agent.loop import Loop, Snapshot
from agent.replay import remove_numbered


class Dot(gymnasium.Env):
    """Five agent steps of random pictures; the reward is the first action."""

    action_repeat = 2
    episode_agent_steps = 5

    def __init__(self, side: int = 64):
        self.side = side
        self.observation_space = gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.episode_agent_steps
        return self.render(), {}

    def step(self, action):
        reward, success, over = self.advance(action)
        return self.render(), reward, False, over, {"success": success}

    def advance(self, action):
        self.left -= 1
        return float(action[0]), False, self.left == 0

    def simulator_state(self):
        return {"left": self.left}

    def save_state(self):
        return self.left, self.np_random.bit_generator.state

    def restore_state(self, state):
        self.left, self.np_random.bit_generator.state = state

    def render(self):
        return self.np_random.integers(256, size=(self.side, self.side, 3), dtype=np.uint8)


def kept(snapshot: Snapshot) -> Snapshot:
    """What a checkpoint would hold: the loop donates its arrays."""
    return Snapshot(jax.tree.map(np.array, snapshot.arrays), dict(snapshot.counts))


def on_device(snapshot: Snapshot) -> Snapshot:
    return Snapshot(jax.tree.map(jax.numpy.asarray, snapshot.arrays), snapshot.counts)


def end_of(run: Loop) -> dict[str, Any]:
    (finished,) = (event for event in run.events() if isinstance(event, Finished))
    return jax.tree.map(np.array, finished.restorable)


def whole_run(run: Loop) -> tuple[list[tuple[Snapshot, type]], dict[str, Any]]:
    """What a checkpoint at each of its borders would hold, with the border's kind; and its end."""
    borders, finished = [], {}
    for event in run.events():
        if isinstance(event, SafePoint):
            borders.append((kept(event.state), type(event)))
        if isinstance(event, Finished):
            finished = jax.tree.map(np.array, event.restorable)
    return borders, finished


def check_that_all_lead_to(
    end: dict[str, Any], states: list[Snapshot], make: Callable[[pathlib.Path], Loop], whole: pathlib.Path
) -> None:
    """Go on from each state, where the files of a run that came to that end lie in `whole`."""
    for index, state in enumerate(states):
        folder = shutil.copytree(whole, whole.with_name(f"from {index}"))
        if index % 2:  # no process got further: the episodes are played again, not taken from disk
            remove_numbered(folder / "real", range(state.counts["episodes"], 100))
        again = make(folder)
        again.restore(on_device(state))
        jax.tree.map(np.testing.assert_array_equal, end_of(again), end)
