"""Batches out of a grain dataset: from any batch on, shared by hosts, read by threads and processes."""

from __future__ import annotations

import contextlib
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from experiments.data.packages import need
from experiments.data.recording import DataError
from experiments.runs.preemption import deaf_children, follow_parent

Batch = TypeVar("Batch")


class Stream(Generic[Batch]):
    """An endless iterator over batches.

    `state` and `restore` go into a checkpoint: the state is a number of batches, so it fits any number of hosts,
    threads and processes.
    """

    def __init__(
        self,
        elements: Any,
        make: Callable[..., Batch],
        decided_by: Mapping[str, Any],
        batch: int,
        host: int = 0,
        hosts: int = 1,
        threads: int = 2,
        workers: int = 0,
    ):
        """elements: a grain MapDataset of tuples. make: of their stacked columns. decided_by: all that decides what is
        in a batch, as JSON holds it. batch: elements per batch, over all hosts."""
        if batch % hosts or not 0 <= host < hosts:
            raise DataError(f"a batch of {batch} cannot be shared by {hosts} hosts (this is number {host})")
        self._batches = elements[host::hosts].batch(batch // hosts)
        self._make, self._threads, self._workers = make, threads, workers
        self._fingerprint = zlib.crc32(json.dumps(decided_by).encode())
        self._given, self._iterator = 0, None

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch. Raises DataError where what is read is damaged."""
        try:
            batch = self._begin() if self._iterator is None else next(self._iterator)
        except Exception as error:
            raise _find_cause(error) from error
        self._given += 1
        return self._make(*batch)

    def _begin(self) -> Any:
        """Start what reads, and wait for its first batch."""
        iterator = self._iterator = iter(self._prefetch(self._batches[self._given :]))
        with deaf_children() if self._workers else contextlib.nullcontext():
            return next(iterator)

    def state(self) -> dict[str, Any]:
        """How many batches were given out, and of what; JSON holds it."""
        return {"batches": self._given, "fingerprint": self._fingerprint}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after the batches of a state. Raises DataError where it is that of other data or another config."""
        if state["fingerprint"] != self._fingerprint:
            raise DataError("the data set, the mixture or the loader's settings are not those of the checkpoint")
        self.skip_to(int(state["batches"]))

    def skip_to(self, batch: int) -> None:
        """Give out this one next, counted from 0."""
        self.close()
        self._given = batch

    def close(self) -> None:
        """End the threads and processes; the next batch starts them again."""
        if self._iterator is not None:
            with contextlib.suppress(AttributeError):
                self._iterator.close()
            self._iterator = None

    def _prefetch(self, batches: Any) -> Any:
        grain = need("grain")
        ahead = 2 * max(self._threads, 1)
        read = batches.to_iter_dataset(grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=ahead))
        if not self._workers:
            return read
        from absl import flags

        if not flags.FLAGS.is_parsed():  # the worker processes are given absl's flags
            flags.FLAGS(sys.argv[:1])
        return read.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers), worker_init_fn=follow_parent)


def _find_cause(error: BaseException) -> BaseException:
    """Our own error where grain or a worker wrapped it in one of theirs."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DataError):
            return DataError(str(seen))
        seen = seen.__cause__ or seen.__context__
    return error
