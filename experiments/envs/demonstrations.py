"""Episodes that no learner played: scripted policies as demonstrations, random actions to evaluate a model."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from agent.episodes import RandomActions, as_episode, as_vector_env, play
from agent.events import Progress
from agent.replay import Episode, EpisodeError, load_episode, save_episode
from experiments.envs.published_episodes import read_episode
from experiments.envs.simulator import Simulator
from experiments.errors import UsageError

TRIES = 10
"""Starts tried for one episode before giving up: some scripted policies fail from some of them."""


def collect(
    env: Simulator, folder: str | os.PathLike, count: int, seed: int, noise: float = 0.0, phase: str = "demonstrations"
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
            episode = scripted_episode(env, _scripted_rng(seed, index, attempt), noise)
            tried += 1
            if episode.success:
                save_episode(path, episode)
                break
            yield Progress(phase, index, count, {"tried": tried})
        else:
            raise UsageError(
                f"the scripted policy of {env.task} failed {TRIES} times in a row at episode {index + 1} of {count}; "
                + (f"lower the noise ({noise:g})" if noise else "try another seed")
            )
        yield Progress(phase, index + 1, count, {"tried": tried})


def _scripted_rng(seed: int, index: int, attempt: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, attempt])


def scripted_scenes(seed: int, index: int) -> list[int]:
    """The seeds of the scenes in which episode `index` of `collect` may have been played: one of each try."""
    return [_scene(_scripted_rng(seed, index, attempt)) for attempt in range(TRIES)]


def scripted_episode(env: Simulator, rng: np.random.Generator, noise: float = 0.0) -> Episode:
    """One episode of the task's scripted policy, successful or not. Raises UsageError where the task has none."""
    policy = env.scripted_policy()
    if policy is None:
        raise UsageError(f"{env.task} has no scripted policy: give recorded episodes instead")
    size = env.action_space.shape[0]

    def choose(observation_hwc: np.ndarray, step: int) -> np.ndarray:
        # Clipped before the noise, which would vanish beside actions that are far out of range; `play` clips after it.
        return np.clip(policy(), -1, 1) + noise * rng.normal(size=size)

    return _play_episode(env, rng, choose)


def collect_random(
    env: Simulator, folder: str | os.PathLike, count: int, seed: int, kind: RandomActions, phase: str
) -> Iterator[Progress]:
    """Write episodes of random actions until the folder holds `count`."""
    for index in range(count):
        path = pathlib.Path(folder) / f"{index:03d}.npz"
        if path.exists():
            load_episode(path)
        else:
            save_episode(path, random_episode(env, np.random.default_rng([seed, index]), kind))
        yield Progress(phase, index + 1, count)


def random_episode(env: Simulator, rng: np.random.Generator, kind: RandomActions) -> Episode:
    """One episode of the task's exploring policy, where it has one, and else of random actions of this kind."""
    explore = env.exploring_policy(rng)
    if explore is not None:
        return _play_episode(env, rng, lambda observation_hwc, step: explore())
    actions = kind.draw(rng, env.episode_agent_steps, env.action_space.shape[0]).repeat(kind.hold_agent_steps, axis=0)
    return _play_episode(env, rng, lambda observation_hwc, step: actions[step])


def _play_episode(env: Simulator, rng: np.random.Generator, choose: Callable[[np.ndarray, int], np.ndarray]) -> Episode:
    scenes = [_scene(rng)]
    *_, (_, (parts,)) = play(as_vector_env(env), scenes, 1, lambda seen, step: np.asarray(choose(seen[0], step))[None])
    return as_episode(parts)


def _scene(rng: np.random.Generator) -> int:
    """The seed that an episode's scene is drawn from."""
    return int(rng.integers(2**31))


def load_folder(folder: str | os.PathLike, env: Simulator | None = None) -> list[Episode]:
    """All episodes of a folder in the order of their names, ours or published ones.

    env: the task that they are for. Raises EpisodeError where there are none, where one is damaged, and where their
    pictures or actions differ in size from the task's, or else from the first one's.
    """
    paths = sorted(pathlib.Path(folder).glob("*.npz"))
    if not paths:
        raise EpisodeError(f"{folder}: no episode files (*.npz) there; ivideogpt collect-demos makes some")
    episodes = [read_episode(path) for path in paths]
    expected, of = _sizes(episodes[0]), paths[0].name
    if env is not None:
        expected, of = (env.observation_space.shape, env.action_space.shape[0]), env.task
    for path, episode in zip(paths, episodes, strict=True):
        pictures, actions = _sizes(episode)
        if (pictures, actions) != expected:
            raise EpisodeError(
                f"{path}: pictures {pictures} and actions of {actions} numbers differ from those of {of}: pictures "
                f"{expected[0]} and actions of {expected[1]}"
            )
    return episodes


def _sizes(episode: Episode) -> tuple[tuple[int, ...], int]:
    return episode.frames.shape[1:], episode.actions.shape[1]
