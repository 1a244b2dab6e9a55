"""Writing a data set folder, shard by shard, so that it can be stopped at any moment (`shards.py` says how it lies there)."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from experiments.data.packages import need
from experiments.data.recording import CHUNK_FRAMES, DataError, Recording, encode
from experiments.data.shards import (
    DESCRIPTION,
    VERSION,
    Shard,
    Signals,
    as_json,
    description,
    only_writer,
    read_shards,
    shard_path,
)
from experiments.run_folder import write_atomically

OPTIONS = "group_size:1,zstd:3"
"""Of ArrayRecord: every chunk can be read alone."""


class StoreWriter:
    """Appends recordings to a data set folder; what whole shards hold already is in `done` and must not be added again.

    A context manager: leaving it after an error drops the shard that is not whole. Raises DataError where the folder holds
    another data set, one made with other settings, or where another process writes to it.
    """

    def __init__(self, folder: str | os.PathLike, settings: Mapping[str, Any], shard_bytes: int = 2**27):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._alone = contextlib.ExitStack()
        self._alone.enter_context(only_writer(self.folder))
        self._settings, self._shard_bytes = json.loads(json.dumps(dict(settings))), shard_bytes
        self._shards = self._continued()
        self._describe(whole=False)
        self.done = {name for shard in self._shards for name, _ in (*shard.recordings, *shard.skipped)}
        self._start_shard()

    def add(self, name: str, recording: Recording) -> None:
        """Append one. Raises DataError where it has other signals than those before."""
        self._refuse_known(name)
        signals = Signals.of(recording.check())
        if self.signals not in (None, signals):
            raise DataError(f"it has {signals}; those before have {self.signals}")
        self._signals = signals
        for start in range(0, recording.length, CHUNK_FRAMES):
            record = encode(recording.take(slice(start, start + CHUNK_FRAMES)))
            self._open_shard().write(record)
            self._bytes += len(record)
        self._recordings.append((name, recording.length))
        self.done.add(name)
        if self._bytes >= self._shard_bytes:
            self._finish_shard()

    def skip(self, name: str, reason: str) -> None:
        """Note that this one could not be used."""
        self._refuse_known(name)
        self._skipped.append((name, reason))
        self.done.add(name)

    def finish(self) -> None:
        """Write what is left and mark the data set as whole."""
        if self._recordings or self._skipped:
            self._finish_shard()
        self._describe(whole=True)

    @property
    def signals(self) -> Signals | None:
        return self._signals or next((shard.signals for shard in self._shards if shard.signals), None)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        return [pair for shard in self._shards for pair in shard.skipped] + self._skipped

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_) -> None:
        if self._writer is not None:
            with contextlib.suppress(RuntimeError):  # on a full disk; what it wrote is dropped in any case
                self._writer.close()
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._alone.close()

    def _continued(self) -> list[Shard]:
        """The whole shards that are there, if the settings are theirs, too. Others' files must not be in the folder."""
        strangers = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
        if strangers and not (self.folder / DESCRIPTION).exists():
            raise DataError(f"{self.folder} is no data set of ours (it holds {strangers[0]}): choose another folder")
        shards = read_shards(self.folder)
        if shards and (there := description(self.folder)["settings"]) != self._settings:
            raise DataError(f"{self.folder} was made with {there}, not {self._settings}: choose another folder")
        return shards

    def _describe(self, whole: bool) -> None:
        counts = {
            "recordings": sum(len(shard.recordings) for shard in self._shards),
            "frames": sum(frames for shard in self._shards for _, frames in shard.recordings),
            "skipped": sum(len(shard.skipped) for shard in self._shards),
        }
        content = {"version": VERSION, "settings": self._settings, "whole": whole, **counts}
        write_atomically(self.folder / DESCRIPTION, json.dumps(content, indent=1) + "\n")

    @property
    def _temporary(self) -> pathlib.Path:
        return self.folder / ".tmp"

    def _start_shard(self) -> None:
        self._writer, self._signals, self._bytes = None, None, 0
        self._recordings: list[tuple[str, int]] = []
        self._skipped: list[tuple[str, str]] = []

    def _open_shard(self):
        if self._writer is None:
            self._temporary.mkdir(exist_ok=True)
            path = shard_path(self._temporary, len(self._shards))
            self._writer = need("array_record.python.array_record_module").ArrayRecordWriter(str(path), OPTIONS)
        return self._writer

    def _finish_shard(self) -> None:
        number, size = len(self._shards), 0
        path = shard_path(self.folder, number)
        if self._writer is not None:
            self._writer.close()
            temporary = shard_path(self._temporary, number)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            size = temporary.stat().st_size
            os.replace(temporary, path)
        shard = Shard(self._signals, tuple(self._recordings), tuple(self._skipped), size)
        write_atomically(path.with_suffix(".json"), as_json(shard))
        self._shards.append(shard)
        self._start_shard()

    def _refuse_known(self, name: str) -> None:
        if name in self.done:
            raise DataError(f"a recording named '{name}' is there already")
