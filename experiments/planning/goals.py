"""Where episodes begin and what is to be seen at their ends."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.envs.simulator import Simulator, State
from experiments.errors import UsageError

TRIES = 10
"""Seeds tried for one episode before giving up: some scripted policies fail from some starts."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One episode: a start, and a picture to make come true."""

    number: int
    seed: int
    goal_hwc: np.ndarray  # uint8
    start: State | None = None
    """Where the episode begins, and what it is to reach; None: where the seed puts it, and what the task is about."""

    def begin(self, env: Simulator) -> np.ndarray:
        """Set the simulator to the start; its picture."""
        frame, _ = env.reset(seed=self.seed)
        if self.start is None:
            return frame
        env.restore_state(self.start)
        return env.render()


def expert_tasks(env: Simulator, episodes: int, seed: int) -> Iterator[Task]:
    """The last picture of the scripted policy's episode from the same start, of starts from which it succeeds.

    Raises UsageError where the task has no such policy, or where it keeps failing.
    """
    for number in range(episodes):
        for attempt in range(TRIES):
            start = int(np.random.default_rng([seed, number, attempt]).integers(2**31))
            goal = _last_picture(env, start)
            if goal is not None:
                yield Task(number, start, goal)
                break
        else:
            raise UsageError(f"the scripted policy of {env.task} failed {TRIES} times in a row: give a picture as goal")


def recorded_tasks(env: Simulator, episodes: int, seed: int, ahead: int, agent_steps: int) -> Iterator[Task]:
    """A moment of an episode of the exploring policy, and what that came to `ahead` agent steps later.

    Moments are drawn so that `agent_steps` can follow. Raises UsageError where the task has no such policy, or does not
    know when a state is reached.
    """
    last = env.episode_agent_steps - max(ahead, agent_steps)
    if last < 0:
        raise UsageError(
            f"an episode of {env.task} has {env.episode_agent_steps} agent steps: no goal is {ahead} ahead in it"
        )
    for number in range(episodes):
        rng = np.random.default_rng([seed, number])
        start = int(rng.integers(2**31))
        env.reset(seed=start)
        explore = env.exploring_policy(rng)
        if explore is None:
            raise UsageError(f"{env.task} has no exploring policy, whose episodes would give goals: --goal expert")
        for _ in range(int(rng.integers(last + 1))):
            env.advance(explore())
        moment = env.save_state()
        for _ in range(ahead):
            env.advance(explore())
        goal, goal_hwc = env.save_state(), env.render()
        env.restore_state(moment)
        env.set_goal(goal)
        yield Task(number, start, goal_hwc, env.save_state())


def picture_tasks(path: pathlib.Path, resolution: int, episodes: int, seed: int) -> Iterator[Task]:
    """The same picture for every start. Raises UsageError where it is none, or none of the simulator's size."""
    try:
        goal = np.asarray(Image.open(path).convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise UsageError(f"{path} is no picture ({error}): give a PNG, or 'expert'") from error
    if goal.shape[:2] != (resolution, resolution):
        raise UsageError(
            f"{path} is {goal.shape[1]} x {goal.shape[0]} pixels, the task's pictures are {resolution} x {resolution}"
        )
    for number in range(episodes):
        yield Task(number, int(np.random.default_rng([seed, number]).integers(2**31)), goal)


def _last_picture(env: Simulator, seed: int) -> np.ndarray | None:
    """What is seen after the scripted policy's episode; None where it did not succeed."""
    env.reset(seed=seed)
    policy, succeeded, over = env.scripted_policy(), False, False
    if policy is None:
        raise UsageError(f"{env.task} has no scripted policy: give a picture as goal (--goal FILE)")
    while not over:
        _, success, over = env.advance(policy())
        succeeded = succeeded or success
    return env.render() if succeeded else None
