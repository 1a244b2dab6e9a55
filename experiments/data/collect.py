"""Data sets of simulators, one folder per task, played in several processes; what is whole is never played again."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import pathlib
import queue
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

from agent.events import Progress
from experiments.data.convert import convert, describe, describe_damage
from experiments.data.converters.played import Collection, play_episodes, select_playable
from experiments.data.recording import DataError
from experiments.data.writer import StoreWriter
from experiments.envs.camera import Quality
from experiments.envs.registry import make_simulator, suite_of
from experiments.runs.preemption import Preempted, StopRequest, deaf_children, follow_parent

SHARD_BYTES = 10_000_000
"""About eight episodes of 64 pixels: what a process that is killed loses at most."""


@dataclasses.dataclass(frozen=True)
class Made:
    """A data set is whole."""

    said: str
    """What is in it, what was left out or skipped and why, and which damaged shards were made again."""


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """One task's data set."""

    task: str
    folder: pathlib.Path
    collection: Collection
    render_quality: Quality = "fast"
    resolution: int = 64


@dataclasses.dataclass(frozen=True)
class Tally:
    """How many episodes of a task were done, or turned out to be none of it, since the last one that was tallies."""

    done: int = 0
    left_out: int = 0


def collect_sets(sets: Sequence[TaskSet], workers: int, stop: StopRequest | None = None) -> Generator[Progress | Made]:
    """Play what is missing of every set; yields progress in episodes of all of them, and each set as it is made.

    Raises DataError where a folder holds another data set, or where a task cannot be played, and Preempted where that
    was asked for, once the episodes that are being played are kept.
    """
    stop = stop or StopRequest()
    spawn = multiprocessing.get_context("spawn")  # a fork would share the graphics context
    total, done = sum(each.collection.episodes for each in sets), 0
    with contextlib.ExitStack() as stack:
        with deaf_children():
            manager = stack.enter_context(spawn.Manager())
            pool = stack.enter_context(ProcessPoolExecutor(workers, spawn, follow_parent))
            tallies, asked_to_end = manager.Queue(), manager.Event()
            waiting = {pool.submit(_collect, each, tallies, asked_to_end) for each in sets}
        try:
            while waiting:
                if stop.made:
                    asked_to_end.set()
                    pool.shutdown(wait=True, cancel_futures=True)
                    stop.refuse_to_go_on("with the episodes played so far kept")
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield Made(future.result())
                while not tallies.empty():
                    tally = tallies.get()
                    done, total = done + tally.done, total - tally.left_out
                yield Progress("episodes", done, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _collect(task_set: TaskSet, tallies: queue.Queue[Tally], asked_to_end: threading.Event | None = None) -> str:
    """Make one set, in a process of its own; tells of each episode, and returns what is to be said in the end.

    Raises Preempted where that is asked for, once the episode that is being played is kept.
    """
    env = make_simulator(task_set.task, task_set.render_quality, task_set.resolution)
    collection = select_playable(env, task_set.collection)
    said = []
    if left_out := task_set.collection.episodes - collection.episodes:
        tallies.put(Tally(left_out=left_out))
        said.append(f"{task_set.task} has no scripted policy: its scripted and noisy episodes are left out")
    if not collection.episodes:
        raise DataError(
            f"{task_set.task}: none of the episodes that were asked for can be played; --random N asks for more"
        )
    settings = {
        "format": suite_of(task_set.task).name,
        "task": task_set.task,
        "render_quality": task_set.render_quality,
        "resolution": task_set.resolution,
        **dataclasses.asdict(collection),
    }
    with StoreWriter(task_set.folder, settings, SHARD_BYTES) as writer:
        said += describe_damage(writer)
        for _ in convert(play_episodes(env, collection), writer):
            tallies.put(Tally(done=1))
            if asked_to_end is not None and asked_to_end.is_set():
                raise Preempted(f"{task_set.task} was not played to its end")
        said.append(describe(task_set.folder, writer))
    env.close()
    return "\n".join(said)
