"""Batches of segments from a mixture of data sets, through grain: the same ones for a seed on any number of hosts,
threads and processes, from any batch on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from agent.replay import Segments
from experiments.data.augment import Augmentation, augment, resize
from experiments.data.packages import need
from experiments.data.recording import DataError
from experiments.data.segments import VALIDATION_SHARE, Split, cut, members
from experiments.data.store import Store


@dataclasses.dataclass(frozen=True)
class Part:
    """A data set of a mixture."""

    folder: pathlib.Path
    weight: float = 1.0
    """Its share of the segments, relative to the other parts'."""
    step: int = 1
    """Frames from one frame of a segment to the next."""


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """What batches are made of. threads and workers change how fast they come, nothing else."""

    batch: int
    """Segments a batch, over all hosts."""
    segment_frames: int = 16
    resolution: int = 64
    seed: int = 0
    augmentation: Augmentation | None = Augmentation()
    """None: the whole picture, resized where it has another size."""
    validation_share: float = VALIDATION_SHARE
    trajectories: int | None = None
    """Recordings of each data set that are trained on; None: all."""
    threads: int = 2
    """Threads that read and decode, in each process. Enough on a small machine."""
    workers: int = 0
    """Processes besides this one; each has its threads. A script that asks for some needs `if __name__ == "__main__":`."""


class Loader:
    """An endless iterator over `Segments` of this host: frames [B, T, R, R, 3], actions [B, T, A], rewards [B, T].

    B is `config.batch` by the number of hosts; together the hosts' batches are what one host would get. A is the largest
    action size of the mixture: smaller ones are filled with zeros, as are rewards where a set has none. `state` and
    `restore` go into a checkpoint: the state is a number of batches, so it fits any number of hosts and workers.
    """

    def __init__(
        self, config: LoaderConfig, parts: Sequence[Part], split: Split = "train", host: int = 0, hosts: int = 1
    ):
        if config.batch % hosts or not 0 <= host < hosts:
            raise DataError(f"a batch of {config.batch} cannot be shared by {hosts} hosts (this is number {host})")
        if not parts or any(part.weight <= 0 or part.step < 1 for part in parts):
            raise DataError("a mixture needs parts, each with a positive weight and a step of at least 1")
        self._config = config
        stores = [Store(part.folder) for part in parts]
        self.action_size = max(store.signals.action_size for store in stores)
        self._batches = _batches(config, parts, stores, split, self.action_size, host, hosts)
        self._fingerprint = _fingerprint(config, parts, stores, split)
        self._given, self._iterator = 0, None

    def __iter__(self) -> Iterator[Segments]:
        return self

    def __next__(self) -> Segments:
        """The next batch. Raises DataError where a recording is damaged."""
        if self._iterator is None:
            self._iterator = iter(_prefetched(self._batches[self._given :], self._config))
        try:
            batch = next(self._iterator)
        except Exception as error:
            raise _cause(error) from error
        self._given += 1
        return Segments(*batch)

    def state(self) -> dict[str, Any]:
        """How many batches were given out, and of what; JSON holds it."""
        return {"batches": self._given, "fingerprint": self._fingerprint}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after the batches of a state. Raises DataError where it is that of other data or another config."""
        if state["fingerprint"] != self._fingerprint:
            raise DataError("the data set, the mixture or the loader's settings are not those of the checkpoint")
        self.close()
        self._given = int(state["batches"])

    def close(self) -> None:
        """End the threads and processes; the next batch starts them again."""
        if self._iterator is not None:
            with contextlib.suppress(AttributeError):
                self._iterator.close()
            self._iterator = None


@dataclasses.dataclass(frozen=True)
class Draw:
    """One segment of one data set, by its place in a split: the work that threads and processes share."""

    store: Store
    members: np.ndarray
    step: int
    action_size: int
    config: LoaderConfig

    def __call__(self, place: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        config = self.config
        segment = cut(self.store, int(self.members[place]), config.segment_frames, self.step, rng)
        if config.augmentation is None:
            frames = resize(segment.frames, config.resolution)
        else:
            frames = augment(segment.frames, config.resolution, config.augmentation, rng)
        actions = np.pad(segment.actions, ((0, 0), (0, self.action_size - segment.actions.shape[1])))
        rewards = np.zeros(segment.length, np.float32) if segment.rewards is None else segment.rewards
        return frames, actions, rewards


def _batches(config, parts, stores, split, action_size, host, hosts):
    """A grain dataset in which batch k can be asked for directly: every random choice depends on seed and place alone."""
    datasets = need("grain").MapDataset
    drawn = []
    for number, (part, store) in enumerate(zip(parts, stores, strict=True)):
        chosen = members(store.names, split, config.validation_share, config.trajectories)
        if not len(chosen):
            raise DataError(f"{part.folder} has no recordings for {split}: it holds {len(store)}")
        seed = zlib.crc32(f"{config.seed} {number}".encode())
        draw = Draw(store, chosen, part.step, action_size, config)
        drawn.append(datasets.range(len(chosen)).shuffle(seed=seed).repeat().random_map(draw, seed=seed))
    mixed = datasets.mix(drawn, [part.weight for part in parts])
    return mixed[host::hosts].batch(config.batch // hosts)


def _prefetched(batches, config: LoaderConfig):
    grain = need("grain")
    ahead = 2 * max(config.threads, 1)
    read = batches.to_iter_dataset(grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=ahead))
    if not config.workers:
        return read
    from absl import flags

    if not flags.FLAGS.is_parsed():  # the worker processes are given absl's flags
        flags.FLAGS(sys.argv[:1])
    return read.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.workers))


def _fingerprint(config, parts, stores, split) -> int:
    """A checksum of all that decides what is in a batch."""
    settings = dataclasses.asdict(config)
    del settings["threads"], settings["workers"]
    mixture = [[part.weight, part.step, store.fingerprint] for part, store in zip(parts, stores, strict=True)]
    return zlib.crc32(json.dumps([settings, mixture, split]).encode())


def _cause(error: BaseException) -> BaseException:
    """Our own error where grain or a worker wrapped it in one of theirs."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DataError):
            return DataError(str(seen))
        seen = seen.__cause__ or seen.__context__
    return error
