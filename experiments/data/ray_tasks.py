"""Reading a source in Ray tasks: one for each file that episodes share."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from experiments.data.convert import describe_error
from experiments.data.converters.source import EpisodeRef
from experiments.data.recording import DataError, Recording
from experiments.errors import UsageError
from experiments.runs.ray_engine import WorkerDiedError, ray_tasks

Result = Recording | DataError | UsageError


def read_in_tasks(
    episodes: Iterable[EpisodeRef], done: Collection[str], workers: int
) -> Iterator[tuple[EpisodeRef, Callable[[], Recording]]]:
    """A ReadAhead: at most `workers` tasks are at work or have results that are not yet written.

    A file whose task dies again and again is read episode by episode, and an episode of which that is true is broken.
    """
    with ray_tasks(workers) as tasks:
        begin, waiting = tasks.task(read_all), collections.deque()

        def results(unread: Sequence[EpisodeRef], begun: Any) -> list[Result]:
            try:
                return tasks.result(begun)
            except WorkerDiedError as error:
                if len(unread) == 1:
                    return [DataError(str(error))]
                return [result for episode in unread for result in results([episode], begin([episode]))]

        def take(
            part: Sequence[EpisodeRef], unread: Sequence[EpisodeRef], begun: Any
        ) -> Iterator[tuple[EpisodeRef, Callable[[], Recording]]]:
            found = results(unread, begun) if unread else []
            by_name = dict(zip([episode.name for episode in unread], found, strict=True))
            for episode in part:
                yield episode, lambda result=by_name.get(episode.name): _give(result)

        for _, group in itertools.groupby(episodes, key=lambda episode: episode.shard or episode.name):
            part = list(group)
            unread = [episode for episode in part if episode.name not in done]
            waiting.append((part, unread, begin(unread) if unread else None))
            if len(waiting) >= workers:
                yield from take(*waiting.popleft())
        while waiting:
            yield from take(*waiting.popleft())


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
