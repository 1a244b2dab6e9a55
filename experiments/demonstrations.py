"""Episodes that no learner played: Meta-World's scripted policies as demonstrations, random actions to judge a model."""

from __future__ import annotations

import os
import pathlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from agent.acting import RandomActions, as_episode, play, side_by_side
from agent.events import Clock, Progress
from agent.replay import Episode, EpisodeError, load_episode, save_episode
from experiments.errors import UsageError
from experiments.metaworld import AGENT_STEPS, SUFFIX, MetaWorld

TRIES = 10
"""Starts tried for one episode before giving up: some scripted policies fail from some of them."""


def collect(
    env: MetaWorld, folder: str | os.PathLike, count: int, seed: int, noise: float = 0.0, phase: str = "demonstrations"
) -> Iterator[Progress]:
    """Write successful scripted episodes `000.npz` ... until the folder holds `count`; yields progress.

    Actions are clipped to [-1, 1] before they are applied and stored. noise: standard deviation of Gaussian noise on
    them. An episode depends on the seed and its place alone: a folder that holds some gets only the missing ones, and
    ends like one that was never stopped. Raises UsageError where the scripted policy fails TRIES times in a row, and
    EpisodeError where a file that is there already is damaged.
    """
    folder = pathlib.Path(folder)
    tried = 0
    for index in range(count):
        path = folder / f"{index:03d}.npz"
        for attempt in range(TRIES):
            if path.exists():
                load_episode(path)
                break
            episode = scripted_episode(env, np.random.default_rng([seed, index, attempt]), noise)
            tried += 1
            if episode.success:
                save_episode(path, episode)
                break
            yield Progress(Clock(), phase, index, count, {"tried": tried})
        else:
            raise UsageError(
                f"the scripted policy of {env.task} failed {TRIES} times in a row at episode {index + 1} of {count}; "
                + (f"lower the noise ({noise:g})" if noise else "try another seed")
            )
        yield Progress(Clock(), phase, index + 1, count, {"tried": tried})


def scripted_episode(env: MetaWorld, rng: np.random.Generator, noise: float = 0.0) -> Episode:
    """One episode of the task's scripted policy, successful or not."""
    from metaworld.policies import ENV_POLICY_MAP

    policy = ENV_POLICY_MAP[env.task + SUFFIX]()

    def choose(observation_hwc: np.ndarray, step: int) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that its actions will be clipped, which they are
            action = policy.get_action(env.state_vector())
        # Clipped before the noise, which would vanish beside actions that are far out of range; `play` clips after it.
        return np.clip(action, -1, 1) + noise * rng.normal(size=4)

    return _played(env, rng, choose)


def collect_random(
    env: MetaWorld, folder: str | os.PathLike, count: int, seed: int, kind: RandomActions, phase: str
) -> Iterator[Progress]:
    """Write episodes of random actions until the folder holds `count`."""
    for index in range(count):
        path = pathlib.Path(folder) / f"{index:03d}.npz"
        if path.exists():
            load_episode(path)
        else:
            save_episode(path, random_episode(env, np.random.default_rng([seed, index]), kind))
        yield Progress(Clock(), phase, index + 1, count)


def random_episode(env: MetaWorld, rng: np.random.Generator, kind: RandomActions) -> Episode:
    """One episode of random actions."""
    actions = kind.draw(rng, AGENT_STEPS, 4).repeat(kind.hold_agent_steps, axis=0)
    return _played(env, rng, lambda observation_hwc, step: actions[step])


def _played(env: MetaWorld, rng: np.random.Generator, choose: Callable[[np.ndarray, int], np.ndarray]) -> Episode:
    seeds = [int(rng.integers(2**31))]
    *_, (_, (parts,)) = play(side_by_side(env), seeds, 1, lambda seen, step: np.asarray(choose(seen[0], step))[None])
    return as_episode(parts)


def load_folder(folder: str | os.PathLike) -> list[Episode]:
    """All episodes of a folder in the order of their names, ours or published ones.

    Raises EpisodeError where there are none, where one is damaged, and where their pictures or actions differ in size.
    """
    paths = sorted(pathlib.Path(folder).glob("*.npz"))
    if not paths:
        raise EpisodeError(f"{folder}: no episode files (*.npz) there; ivideogpt collect-demos makes some")
    episodes = [load_episode(path) for path in paths]
    for path, episode in zip(paths, episodes, strict=True):
        sizes = (episode.frames.shape[1:], episode.actions.shape[1])
        if sizes != (episodes[0].frames.shape[1:], episodes[0].actions.shape[1]):
            raise EpisodeError(
                f"{path}: pictures {sizes[0]} and {sizes[1]} actions differ from those of {paths[0].name}"
            )
    return episodes
