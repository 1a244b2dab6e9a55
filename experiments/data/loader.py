"""Batches of segments from a mixture of data sets, through grain: the same ones for a seed on any number of hosts,
threads and processes, from any batch on."""

from __future__ import annotations

import dataclasses
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from agent.replay import Segments
from experiments.data.augment import Augmentation, augment, centre_square
from experiments.data.held_out import refuse_copies
from experiments.data.packages import need
from experiments.data.recording import DataError
from experiments.data.segments import FEWEST_HELD_OUT, VALIDATION_SHARE, Split, cut, holds_out_more, split_of
from experiments.data.store import Store
from experiments.data.stream import Stream


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A data set of a mixture."""

    folder: pathlib.Path
    weight: float = 1.0
    """Its share of the segments, relative to the weights of the others."""
    step: int = 1
    """Frames from one frame of a segment to the next."""
    augmented: bool = True
    """Whether its segments are, where a run augments any."""


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """What batches are made of. threads and workers change how fast they come, nothing else."""

    batch: int
    """Segments per batch, over all hosts."""
    segment_frames: int = 16
    resolution: int = 64
    seed: int = 0
    augmentation: Augmentation | None = Augmentation()
    """None: the middle of the picture, as `centre_square` cuts it."""
    validation_share: float = VALIDATION_SHARE
    trajectories: int | None = None
    """Recordings of each data set that are trained on; None: all."""
    held_out: tuple[str, ...] = ()
    """Recordings of any data set that are not, by name, besides those that the sets name themselves."""
    threads: int = 2
    """Threads that read and decode, in each process. Enough on a small machine."""
    workers: int = 0
    """Processes besides this one, each with its threads. A script that wants some needs `if __name__ == "__main__"`."""


class Loader(Stream[Segments]):
    """An endless iterator over `Segments` of this host: frames [B, T, R, R, 3], actions [B, T, A], rewards [B, T].

    B is `config.batch` by the number of hosts; together the hosts' batches are what one host would get. A is the
    largest action size of the mixture: smaller ones are filled with zeros, as are rewards where a set has none.
    """

    def __init__(
        self, config: LoaderConfig, specs: Sequence[DatasetSpec], split: Split = "train", host: int = 0, hosts: int = 1
    ):
        if not specs or any(spec.weight <= 0 or spec.step < 1 for spec in specs):
            raise DataError("a mixture needs data sets, each with a positive weight and a step of at least 1")
        stores = [Store(spec.folder) for spec in specs]
        for store in stores:
            refuse_copies(store)
        self.action_size = max(store.signals.action_size for store in stores)
        self.segments = _describe_segments(config, specs, stores, split)
        """What decides each segment, as JSON holds it; neither the batch size nor the speed of reading does."""
        elements = _mix(config, specs, stores, split, self.action_size)
        decided_by = {"batch": config.batch} | self.segments
        super().__init__(elements, Segments, decided_by, config.batch, host, hosts, config.threads, config.workers)


@dataclasses.dataclass(frozen=True)
class Draw:
    """One segment of one data set, by its index in a split: the work that threads and processes share."""

    store: Store
    members: np.ndarray
    step: int
    augmentation: Augmentation | None
    action_size: int
    config: LoaderConfig

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        config = self.config
        segment = cut(self.store, int(self.members[index]), config.segment_frames, self.step, rng)
        if self.augmentation is None:
            frames = centre_square(segment.frames, config.resolution)
        else:
            frames = augment(segment.frames, config.resolution, self.augmentation, rng)
        actions = np.pad(segment.actions, ((0, 0), (0, self.action_size - segment.actions.shape[1])))
        rewards = np.zeros(segment.length, np.float32) if segment.rewards is None else segment.rewards
        return frames, actions, rewards


def _mix(
    config: LoaderConfig, specs: Sequence[DatasetSpec], stores: Sequence[Store], split: Split, action_size: int
) -> Any:
    """A grain dataset in which segment k can be asked for directly: random choices depend on the seed and k alone."""
    datasets = need("grain").MapDataset
    drawn = []
    for number, (spec, store) in enumerate(zip(specs, stores, strict=True)):
        indices = split_of(store, split, config.validation_share, config.trajectories, config.held_out)
        if not len(indices):
            raise DataError(f"{spec.folder} has no recordings for {split}: it holds {len(store)}")
        seed = zlib.crc32(f"{config.seed} {number}".encode())
        draw = Draw(store, indices, spec.step, config.augmentation if spec.augmented else None, action_size, config)
        drawn.append(datasets.range(len(indices)).shuffle(seed=seed).repeat().random_map(draw, seed=seed))
    return datasets.mix(drawn, [spec.weight for spec in specs])


def _describe_segments(
    config: LoaderConfig, specs: Sequence[DatasetSpec], stores: Sequence[Store], split: Split
) -> dict[str, Any]:
    settings = dataclasses.asdict(config)
    for unneeded in ("batch", "threads", "workers"):
        del settings[unneeded]
    mixture = [[spec.weight, spec.step, store.fingerprint] for spec, store in zip(specs, stores, strict=True)]
    named = sorted({*settings.pop("held_out"), *(name for store in stores for name in store.held_out)})
    if named:
        settings["held_out"] = named
    if plain := [number for number, spec in enumerate(specs) if not spec.augmented]:
        settings["not_augmented"] = plain
    if any(holds_out_more(len(store), config.validation_share) for store in stores):
        settings["fewest_held_out"] = FEWEST_HELD_OUT  # what an earlier version learned from these is something else
    return settings | {"split": split, "mixture": mixture}
