"""Episodes of a task, played when they are asked for: scripted, scripted with noise, and random."""

from __future__ import annotations

import dataclasses
import functools
import zlib

import numpy as np

from agent.episodes import RandomActions
from experiments.data.converters.source import EpisodeRef, Source
from experiments.data.recording import DataError, Recording, of_episode
from experiments.envs.demonstrations import TRIES, random_episode, scripted_episode
from experiments.envs.simulator import Simulator
from tokenizer.limits import require_at_least


@dataclasses.dataclass(frozen=True)
class Collection:
    """What is played of each task. An episode depends on the seed, the task, its kind and its number alone."""

    scripted: int = 10
    """Episodes in which the scripted policy succeeds. A task without one has neither these nor noisy ones."""
    noisy: int = 10
    """Episodes of the scripted policy with noise on its actions, successful or not."""
    random: int = 10
    """Episodes of random actions, each held for five agent steps."""
    noise: float = 0.5
    """Standard deviation of that noise; actions are in [-1, 1]."""
    seed: int = 0

    def __post_init__(self):
        require_at_least(0, self, "scripted", "noisy", "random", "noise", "seed")

    @property
    def episodes(self) -> int:
        return self.scripted + self.noisy + self.random


RANDOM = RandomActions(hold_agent_steps=5, reach=2.0)


def select_playable(env: Simulator, collection: Collection) -> Collection:
    """What of a collection a task can have: without a scripted policy, episodes of random actions alone."""
    return collection if env.scripted_policy() is not None else dataclasses.replace(collection, scripted=0, noisy=0)


def play_episodes(env: Simulator, collection: Collection) -> Source:
    """All of one task: the kinds by turns, so that whatever part of a data set is taken has some of each."""
    collection = select_playable(env, collection)
    kinds = {"scripted": collection.scripted, "noisy": collection.noisy, "random": collection.random}
    numbered = [(number, kind) for kind, count in kinds.items() for number in range(count)]
    episodes = [
        EpisodeRef(f"{env.task}-{kind}-{number:04d}", functools.partial(_play, env, collection, kind, number))
        for number, kind in sorted(numbered)
    ]
    return Source(len(episodes), episodes)


def _play(env: Simulator, collection: Collection, kind: str, number: int) -> Recording:
    """Raises DataError where the scripted policy fails TRIES times."""
    seed = [collection.seed, zlib.crc32(f"{env.task} {kind}".encode()), number]
    if kind == "random":
        return of_episode(random_episode(env, np.random.default_rng(seed), RANDOM))
    for attempt in range(TRIES):
        rng = np.random.default_rng([*seed, attempt])
        episode = scripted_episode(env, rng, collection.noise if kind == "noisy" else 0.0)
        if episode.success or kind == "noisy":
            return of_episode(episode)
    raise DataError(f"the scripted policy of {env.task} failed {TRIES} times in a row")
