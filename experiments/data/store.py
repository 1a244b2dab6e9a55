"""Reading a data set folder: any frames of any recording, and nothing unnoticed that is not as it was written."""

from __future__ import annotations

import os
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.data.packages import need
from experiments.data.recording import CHUNK_FRAMES, DataError, Recording, decode, join_chunks
from experiments.data.shards import HELD_OUT, REPAIR, Shard, Signals, as_json, read_description, read_shards, shard_path


class Store:
    """A data set folder, read only, by any number of threads; shards are opened when they are first read.

    names: of the N recordings. lengths: int64 [N], their frames. held_out: names that nobody learns from. Raises
    DataError where the folder holds no data set, where its conversion has not come to its end, or where a shard is cut
    short.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = pathlib.Path(folder)
        description = read_description(self.folder)
        if not description["whole"]:
            raise DataError(f"{self.folder} is not whole: the same ivideogpt convert-data command goes on with it")
        shards = read_shards(self.folder)
        recordings = [pair for shard in shards for pair in shard.recordings]
        if not recordings:
            raise DataError(f"{self.folder} holds no recordings")
        if len(recordings) != description["recordings"]:
            raise DataError(
                f"{self.folder} has {len(recordings)} of {description['recordings']} recordings: "
                f"{shard_path(self.folder, len(shards)).with_suffix('.json').name} is missing: {REPAIR}"
            )
        if len({shard.signals for shard in shards if shard.signals}) > 1:
            raise DataError(f"{self.folder}: its shards disagree in action size or rewards")
        self.settings: dict[str, Any] = description["settings"]
        self.held_out: frozenset[str] = frozenset(self.settings.get(HELD_OUT, ()))
        self.signals = next(shard.signals for shard in shards if shard.signals)
        self.names = [name for name, _ in recordings]
        self.lengths = np.array([frames for _, frames in recordings], np.int64)
        recorded = set(self.names)
        self.skipped = [pair for shard in shards for pair in shard.skipped if pair[0] not in recorded]
        self.fingerprint = zlib.crc32("".join(as_json(shard) for shard in shards).encode())
        chunks = _chunks(self.lengths)
        self._first_chunk = np.cumsum(chunks) - chunks
        self._records = _records(self.folder, dict(enumerate(shards)))

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int, frames: Sequence[int] | np.ndarray | None = None) -> Recording:
        """Recording `index`, or the frames of it that are asked for (ascending, may repeat); reads only their chunks.

        `actions[i]` and `rewards[i]` are those of the frame `frames[i]`. Raises DataError, which names the recording,
        where what is on disk is not what was written.
        """
        frames = np.arange(self.lengths[index]) if frames is None else np.asarray(frames)
        numbers, which = np.unique(frames // CHUNK_FRAMES, return_inverse=True)
        try:
            chunks = [self._chunk(index, int(number)) for number in numbers]
        except Exception as error:  # ArrayRecord finds damage before we do, and has an error of its own for each kind
            raise DataError(
                f"{self.folder}: recording '{self.names[index]}' is damaged ({_reason(error)}): {REPAIR} with --verify"
            ) from error
        return join_chunks(chunks).take(which * CHUNK_FRAMES + frames % CHUNK_FRAMES)

    def _chunk(self, index: int, number: int) -> Recording:
        record = self._records[int(self._first_chunk[index]) + number]
        return _decode_chunk(record, int(self.lengths[index]), number, self.signals)


def check_shard(folder: pathlib.Path, number: int, shard: Shard) -> None:
    """Read all of a shard. Raises DataError for a chunk that is not what was written, and names its recording."""
    records, position = _records(folder, {number: shard}), 0
    for name, frames in shard.recordings:
        for chunk in range(_chunks(frames)):
            try:
                _decode_chunk(records[position], frames, chunk, shard.signals)
            except Exception as error:  # as in `Store.read`
                path = shard_path(folder, number)
                raise DataError(f"{path}: recording '{name}' is damaged ({_reason(error)})") from error
            position += 1


def _decode_chunk(record: bytes, frames: int, number: int, signals: Signals | None) -> Recording:
    """Chunk `number` of a recording of so many frames; refuses another one, whole in itself."""
    chunk = decode(record)
    if chunk.length != min(CHUNK_FRAMES, frames - number * CHUNK_FRAMES) or Signals.of(chunk) != signals:
        raise DataError("a chunk is not what the index says")
    return chunk


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


def _chunks(frames: int | np.ndarray) -> int | np.ndarray:
    return -(-frames // CHUNK_FRAMES)


def _records(folder: pathlib.Path, shards: Mapping[int, Shard]) -> Sequence[bytes]:
    """All chunks of these shards, in order. Told how many each shard has, ArrayRecord opens none of them now."""
    package = need("array_record.python.array_record_data_source")
    files = []
    for number, shard in shards.items():
        if shard.recordings:
            count = sum(_chunks(frames) for _, frames in shard.recordings)
            files.append(f"{shard_path(folder, number)}[0:{count}]")
    return package.ArrayRecordDataSource(files, {"max_parallelism": "0"})  # nothing read ahead: access is random
