"""Writing a data set folder shard by shard, so that it can be stopped at any moment (`shards.py` says how it lies)."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Mapping
from typing import Any

from experiments.data.packages import need
from experiments.data.recording import CHUNK_FRAMES, DataError, Recording, encode
from experiments.data.shards import (
    DESCRIPTION,
    VERSION,
    Damage,
    Shard,
    Signals,
    as_json,
    checksum,
    only_writer,
    read_description,
    shard_path,
    survey,
)
from experiments.data.spool import Entry, Spool
from experiments.runs.preemption import Preempted
from experiments.runs.run_folder import write_atomically

OPTIONS = "group_size:1,zstd:3"
"""Of ArrayRecord: every chunk can be read alone."""


class StoreWriter:
    """Appends recordings to a data set folder; what whole shards hold already is in `done` and must not be added again.

    damaged: the shards that were found damaged, by number, as long as they are. The others stay as they are: what is
    added first takes the numbers of those whose index is lost, in order; `remake` is for the rest.

    What a shard that is not whole holds outlives a kill, Preempted and KeyboardInterrupt: the next writer goes on with
    it. A context manager: leaving it otherwise drops that. Raises DataError where the folder holds another data set,
    one made with other settings, or where another process writes to it.
    """

    def __init__(self, folder: str | os.PathLike, settings: Mapping[str, Any], shard_bytes: int = 2**27):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._alone = contextlib.ExitStack()
        self._alone.enter_context(only_writer(self.folder))
        self._settings, self._shard_bytes = json.loads(json.dumps(dict(settings))), shard_bytes
        self._shards, self.damaged = self._find_shards()
        self._spool: Spool | None = None
        self._take_stock()
        self._take_up()
        self._describe(whole=False)

    @property
    def shards(self) -> dict[int, Shard]:
        """The whole ones, by number."""
        return dict(self._shards)

    def drop(self, number: int, reason: str) -> None:
        """Count a whole shard as damaged. Only before anything is added."""
        self.damaged[number] = Damage(reason, self._shards.pop(number))
        self._take_stock()

    def remake(self, number: int) -> None:
        """Let what is added until `end_shard` replace a damaged shard; what that one had skipped stays skipped."""
        self.end_shard()
        index = self.damaged[number].index
        self._number, self._skipped = number, list(index.skipped) if index else []
        self._reasons |= {name: reason for name, reason in self._skipped if name not in self.done}
        self.done |= self._reasons.keys()

    def add(self, name: str, recording: Recording) -> None:
        """Append one, which may have been skipped before. Raises DataError where its signals are others."""
        if name in self.done and name not in self._reasons:
            raise DataError(f"a recording named '{name}' is there already")
        signals = Signals.of(recording.check())
        if self.signals not in (None, signals):
            raise DataError(f"it has {signals}; those before have {self.signals}")
        chunks = (slice(start, start + CHUNK_FRAMES) for start in range(0, recording.length, CHUNK_FRAMES))
        records = tuple(encode(recording.take(chunk)) for chunk in chunks)
        self._append(Entry(name, None, recording.length, signals, records))
        if self._bytes >= self._shard_bytes:
            self._finish_shard()

    def skip(self, name: str, reason: str) -> None:
        """Note that this one could not be used; of one that is noted already, the first reason stays."""
        if name in self._reasons:
            return
        if name in self.done:
            raise DataError(f"a recording named '{name}' is there already")
        self._append(Entry(name, reason))

    def end_shard(self) -> None:
        """Let the next recording begin a shard of its own."""
        if self._recordings or self._skipped:
            self._finish_shard()

    def finish(self) -> None:
        """Write what is left and mark the data set as whole."""
        self.end_shard()
        while self._number < max(self._shards, default=0):  # the source has less than before; no number is left out
            self._finish_shard()
        self._describe(whole=True)

    @property
    def signals(self) -> Signals | None:
        return self._signals or next((shard.signals for shard in self._shards.values() if shard.signals), None)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Name and reason of what could not be used, but for what was added later."""
        return list(self._reasons.items())

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if self._spool is not None:
            self._spool.close()
        if kind is None or not issubclass(kind, Preempted | KeyboardInterrupt):
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._alone.close()

    def _find_shards(self) -> tuple[dict[int, Shard], dict[int, Damage]]:
        """The shards that are there, if the settings are theirs, too. Others' files must not be in the folder."""
        strangers = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
        if strangers and not (self.folder / DESCRIPTION).exists():
            raise DataError(f"{self.folder} is no data set of ours (it holds {strangers[0]}): choose another folder")
        whole, damaged = survey(self.folder)
        if not whole and not damaged:
            return whole, damaged
        there = read_description(self.folder)
        if there["settings"] != self._settings:
            raise DataError(
                f"{self.folder} was made with {there['settings']}, not {self._settings}: choose another folder"
            )
        found = sum(len(shard.recordings) for shard in whole.values())
        if there["whole"] and not damaged and found < there["recordings"]:
            path = shard_path(self.folder, len(whole))
            damaged[len(whole)] = Damage(f"{path.with_suffix('.json')} is missing", None)
        return whole, damaged

    def _take_stock(self) -> None:
        """What is known of every name, from the whole shards alone."""
        recorded = {name for shard in self._shards.values() for name, _ in shard.recordings}
        skipped = (pair for shard in self._shards.values() for pair in shard.skipped)
        self._reasons = {name: reason for name, reason in skipped if name not in recorded}
        self.done = recorded | self._reasons.keys()
        self._start_shard()

    def _describe(self, whole: bool) -> None:
        recordings = [pair for shard in self._shards.values() for pair in shard.recordings]
        counts = {
            "recordings": len(recordings),
            "frames": sum(frames for _, frames in recordings),
            "skipped": len(self._reasons),
        }
        content = {"version": VERSION, "settings": self._settings, "whole": whole, **counts}
        content |= {"crc32": checksum(content)}
        write_atomically(self.folder / DESCRIPTION, json.dumps(content, indent=1) + "\n")

    @property
    def _temporary(self) -> pathlib.Path:
        return self.folder / ".tmp"

    @property
    def _spool_path(self) -> pathlib.Path:
        """Named after the settings, too: with others, the next writer does not go on with it."""
        return self._temporary / f"{self._number:05d}-{zlib.crc32(json.dumps(self._settings).encode()):08x}.spool"

    def _start_shard(self) -> None:
        if self._spool is not None:
            self._spool.remove()
        self._number = next(number for number in itertools.count() if number not in self._shards)
        self._spool, self._signals, self._bytes = None, None, 0
        self._recordings: list[tuple[str, int]] = []
        self._skipped: list[tuple[str, str]] = []

    def _take_up(self) -> None:
        """Go on with what the writer before had of its next shard; what it had read once more to repair is dropped."""
        spool, end = Spool(self._spool_path), 0
        for entry, place in () if self.damaged else spool.read():
            if entry.name in self.done:
                break
            self._count(entry)
            end = place
        if not end:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        spool.cut(end)
        self._spool = spool
        if self._bytes >= self._shard_bytes:
            self._finish_shard()

    def _append(self, entry: Entry) -> None:
        if self._spool is None:
            self._spool = Spool(self._spool_path)
            self._spool.remove()
        self._spool.append(entry)
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        self.done.add(entry.name)
        if entry.reason is not None:
            self._skipped.append((entry.name, entry.reason))
            self._reasons[entry.name] = entry.reason
            return
        self._signals = entry.signals
        self._bytes += entry.size
        self._recordings.append((entry.name, entry.frames))
        self._reasons.pop(entry.name, None)

    def _finish_shard(self) -> None:
        number, size = self._number, 0
        path = shard_path(self.folder, number)
        if not self._recordings:
            path.unlink(missing_ok=True)  # what a damaged shard left
        else:
            temporary = self._write_records(number)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            size = temporary.stat().st_size
            os.replace(temporary, path)
        shard = Shard(self._signals, tuple(self._recordings), tuple(self._skipped), size)
        write_atomically(path.with_suffix(".json"), as_json(shard))
        self._shards[number] = shard
        self.damaged.pop(number, None)
        self._start_shard()

    def _write_records(self, number: int) -> pathlib.Path:
        """All chunks of the shard, beside the place where it will lie."""
        assert self._spool is not None  # what is recorded went through it
        path, written = shard_path(self._temporary, number), 0
        writer = need("array_record.python.array_record_module").ArrayRecordWriter(str(path), OPTIONS)
        try:
            for entry, _ in self._spool.read():
                for record in entry.records:
                    writer.write(record)
                    written += len(record)
        except BaseException:
            with contextlib.suppress(RuntimeError):  # on a full disk
                writer.close()
            raise
        writer.close()
        if written != self._bytes:
            raise DataError(f"{self._spool.path} changed while it was written: the same command makes it again")
        return path
