"""A data set on disk: shards of recordings in ArrayRecord, which reads any record at once, each beside a JSON index.

    dataset.json            what it is, how it was made, whether it is whole
    00000.arrayrecord       chunks of recordings (`recording.encode`), in order
    00000.json              which recordings those are, which were skipped and why, size and checksum

A shard counts once its index is there, and both appear whole or not at all. Where one ends depends on the recordings
alone, so that a conversion that was stopped and started again ends, byte for byte, like one that never was.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.data.packages import need
from experiments.data.recording import CHUNK_FRAMES, DataError, Recording, decode, encode, joined
from experiments.run_folder import write_atomically

VERSION = 1
DESCRIPTION = "dataset.json"
WRITER_OPTIONS = "group_size:1,zstd:3"


@dataclasses.dataclass(frozen=True)
class Signals:
    """What all recordings of a data set have besides frames, which may differ in size."""

    action_size: int
    rewards: bool

    @classmethod
    def of(cls, recording: Recording) -> Signals:
        return cls(recording.actions.shape[1], recording.rewards is not None)

    def __str__(self) -> str:
        return f"{self.action_size} numbers an action and {'rewards' if self.rewards else 'no rewards'}"


@dataclasses.dataclass(frozen=True)
class Shard:
    """The index of one shard."""

    signals: Signals | None  # None where it holds skipped recordings only
    recordings: tuple[tuple[str, int], ...]  # name, frames
    skipped: tuple[tuple[str, str], ...]  # name, reason
    bytes: int


class StoreWriter:
    """Appends recordings to a data set folder; what whole shards hold already is in `done` and must not be added again.

    A context manager: leaving it after an error drops the shard that is not whole. Raises DataError where the folder holds
    another data set, one made with other settings, or where another process writes to it.
    """

    def __init__(self, folder: str | os.PathLike, settings: Mapping[str, Any], shard_bytes: int = 2**29):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.folder / ".lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"{self.folder}: another process is writing to this data set") from None
        self._settings, self._shard_bytes = json.loads(json.dumps(dict(settings))), shard_bytes
        self._shards = self._continued()
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
            self._writer.close()
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._lock.close()

    def _continued(self) -> list[Shard]:
        """The whole shards that are there, if the settings are theirs, too. Others' files must not be in the folder."""
        begun = (self.folder / DESCRIPTION).exists()
        strangers = [path.name for path in self.folder.iterdir() if not path.name.startswith(".")]
        if strangers and not begun:
            raise DataError(f"{self.folder} is no data set of ours (it holds {strangers[0]}): choose another folder")
        shards = _shards(self.folder)
        if not shards:
            self._describe(whole=False)
        elif (there := _description(self.folder)["settings"]) != self._settings:
            raise DataError(f"{self.folder} was made with {there}, not {self._settings}: choose another folder")
        return shards

    def _describe(self, whole: bool) -> None:
        shards = getattr(self, "_shards", [])
        counts = {
            "recordings": sum(len(shard.recordings) for shard in shards),
            "frames": sum(frames for shard in shards for _, frames in shard.recordings),
            "skipped": sum(len(shard.skipped) for shard in shards),
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
            path = _shard_path(self._temporary, len(self._shards))
            self._writer = need("array_record.python.array_record_module").ArrayRecordWriter(str(path), WRITER_OPTIONS)
        return self._writer

    def _finish_shard(self) -> None:
        number, size = len(self._shards), 0
        path = _shard_path(self.folder, number)
        if self._writer is not None:
            self._writer.close()
            temporary = _shard_path(self._temporary, number)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            size = temporary.stat().st_size
            os.replace(temporary, path)
        shard = Shard(self._signals, tuple(self._recordings), tuple(self._skipped), size)
        write_atomically(path.with_suffix(".json"), _as_json(shard))
        self._shards.append(shard)
        self._start_shard()

    def _refuse_known(self, name: str) -> None:
        if name in self.done:
            raise DataError(f"a recording named '{name}' is there already")


class Store:
    """A data set folder, read only, by any number of threads; shards are opened when they are first read.

    names: of the N recordings. lengths: int64 [N], their frames. Raises DataError where the folder holds no data set, where
    its conversion has not come to its end, or where a shard is cut short.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = pathlib.Path(folder)
        described = _description(self.folder)
        if not described["whole"]:
            raise DataError(f"{self.folder} is not whole: the same ivideogpt convert-data command goes on with it")
        shards = _shards(self.folder)
        recordings = [pair for shard in shards for pair in shard.recordings]
        if not recordings:
            raise DataError(f"{self.folder} holds no recordings")
        if len({shard.signals for shard in shards if shard.signals}) > 1:
            raise DataError(f"{self.folder}: its shards disagree in action size or rewards")
        self.settings: dict[str, Any] = described["settings"]
        self.signals = next(shard.signals for shard in shards if shard.signals)
        self.names = [name for name, _ in recordings]
        self.lengths = np.array([frames for _, frames in recordings], np.int64)
        self.skipped = [pair for shard in shards for pair in shard.skipped]
        self.fingerprint = zlib.crc32("".join(_as_json(shard) for shard in shards).encode())
        chunks = _chunks(self.lengths)
        self._first_chunk = np.cumsum(chunks) - chunks
        self._records = _records(self.folder, shards)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int, frames: Sequence[int] | np.ndarray | None = None) -> Recording:
        """Recording `index`, or the frames of it that are asked for (ascending, may repeat); reads only their chunks.

        `actions[i]` and `rewards[i]` are those of the frame `frames[i]`. Raises DataError, which names the recording, where
        what is on disk is not what was written.
        """
        frames = np.arange(self.lengths[index]) if frames is None else np.asarray(frames)
        wanted = frames // CHUNK_FRAMES
        numbers, place = np.unique(wanted, return_inverse=True)
        try:
            chunks = [self._chunk(index, int(number)) for number in numbers]
        except Exception as error:  # ArrayRecord finds damage before we do, and has an error of its own for each kind
            reason = str(error).partition("\n")[0][:200]
            raise DataError(f"{self.folder}: recording '{self.names[index]}' is damaged ({reason})") from error
        return joined(chunks).take(place * CHUNK_FRAMES + frames % CHUNK_FRAMES)

    def _chunk(self, index: int, number: int) -> Recording:
        chunk = decode(self._records[int(self._first_chunk[index]) + number])
        expected = min(CHUNK_FRAMES, int(self.lengths[index]) - number * CHUNK_FRAMES)
        if chunk.length != expected or Signals.of(chunk) != self.signals:
            raise DataError("a chunk is not what the index says")
        return chunk


def _chunks(frames: int | np.ndarray) -> int | np.ndarray:
    return -(-frames // CHUNK_FRAMES)


def _records(folder: pathlib.Path, shards: Sequence[Shard]) -> Sequence[bytes]:
    """All chunks of all shards, in order. Told how many each shard has, ArrayRecord opens none of them now."""
    package = need("array_record.python.array_record_data_source")
    files = []
    for number, shard in enumerate(shards):
        if shard.recordings:
            count = sum(_chunks(frames) for _, frames in shard.recordings)
            files.append(f"{_shard_path(folder, number)}[0:{count}]")
    return package.ArrayRecordDataSource(files, {"max_parallelism": "0"})  # nothing read ahead: access is random


def _shard_path(folder: pathlib.Path, number: int) -> pathlib.Path:
    return folder / f"{number:05d}.arrayrecord"


def _description(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        if described["version"] != VERSION:
            raise DataError(
                f"{folder} is of version {described['version']}, this code reads {VERSION}: convert it again"
            )
        return {"whole": described["whole"], "settings": described["settings"]}
    except FileNotFoundError:
        raise DataError(
            f"{folder} is no data set ({DESCRIPTION} is missing); ivideogpt convert-data makes one"
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged ({error}): convert it again") from None


def _shards(folder: pathlib.Path) -> list[Shard]:
    shards: list[Shard] = []
    while (path := _shard_path(folder, len(shards)).with_suffix(".json")).exists():
        shards.append(_read_shard(path))
    return shards


def _as_json(shard: Shard) -> str:
    content = dataclasses.asdict(shard)
    return json.dumps({"crc32": zlib.crc32(json.dumps(content).encode()), **content}) + "\n"


def _read_shard(path: pathlib.Path) -> Shard:
    """An index whose own checksum holds and beside which the shard has the size it says."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum = content.pop("crc32")
        if checksum != zlib.crc32(json.dumps(content).encode()):
            raise ValueError("checksum")
        signals = Signals(**content["signals"]) if content["signals"] else None
        pairs = [tuple((name, what) for name, what in content[key]) for key in ("recordings", "skipped")]
        shard = Shard(signals, *pairs, content["bytes"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): convert the data set again") from None
    records = path.with_suffix(".arrayrecord")
    size = records.stat().st_size if records.exists() else 0
    if size != shard.bytes:
        raise DataError(f"{records} has {size} bytes, its index says {shard.bytes}: convert the data set again")
    return shard
