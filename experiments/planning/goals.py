"""Where episodes begin and what is to be seen at their ends."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from experiments.envs.simulator import Simulator
from experiments.errors import UsageError

TRIES = 10
"""Seeds tried for one episode before giving up: some scripted policies fail from some starts."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One episode: a start, and a picture to make come true."""

    number: int
    seed: int
    goal_hwc: np.ndarray  # uint8


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
