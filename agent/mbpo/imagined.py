"""Imagined transitions: a capped replay of rollouts, one file each, so that a resumed run holds the same ones."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from agent.replay import EpisodeError, StoredArrays, Transitions, remove_numbered, transition, write_arrays

ARRAYS = {"frames", "actions", "rewards"}
"""Of a rollout batch."""


class ImaginedReplay:
    """The newest `capacity` rollout batches. Frames of a rollout: S real ones (the policy's stack), then F imagined."""

    def __init__(self, folder: str | os.PathLike[str] | None, capacity: int, stack: int, steps: int, discount: float):
        self.folder = None if folder is None else pathlib.Path(folder)
        self.capacity, self.stack, self.steps, self.discount = capacity, stack, steps, discount
        self.rollouts: list[dict[str, np.ndarray]] = []

    def reload(self, count: int) -> None:
        """Take the newest rollouts of the `count` that a checkpoint knows of.

        Raises EpisodeError where one is not there as it was written.
        """
        self.rollouts = []
        for index in range(max(0, count - self.capacity), count):
            rollout = StoredArrays(path := self._path(index))
            if set(rollout) != ARRAYS:
                raise EpisodeError(f"{path}: it holds {', '.join(rollout)}, expected frames, actions and rewards")
            self.rollouts.append(dict(rollout))

    def add(
        self,
        index: int,
        contexts_bshwc: np.ndarray,
        frames_bfhwc: np.ndarray,
        actions_bfa: np.ndarray,
        rewards_bf: np.ndarray,
    ) -> None:
        """Keep rollout batch number `index` (counted from 0) and forget the oldest beyond the capacity."""
        rollout = {
            "frames": np.concatenate([contexts_bshwc, frames_bfhwc], axis=1),
            "actions": actions_bfa,
            "rewards": rewards_bf,
        }
        self.rollouts = [*self.rollouts, rollout][-self.capacity :]
        if self.folder is not None:
            write_arrays(self._path(index), rollout, np.savez)

    def prune(self, count: int) -> None:
        """Remove the files that `reload` does not read for this count or a greater one."""
        if self.folder is not None:
            remove_numbered(self.folder, range(count - self.capacity))

    @property
    def bytes(self) -> int:
        """What the rollouts take in memory."""
        return sum(array.nbytes for rollout in self.rollouts for array in rollout.values())

    def _path(self, index: int) -> pathlib.Path:
        assert self.folder is not None
        return self.folder / f"{index:06d}.npz"

    def transitions(self, rng: np.random.Generator, batch: int) -> Transitions:
        """Draw `batch` n-step transitions; a sum cut short by the horizon bootstraps from the last imagined frame."""
        rows = []
        for pick in rng.integers(len(self.rollouts), size=batch):
            rollout = self.rollouts[int(pick)]
            row, start = (int(rng.integers(n)) for n in rollout["rewards"].shape)
            sequence = (rollout["frames"][row], self.stack - 1, rollout["actions"][row], rollout["rewards"][row])
            rows.append((*transition(*sequence, start, self.stack, self.steps, self.discount), np.float32(0)))
        return Transitions(*(np.stack(column) for column in zip(*rows, strict=True)))
