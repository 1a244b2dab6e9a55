"""Data sets of Meta-World, a folder a task, played in several processes; what is whole is never played again."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pathlib
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

from agent.events import Clock, Progress
from experiments.camera import Quality
from experiments.data.convert import convert, described, remade
from experiments.data.converters.metaworld import Collection, metaworld
from experiments.data.writer import StoreWriter
from experiments.metaworld import MetaWorld

SHARD_BYTES = 10_000_000
"""About eight episodes of 64 pixels: what a process that is killed loses at most."""


@dataclasses.dataclass(frozen=True)
class Made:
    """A data set is whole."""

    said: str
    """What is in it, what was skipped and why, and which damaged shards were made again."""


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """One task's data set."""

    task: str
    folder: pathlib.Path
    wanted: Collection
    render_quality: Quality = "fast"
    resolution: int = 64


def collect_sets(sets: Sequence[TaskSet], workers: int) -> Iterator[Progress | Made]:
    """Play what is missing of every set; yields progress in episodes of all of them, and each set as it is made.

    Raises DataError where a folder holds another data set, or where a task cannot be played.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork would share the graphics context
    total, done = sum(each.wanted.episodes for each in sets), 0
    with spawn.Manager() as manager, ProcessPoolExecutor(workers, spawn) as pool:
        told = manager.Queue()
        waiting = {pool.submit(_collect, each, told) for each in sets}
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield Made(future.result())
                while not told.empty():
                    done += told.get()
                yield Progress(Clock(), "episodes", done, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _collect(wanted: TaskSet, told: queue.Queue) -> str:
    """One task, in a process of its own; tells of each episode, and gives what is to be said in the end."""
    settings = {
        "format": "metaworld",
        "task": wanted.task,
        "render_quality": wanted.render_quality,
        "resolution": wanted.resolution,
        **dataclasses.asdict(wanted.wanted),
    }
    env = MetaWorld(wanted.task, wanted.render_quality, wanted.resolution)
    with StoreWriter(wanted.folder, settings, SHARD_BYTES) as writer:
        said = remade(writer)
        for _ in convert(metaworld(env, wanted.wanted), writer):
            told.put(1)
        said.append(described(wanted.folder, writer))
    env.close()
    return "\n".join(said)
