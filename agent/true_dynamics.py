"""What really follows a state of a simulator: the bound of everything that a model could know.

Asked by MBPO, one step of a policy after the other, and by planners, a whole candidate at a time.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from agent.episodes import Settable


class Followed(NamedTuple):
    """F steps after a state."""

    state: Any  # of the last one
    frames_khwc: np.ndarray  # uint8 [K, H, W, 3]: of the steps that were to be seen
    rewards_f: np.ndarray  # float32 [F]


class TrueDynamics:
    """A simulator of its own, set to a state and played from there. Where it stands in between means nothing."""

    def __init__(self, simulator: Settable):
        self.simulator = simulator

    def follow(self, state: Any, actions_fa: np.ndarray, seen: Collection[int]) -> Followed:
        """Play actions [F, A] from a state; `seen`: which steps, from 1, are drawn, since drawing is what takes time.

        The episode's end stays as it is: what is played after it changes nothing and earns nothing.
        """
        simulator, over = self.simulator, False
        simulator.restore_state(state)
        frames: list[np.ndarray] = []
        rewards = np.zeros(len(actions_fa), np.float32)
        for index, action in enumerate(actions_fa):
            if not over:
                rewards[index], _, over = simulator.advance(action)
            if index + 1 in seen:
                frames.append(simulator.render())
        return Followed(simulator.save_state(), np.stack(frames), rewards)
