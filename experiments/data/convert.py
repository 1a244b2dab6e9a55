"""Any source into a data set folder: one episode at a time, resumable, and no broken episode stops it."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Collection, Iterator

from agent.events import Clock, Progress
from experiments.data.converters.source import Candidate, Source
from experiments.data.recording import DataError, Recording
from experiments.data.writer import StoreWriter
from experiments.errors import UsageError

HOPELESS = 20
"""Where this many of the first episodes are all broken, the question was wrong and not the data."""


def convert(source: Source, writer: StoreWriter, limit: int | None = None) -> Iterator[Progress]:
    """Write what a source holds, or its first `limit` episodes; yields progress with what was skipped so far.

    What the writer has already is passed over unread, so that a conversion that was stopped goes on. A broken episode is
    skipped and noted with its reason. Raises DataError where none of the first HOPELESS could be read, or none at all.
    """
    total = source.total if limit is None else min(limit, source.total)
    if not total:
        raise DataError("the source holds no episodes")
    for number, candidate in enumerate(itertools.islice(source.candidates, limit), 1):
        if candidate.name not in writer.done:
            _take(candidate, writer)
        skipped = len(writer.skipped)
        if writer.signals is None and (skipped >= HOPELESS or number == total):
            name, reason = writer.skipped[0]
            raise DataError(f"none of the first {skipped} episodes could be read, '{name}' because: {reason}")
        yield Progress(Clock(), "episodes", number, total, {"skipped": skipped})
    writer.finish()


def chosen(source: Source, only: Collection[str] | None, without: Collection[str] = ()) -> Source:
    """The episodes of these names, all where None, but for those of the others: a benchmark's test list, say.

    Raises DataError that names the first one that the source does not hold.
    """
    if only is None and not without:
        return source
    candidates = list(source.candidates)
    names = {candidate.name for candidate in candidates}
    if strangers := sorted({*(only or ()), *without} - names):
        raise DataError(f"the source holds no episode '{strangers[0]}', but for example '{min(names)}'")
    kept = [one for one in candidates if (only is None or one.name in only) and one.name not in without]
    return Source(len(kept), kept)


def _take(candidate: Candidate, writer: StoreWriter) -> None:
    try:
        recording = candidate.read()
    except (UsageError, DataError) as error:
        if isinstance(error, UsageError):  # a package is missing
            raise
        writer.skip(candidate.name, str(error))
    except Exception as error:  # each format's library has its own errors for damage
        writer.skip(candidate.name, f"{type(error).__name__}: {_first_line(error)}")
    else:
        _add(candidate.name, recording, writer)


def _add(name: str, recording: Recording, writer: StoreWriter) -> None:
    try:
        writer.add(name, recording)
    except DataError as error:  # it does not fit to those before
        writer.skip(name, str(error))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def described(folder: pathlib.Path, writer: StoreWriter, shown: int = 10) -> str:
    """What a conversion made, and the first episodes that were skipped."""
    skipped = writer.skipped
    lines = [f"{folder}: {len(writer.done) - len(skipped)} episodes with {writer.signals}, {len(skipped)} skipped"]
    lines += [f"  skipped {name}: {reason}" for name, reason in skipped[:shown]]
    if len(skipped) > shown:
        lines.append(f"  and {len(skipped) - shown} more: see the .json files in {folder}")
    return "\n".join(lines)
