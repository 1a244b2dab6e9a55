"""Sequences of steps as DreamerV3 draws them: from all episodes of a replay as one stream, across their borders."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from agent.replay import Replay, rewards_of_arriving

NOWHERE = -1
"""Stands for no row."""


class Sequences(NamedTuple):
    """A batch of sequences of T agent steps; the first six fields as in `objective.SequenceBatch`."""

    frames_bthwc: np.ndarray  # uint8
    actions_bta: np.ndarray  # float32
    rewards_bt: np.ndarray  # float32
    first_bt: np.ndarray  # bool
    last_bt: np.ndarray  # bool
    terminal_bt: np.ndarray  # bool: nowhere, since these episodes end by time
    before_b: np.ndarray  # int32: row of the latents of the step before each sequence, or NOWHERE
    rows_bt: np.ndarray  # int32: rows of its own steps; a row that comes twice keeps its last place, others are NOWHERE


@dataclasses.dataclass(frozen=True)
class Rows:
    """Where the latents of an episode's steps are kept: one slot of rows per episode; the oldest's is used again."""

    demonstrations: int
    capacity: int  # episodes besides those
    frames: int  # of the longest episode

    @property
    def count(self) -> int:
        return (self.demonstrations + self.capacity) * self.frames

    def of_episode(self, number: int) -> int:
        """The first row of the episode that was added to the replay as that number."""
        own = number - self.demonstrations
        return (number if own < 0 else self.demonstrations + own % self.capacity) * self.frames


def steps_in(replay: Replay) -> int:
    """Steps in the stream: every frame of every episode is one."""
    return sum(len(episode.frames) for episode in replay.episodes)


def draw(replay: Replay, rows: Rows, rng: np.random.Generator, batch: int, length: int) -> Sequences:
    """Sequences from a replay of at least `length` steps, every start in the stream equally likely."""
    ends = np.cumsum([len(episode.frames) for episode in replay.episodes])
    starts = rng.integers(ends[-1] - length + 1, size=batch)
    places_bt = starts[:, None] + np.arange(-1, length)  # the step before is needed for its latents alone
    episodes_bt = np.searchsorted(ends, np.maximum(places_bt, 0), side="right")
    steps_bt = places_bt - (ends[episodes_bt] - _lengths(ends)[episodes_bt])
    first_rows = np.array([rows.of_episode(number) for number in _numbers(replay)])
    rows_bt = np.where(places_bt < 0, NOWHERE, first_rows[episodes_bt] + steps_bt).astype(np.int32)
    columns = [_row(replay, *places) for places in zip(episodes_bt[:, 1:], steps_bt[:, 1:], strict=True)]
    frames, actions, rewards, first, last = (np.stack(column) for column in zip(*columns, strict=True))
    return Sequences(
        frames, actions, rewards, first, last, np.zeros_like(last), rows_bt[:, 0], _last_places(rows_bt[:, 1:])
    )


def _lengths(ends: np.ndarray) -> np.ndarray:
    return np.diff(ends, prepend=0)


def _numbers(replay: Replay) -> list[int]:
    """The number under which each episode held was added."""
    own = len(replay.episodes) - replay.demonstrations
    return [*range(replay.demonstrations), *range(replay.added - own, replay.added)]


def _row(replay: Replay, episodes_t: np.ndarray, steps_t: np.ndarray) -> tuple[np.ndarray, ...]:
    """Frames, actions and rewards of arriving at them (zero where an episode starts), first, last; [T, ...] each."""
    parts = []
    for index in dict.fromkeys(episodes_t.tolist()):
        episode, steps = replay.episodes[index], steps_t[episodes_t == index]
        first, arrived = steps == 0, np.maximum(steps - 1, 0)
        actions = np.where(first[:, None], np.float32(0), episode.actions[arrived])
        rewards = rewards_of_arriving(episode.rewards)[steps]
        parts.append((episode.frames[steps], actions, rewards, first, steps == episode.length))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _last_places(rows_bt: np.ndarray) -> np.ndarray:
    """NOWHERE instead of every row that comes again later, so that the order of writing does not matter."""
    flat = rows_bt.ravel()[::-1]
    kept = np.full_like(flat, NOWHERE)
    _, places = np.unique(flat, return_index=True)
    kept[places] = flat[places]
    return kept[::-1].reshape(rows_bt.shape)
