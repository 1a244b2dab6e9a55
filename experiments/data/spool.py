"""What a shard that is not whole yet will hold, in a file that stays readable wherever a kill cuts it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from experiments.data.shards import Signals

HEAD = struct.Struct("<IQI")
"""Bytes of an entry's description, bytes of all of it, and its checksum."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One recording in its chunks, or why there is none."""

    name: str
    reason: str | None = None  # of one that was skipped
    frames: int = 0
    signals: Signals | None = None
    records: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        return sum(map(len, self.records))

    def pack(self) -> bytes:
        """As bytes, in which any damage is noticed."""
        signals = dataclasses.asdict(self.signals) if self.signals else None
        described = [self.name, self.reason, self.frames, signals, [len(record) for record in self.records]]
        head = json.dumps(described).encode()
        body = head + b"".join(self.records)
        return HEAD.pack(len(head), len(body), zlib.crc32(body)) + body


class Spool:
    """Entries in the order in which they came, appended one by one."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self._file: BinaryIO | None = None

    def append(self, entry: Entry) -> None:
        if self._file is None:
            self.path.parent.mkdir(exist_ok=True)
            self._file = open(self.path, "ab")
        self._file.write(entry.pack())
        self._file.flush()

    def read(self) -> Iterator[tuple[Entry, int]]:
        """Every whole entry from the first on, with the place where it ends."""
        with contextlib.suppress(FileNotFoundError), open(self.path, "rb") as file:
            while (entry := _read_entry(file)) is not None:
                yield entry, file.tell()

    def cut(self, end: int) -> None:
        """Forget what stands behind a place."""
        os.truncate(self.path, end)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


def _read_entry(file: BinaryIO) -> Entry | None:
    """The next one; None where there is none that is whole."""
    raw = file.read(HEAD.size)
    if len(raw) < HEAD.size:
        return None
    head, size, checksum = HEAD.unpack(raw)
    if size > os.fstat(file.fileno()).st_size:
        return None
    body = file.read(size)
    if len(body) < size or zlib.crc32(body) != checksum:
        return None
    name, reason, frames, signals, sizes = json.loads(body[:head])
    records, start = [], head
    for length in sizes:
        records.append(body[start : start + length])
        start += length
    return Entry(name, reason, frames, Signals(**signals) if signals else None, tuple(records))
