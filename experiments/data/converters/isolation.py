"""Reading in a process of its own: on some damaged files the HDF5 library never comes back, or ends its process."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pathlib
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from experiments.data.recording import DataError
from experiments.runs.preemption import deaf_children, follow_parent

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long a read may compute before its file counts as damaged; waiting for a disk or a network is not counted."""

    seconds: float = 3
    bytes_per_second: float = 10e6
    """The slowest rate, of the file's size, that is waited for besides."""

    def of(self, path: pathlib.Path) -> int:
        """Seconds of processor time."""
        return round(self.seconds + path.stat().st_size / self.bytes_per_second)


class IsolatedReader:
    """Calls functions in a process that waits for the next one; each thread that reads has one of its own."""

    def __init__(self, patience: Patience = Patience()):
        self._patience, self._of_thread = patience, threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process begins with none of its own."""
        return IsolatedReader, (self._patience,)

    def read(self, path: pathlib.Path, read: Callable[[], Value]) -> Value:
        """What `read` returns for the file; its own errors, and DataError where it never ends. It must be picklable."""
        seconds = self._patience.of(path)
        try:
            with deaf_children():  # the process starts with the first call
                reading = self._pool().submit(_read_within, seconds, read)
            return reading.result()
        except BrokenProcessPool:
            del self._of_thread.pool
            raise DataError(f"the library that reads it crashed, or did not end within {seconds} s") from None

    def _pool(self) -> ProcessPoolExecutor:
        if not hasattr(self._of_thread, "pool"):
            spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of JAX's threads
            self._of_thread.pool = ProcessPoolExecutor(1, spawn, follow_parent)
        return self._of_thread.pool


def _read_within(seconds: int, read: Callable[[], Value]) -> Value:
    """In the process: the system ends it where it computes for longer."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (round(used.ru_utime + used.ru_stime) + seconds, hard))
    return read()
