"""Data sets of simulators, one folder per task, played in several processes; what is whole is never played again."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import pathlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from typing import Any, Protocol

from agent.events import Progress
from experiments.data.convert import convert, describe, describe_damage
from experiments.data.converters.played import Collection, play_episodes, select_playable
from experiments.data.recording import DataError
from experiments.data.writer import StoreWriter
from experiments.envs import rendering
from experiments.envs.camera import Quality
from experiments.envs.registry import make_simulator, suite_of
from experiments.runs.preemption import Preempted, StopRequest, deaf_children, follow_parent
from experiments.runs.ray_engine import WorkerDiedError, ray_tasks

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
    """How far a task's set is, in episodes; of a set that begins again the last one counts."""

    task: str
    done: int
    total: int


class Board(Protocol):
    """Where those who play say how far they are, and are told to end."""

    def tell(self, tally: Tally) -> bool:
        """Returns whether to end."""
        ...

    def take(self) -> list[Tally]:
        """What was told since."""
        ...

    def ask_to_end(self) -> None: ...


Players = Callable[[int], contextlib.AbstractContextManager[tuple[Executor, Board, Callable[[TaskSet, Board], str]]]]
"""Who plays so many sets at the same time: what `collect_set`, in the form that comes with them, is submitted to."""


def collect_sets(
    sets: Sequence[TaskSet], workers: int, stop: StopRequest | None = None, players: Players | None = None
) -> Generator[Progress | Made]:
    """Play what is missing of every set; yields progress in episodes of all of them, and each set as it is made.

    players: `in_processes`, the default, or `in_ray_tasks`; what is written is the same.
    Raises DataError where a folder holds another data set, or where a task cannot be played, and Preempted where that
    was asked for, once the episodes that are being played are kept.
    """
    stop = stop or StopRequest()
    tallies = {each.task: Tally(each.task, 0, each.collection.episodes) for each in sets}
    with (players or in_processes)(workers) as (pool, board, play):
        waiting = {pool.submit(play, each, board) for each in sets}
        try:
            while waiting:
                if stop.made:
                    board.ask_to_end()
                    pool.shutdown(wait=True, cancel_futures=True)
                    stop.refuse_to_go_on("with the episodes played so far kept")
                finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield Made(future.result())
                tallies |= {tally.task: tally for tally in board.take()}
                done, total = (sum(getattr(each, name) for each in tallies.values()) for name in ("done", "total"))
                yield Progress("episodes", done, total)
        finally:
            board.ask_to_end()
            pool.shutdown(wait=True, cancel_futures=True)


def collect_set(task_set: TaskSet, board: Board) -> str:
    """Make one set, in a process of its own; tells of each episode, and returns what is to be said in the end.

    Raises Preempted where that is asked for, once the episode that is being played is kept.
    """
    rendering.choose_backend()
    env = make_simulator(task_set.task, task_set.render_quality, task_set.resolution)
    collection = select_playable(env, task_set.collection)
    said = []
    if collection.episodes < task_set.collection.episodes:
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
        for progress in convert(play_episodes(env, collection), writer):
            done = progress.done if progress.phase == "episodes" else 0
            if board.tell(Tally(task_set.task, done, collection.episodes)):
                raise Preempted(f"{task_set.task} was not played to its end")
        said.append(describe(task_set.folder, writer))
    env.close()
    return "\n".join(said)


# --- in processes of this machine -------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_processes(workers: int) -> Iterator[tuple[Executor, Board, Callable[[TaskSet, Board], str]]]:
    """Players: processes of this machine."""
    spawn = multiprocessing.get_context("spawn")  # a fork would share the graphics context
    with contextlib.ExitStack() as stack:
        with deaf_children():
            manager = stack.enter_context(spawn.Manager())
            pool = stack.enter_context(ProcessPoolExecutor(workers, spawn, follow_parent))
            board = SharedBoard(manager.Queue(), manager.Event())
        yield pool, board, collect_set


@dataclasses.dataclass(frozen=True)
class SharedBoard:
    """A Board of what may be shared: by default with threads, of a manager's parts with processes."""

    tallies: queue.Queue[Tally] = dataclasses.field(default_factory=queue.Queue)
    end: threading.Event = dataclasses.field(default_factory=threading.Event)

    def tell(self, tally: Tally) -> bool:
        self.tallies.put(tally)
        return self.end.is_set()

    def take(self) -> list[Tally]:
        return [self.tallies.get() for _ in range(self.tallies.qsize())]

    def ask_to_end(self) -> None:
        self.end.set()


# --- in Ray tasks -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_ray_tasks(workers: int) -> Iterator[tuple[Executor, Board, Callable[[TaskSet, Board], str]]]:
    """Players: Ray tasks, one for each set, on machines that see the same folders. One whose worker dies begins again,
    and goes on with what that one has kept."""
    with ray_tasks(workers) as tasks, ThreadPoolExecutor(workers) as pool:  # a thread waits for each task
        begin, kept = tasks.task(collect_set), tasks.actor(SharedBoard)()

        def play(task_set: TaskSet, board: Board) -> str:
            try:
                return tasks.result(begin(task_set, board))
            except WorkerDiedError as error:
                raise DataError(f"{task_set.task}: {error}; the same command goes on with it") from error

        yield pool, ActorBoard(kept), play


@dataclasses.dataclass(frozen=True)
class ActorBoard:
    """A Board that a Ray actor keeps."""

    actor: Any

    def tell(self, tally: Tally) -> bool:
        return self._ask("tell", tally)

    def take(self) -> list[Tally]:
        return self._ask("take")

    def ask_to_end(self) -> None:
        self._ask("ask_to_end")

    def _ask(self, name: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self.actor, name).remote(*arguments))
