"""Segments of recordings, and which recordings a split holds (paper section 4.1)."""

from __future__ import annotations

import zlib
from collections.abc import Collection
from typing import Literal

import numpy as np

from experiments.data import held_out as lists
from experiments.data.recording import Recording
from experiments.data.store import Store

Split = Literal["train", "validation"]
VALIDATION_SHARE = 0.01
FEWEST_HELD_OUT = 2
"""Recordings: a future is compared with that under another one's actions."""


def split_of(
    store: Store,
    split: Split,
    share: float = VALIDATION_SHARE,
    trajectories: int | None = None,
    held_out: Collection[str] = (),
) -> np.ndarray:
    """`members` of a data set: what it says itself is held out, and what `held_out` names besides."""
    return members(store.names, split, share, trajectories, {*store.held_out, *held_out})


def members(
    names: list[str],
    split: Split,
    share: float = VALIDATION_SHARE,
    trajectories: int | None = None,
    held_out: Collection[str] = (),
) -> np.ndarray:
    """Indices of the recordings of a split, ascending, int64; of those to train on, so many if `trajectories` says so.

    held_out: names, as `held_out.find` compares them; where some recordings have one, these are for validation and all
    others to learn from. Else the `share` of them with the lowest checksum of their names is for validation, at least
    FEWEST_HELD_OUT where that leaves one to learn from: so it does not depend on their order, on a seed or on the rest
    of a mixture. Fewer trajectories are among the more.
    """
    ranked = np.argsort([zlib.crc32(name.encode()) for name in names], kind="stable")
    if named := lists.find(names, held_out):
        is_held = np.array([name in named for name in names])[ranked]
        return np.sort(ranked[is_held] if split == "validation" else ranked[~is_held][:trajectories])
    held = min(max(round(len(names) * share), FEWEST_HELD_OUT), len(names) - 1) if share > 0 else 0
    return np.sort(ranked[:held] if split == "validation" else ranked[held:][:trajectories])


def holds_out_more(count: int, share: float) -> bool:
    """Whether FEWEST_HELD_OUT is more than the share of so many recordings, or the one that earlier versions held."""
    return share > 0 and count > FEWEST_HELD_OUT > round(count * share)


def pick_frames(length: int, frames: int, step: int, rng: np.random.Generator) -> np.ndarray:
    """Which frames of a recording a segment takes, int64 [frames], from a start drawn evenly.

    In a recording that is too short the step shrinks; where even step 1 does not fit, the last frame repeats, as in the
    published code.
    """
    step = min(step, max((length - 1) // max(frames - 1, 1), 1))
    start = rng.integers(max(length - (frames - 1) * step, 1))
    return np.minimum(start + step * np.arange(frames), length - 1)


def cut(store: Store, index: int, frames: int, step: int, rng: np.random.Generator) -> Recording:
    """A random segment of recording `index`, `frames` long, as `take_frames` takes it."""
    taken = pick_frames(int(store.lengths[index]), frames, step, rng)
    first = int(taken[0])
    return take_frames(store.read(index, np.arange(first, taken[-1] + 1)), taken - first)


def every_nth(recording: Recording, step: int) -> Recording:
    """Every step-th frame of a recording, as `take_frames` takes them."""
    return recording if step == 1 else take_frames(recording, np.arange(0, recording.length, step))


def take_frames(recording: Recording, taken: np.ndarray) -> Recording:
    """Some frames of a recording, ascending, the first one being 0.

    An action is that of its own frame (the first of `step`); a reward is the sum of those since the frame before. Where
    the last frame repeats, so does its action, as in the published code, and nothing is earned.
    """
    chosen = recording.take(taken)
    if recording.rewards is None:
        return chosen
    sums = np.diff(np.cumsum(recording.rewards, dtype=np.float64)[taken], prepend=0)
    return Recording(chosen.frames, chosen.actions, sums.astype(np.float32))
