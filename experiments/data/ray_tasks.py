"""Reading a source in Ray tasks, on this machine or on a cluster: one for each file that episodes share."""

from __future__ import annotations

import collections
import itertools
import logging
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from experiments.data.convert import describe_error
from experiments.data.converters.source import EpisodeRef
from experiments.data.recording import DataError, Recording
from experiments.errors import UsageError
from experiments.runs.packages import check_installed

RETRIES = 3
"""How often a task begins again whose worker died."""
Result = Recording | DataError | UsageError
Tasks = Callable[[Sequence[EpisodeRef]], Any]
"""Begins to read episodes; gives what `ray.get` waits for: a list of Result."""


def check_ray() -> None:
    """Raise UsageError where Ray is missing."""
    check_installed("ray", "--engine ray", "sweep")


def read_in_tasks(
    episodes: Iterable[EpisodeRef], done: Collection[str], workers: int
) -> Iterator[tuple[EpisodeRef, Callable[[], Recording]]]:
    """A ReadAhead: at most `workers` tasks are at work or have results that are not yet written.

    A file whose task dies again and again is read episode by episode, and an episode of which that is true is broken.
    """
    import ray

    tasks = _begin(ray, workers)
    waiting = collections.deque()
    try:
        for _, group in itertools.groupby(episodes, key=lambda episode: episode.shard or episode.name):
            part = list(group)
            unread = [episode for episode in part if episode.name not in done]
            waiting.append((part, unread, tasks(unread) if unread else None))
            if len(waiting) >= workers:
                yield from _wait(ray, tasks, *waiting.popleft())
        while waiting:
            yield from _wait(ray, tasks, *waiting.popleft())
    finally:
        ray.shutdown()


def _begin(ray: Any, workers: int) -> Tasks:
    """Join the cluster that RAY_ADDRESS names, or begin one of so many workers here."""
    # Without an address Ray would join whatever else happens to run on this machine.
    own = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    joined = {"address": os.environ["RAY_ADDRESS"]} if "RAY_ADDRESS" in os.environ else own
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **joined)
    for number, handler in handlers.items():  # Ray's own would end the process without a word to the conversion
        signal.signal(number, handler)
    return ray.remote(max_retries=RETRIES, num_cpus=1)(read_all).remote


def _wait(
    ray: Any, tasks: Tasks, part: Sequence[EpisodeRef], unread: Sequence[EpisodeRef], begun: Any
) -> Iterator[tuple[EpisodeRef, Callable[[], Recording]]]:
    results = dict(zip([episode.name for episode in unread], _results(ray, tasks, unread, begun), strict=True))
    for episode in part:
        yield episode, lambda result=results.get(episode.name): _give(result)


def _results(ray: Any, tasks: Tasks, unread: Sequence[EpisodeRef], begun: Any) -> list[Result]:
    if not unread:
        return []
    try:
        return ray.get(begun)
    except ray.exceptions.WorkerCrashedError as error:
        if len(unread) == 1:
            return [DataError(f"what read it died {RETRIES + 1} times ({type(error).__name__})")]
        return [result for episode in unread for result in _results(ray, tasks, [episode], tasks([episode]))]


def _give(result: Result | None) -> Recording:
    assert result is not None, "nobody asks for an episode that is done"
    if isinstance(result, Exception):
        raise result
    return result


def read_all(episodes: Sequence[EpisodeRef]) -> list[Result]:
    """Read episodes in a worker. An error of a format's library may not travel, so it does as the text it ends as."""
    return [_read(episode) for episode in episodes]


def _read(episode: EpisodeRef) -> Result:
    try:
        return episode.read()
    except (DataError, UsageError) as error:
        return error
    except Exception as error:
        return DataError(describe_error(error))
