"""Any source into a data set folder: one episode at a time, resumable, and no broken episode stops it."""

from __future__ import annotations

import collections
import functools
import itertools
import pathlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from agent.events import Progress
from experiments.data.converters.source import EpisodeRef, Source
from experiments.data.recording import DataError, Recording
from experiments.data.shards import shard_path
from experiments.data.store import check_shard
from experiments.data.writer import StoreWriter
from experiments.errors import UsageError
from experiments.runs.progress import counted

ReadAhead = Callable[[Iterable[EpisodeRef], Collection[str]], Iterator[tuple[EpisodeRef, Callable[[], Recording]]]]
"""Of episodes, and the names of those that need no reading: each in its order, with what gives its recording or raises
its error."""
HOPELESS = 20
"""Where this many of the first episodes are all broken, the question was wrong and not the data."""


def convert(
    source: Source,
    writer: StoreWriter,
    limit: int | None = None,
    workers: int = 1,
    retry: bool = False,
    read_ahead: ReadAhead | None = None,
) -> Generator[Progress]:
    """Write what a source holds, or its first `limit` episodes; yields progress with what was skipped so far.

    What the writer has already is passed over unread, so that a conversion that was stopped goes on; shards that the
    writer found damaged are made again first. A broken episode is skipped and noted with its reason. workers: threads
    that read ahead, where there are several; the order stays. read_ahead: what reads instead of threads. retry: read
    again, in the end, what was skipped before.
    Raises DataError where none of the first HOPELESS could be read, or none at all, or none of a damaged shard.
    """
    ahead = read_ahead or functools.partial(_read_in_threads, workers=workers)
    again = retry or bool(writer.damaged)
    episodes = list(source.episodes) if again else source.episodes
    yield from _remake_shards(episodes, writer, ahead)
    skipped_before = dict(writer.skipped)
    yield from _add_new(episodes, source.total, writer, limit, ahead)
    writer.end_shard()  # which may replace one whose index is lost
    if retry or writer.damaged:  # a lost index that nothing new replaced was of episodes that had been skipped first
        yield from _retry_skipped(episodes, skipped_before, writer, ahead)
    writer.finish()


def verify(writer: StoreWriter) -> Iterator[Progress]:
    """Read every chunk of every whole shard, so that `convert` makes those again in which one is damaged."""
    shards = writer.shards
    for done, (number, shard) in enumerate(shards.items(), 1):
        try:
            check_shard(writer.folder, number, shard)
        except DataError as error:
            writer.drop(number, str(error))
        yield Progress("shards verified", done, len(shards))


def select_episodes(source: Source, only: Collection[str] | None, without: Collection[str] = ()) -> Source:
    """The episodes named in `only` (None: all) and not in `without`, such as a benchmark's test list.

    Raises DataError that names the first one that the source does not hold.
    """
    if only is None and not without:
        return source
    episodes = list(source.episodes)
    names = {episode.name for episode in episodes}
    if strangers := sorted({*(only or ()), *without} - names):
        raise DataError(f"the source holds no episode '{strangers[0]}', but for example '{min(names)}'")
    kept = [one for one in episodes if (only is None or one.name in only) and one.name not in without]
    return Source(len(kept), kept)


def _remake_shards(episodes: Iterable[EpisodeRef], writer: StoreWriter, ahead: ReadAhead) -> Iterator[Progress]:
    """Write damaged shards again from the episodes that they held, where their indices say which."""
    damaged = sorted(writer.damaged.items())
    held = {number: [name for name, _ in damage.index.recordings] for number, damage in damaged if damage.index}
    by_name = {episode.name: episode for episode in episodes} if held else {}
    done, total = itertools.count(1), sum(map(len, held.values()))
    for number, names in held.items():
        if number not in writer.damaged:
            continue  # one before grew into it; what it held is added like anything new
        writer.remake(number)
        for episode, read in ahead([by_name.get(name, EpisodeRef(name, _refuse_gone)) for name in names], ()):
            _take(episode.name, read, writer)
            yield Progress("damaged shards' episodes", next(done), total)
        reasons = dict(writer.skipped)
        if names and all(name in reasons for name in names):
            path, first = shard_path(writer.folder, number), names[0]
            raise DataError(
                f"{path} is damaged and none of its episodes could be read, '{first}' because: {reasons[first]}"
            )
        writer.end_shard()


def _add_new(
    episodes: Iterable[EpisodeRef], total: int, writer: StoreWriter, limit: int | None, ahead: ReadAhead
) -> Iterator[Progress]:
    """Write what the writer does not have yet."""
    total = total if limit is None else min(limit, total)
    if not total:
        raise DataError("the source holds no episodes")
    for number, (episode, read) in enumerate(ahead(itertools.islice(episodes, limit), writer.done), 1):
        if episode.name not in writer.done:
            _take(episode.name, read, writer)
        skipped = len(writer.skipped)
        if writer.signals is None and (skipped >= HOPELESS or number == total):
            name, reason = writer.skipped[0]
            raise DataError(f"none of the first {skipped} episodes could be read, '{name}' because: {reason}")
        yield Progress("episodes", number, total, {"skipped": skipped})


def _retry_skipped(
    episodes: Iterable[EpisodeRef], skipped: Collection[str], writer: StoreWriter, ahead: ReadAhead
) -> Iterator[Progress]:
    """Read again what was skipped; what can be read now goes into shards of its own."""
    writer.end_shard()
    again = {episode.name: episode for episode in episodes if episode.name in skipped}
    for number, (episode, read) in enumerate(ahead(again.values(), ()), 1):
        _take(episode.name, read, writer)
        yield Progress("episodes skipped before", number, len(again), {"skipped": len(writer.skipped)})


def _read_in_threads(
    episodes: Iterable[EpisodeRef], done: Collection[str], workers: int
) -> Iterator[tuple[EpisodeRef, Callable[[], Recording]]]:
    """A ReadAhead: threads, where there are several, read those that are not done."""
    if workers == 1:
        yield from ((episode, episode.read) for episode in episodes)
        return
    pool = ThreadPoolExecutor(workers)
    waiting = collections.deque()  # at most so many recordings are in memory besides the one that is written
    try:
        for episode in episodes:
            read = episode.read if episode.name in done else pool.submit(episode.read).result
            waiting.append((episode, read))
            if len(waiting) > workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_gone() -> Recording:
    raise DataError("the source does not hold it any more")


def _take(name: str, read: Callable[[], Recording], writer: StoreWriter) -> None:
    try:
        recording = read()
    except (UsageError, DataError) as error:
        if isinstance(error, UsageError):  # a package is missing
            raise
        writer.skip(name, str(error))
    except Exception as error:  # each format's library has its own errors for damage
        writer.skip(name, describe_error(error))
    else:
        _add(name, recording, writer)


def _add(name: str, recording: Recording, writer: StoreWriter) -> None:
    try:
        writer.add(name, recording)
    except DataError as error:  # it does not fit to those before
        writer.skip(name, str(error))


def describe_error(error: Exception) -> str:
    """Why an episode is skipped, by an error of a format's library."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def describe_damage(writer: StoreWriter) -> list[str]:
    """Of each damaged shard, that it will be made again, and why."""
    return [f"shard {number} is made again: {damage.reason}" for number, damage in sorted(writer.damaged.items())]


def describe(folder: pathlib.Path, writer: StoreWriter, shown: int = 10) -> str:
    """What a conversion made, and the first episodes that were skipped."""
    skipped = writer.skipped
    held = len(writer.done) - len(skipped)
    lines = [f"{folder}: {counted(held, 'episode')} with {writer.signals}, {len(skipped)} skipped"]
    lines += [f"  skipped {name}: {reason}" for name, reason in skipped[:shown]]
    if len(skipped) > shown:
        lines.append(f"  and {len(skipped) - shown} more: see the .json files in {folder}")
    return "\n".join(lines)
