"""Imagined transitions: a capped replay of rollouts, one file each, so that a resumed run holds the same ones."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from agent.replay import EpisodeError, StoredArrays, Transitions, remove_numbered, transition, write_arrays

ARRAYS = ("frames", "actions", "rewards")
"""Of a rollout batch."""


class ImaginedReplay:
    """The newest `capacity` rollout batches. Frames of a rollout: S real ones (the policy's stack), then F imagined."""

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        capacity: int,
        stack: int,
        steps: int,
        discount: float,
        entropy_scale: float = 0.0,
        td_lambda: float | None = None,
    ):
        """entropy_scale: of `weights_of`; 0 keeps no entropies and weighs nothing. td_lambda: see `_steps`."""
        self.folder = None if folder is None else pathlib.Path(folder)
        self.capacity, self.stack, self.steps, self.discount = capacity, stack, steps, discount
        self.entropy_scale, self.td_lambda = entropy_scale, td_lambda
        self.arrays = (*ARRAYS, "entropies") if entropy_scale else ARRAYS
        self.rollouts: list[dict[str, np.ndarray]] = []

    def reload(self, count: int) -> None:
        """Take the newest rollouts of the `count` that a checkpoint knows of.

        Raises EpisodeError where one is not there as it was written.
        """
        self.rollouts = []
        for index in range(max(0, count - self.capacity), count):
            rollout = StoredArrays(path := self._path(index))
            if set(rollout) != set(self.arrays):
                *first, last = self.arrays
                raise EpisodeError(f"{path}: it holds {', '.join(rollout)}, expected {', '.join(first)} and {last}")
            self.rollouts.append(dict(rollout))

    def add(
        self,
        index: int,
        contexts_bshwc: np.ndarray,
        frames_bfhwc: np.ndarray,
        actions_bfa: np.ndarray,
        rewards_bf: np.ndarray,
        entropies_bf: np.ndarray | None = None,
    ) -> None:
        """Keep rollout batch number `index` (counted from 0) and forget the oldest beyond the capacity."""
        rollout = {
            "frames": np.concatenate([contexts_bshwc, frames_bfhwc], axis=1),
            "actions": actions_bfa,
            "rewards": rewards_bf,
        }
        if self.entropy_scale:
            assert entropies_bf is not None, "weights need the entropies of a model"
            rollout["entropies"] = entropies_bf
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
            steps = self._steps(rng, len(rollout["rewards"][row]) - start)
            parts = (*transition(*sequence, start, self.stack, steps, self.discount), np.float32(0))
            if self.entropy_scale:
                parts += (weights_of(rollout["entropies"][row], self.entropy_scale)[start + steps - 1],)
            rows.append(parts)
        return Transitions(*(np.stack(column) for column in zip(*rows, strict=True)))

    def _steps(self, rng: np.random.Generator, left: int) -> int:
        """How many of the `left` steps to the horizon a return sums before it bootstraps.

        With td_lambda a number drawn with probability (1 - lambda) lambda^(n - 1), what is beyond the horizon at the
        horizon: the mean of such targets, to which a squared error pulls a critic, is the lambda-return, and each costs
        one value of the target critics in place of one for every imagined frame.
        """
        if self.td_lambda is None:
            return min(self.steps, left)
        return left if self.td_lambda == 1 else min(int(rng.geometric(1 - self.td_lambda)), left)


def weights_of(entropies_f: np.ndarray, scale: float) -> np.ndarray:
    """Weights float32 [F] in (0, 1] of transitions that end at each frame of a rollout.

    exp(-scale * the nats per token of all frames so far): uncertainty adds up over a rollout, since each frame is
    imagined from those before. A real transition weighs 1, so that a model that knows nothing is not learned from.
    """
    return np.exp(-scale * np.cumsum(entropies_f)).astype(np.float32)
