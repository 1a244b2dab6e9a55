"""TFRecord files, read without TensorFlow: where each record is, and its bytes once both checksums hold."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
import struct
from collections.abc import Callable, Iterator

from experiments.data.converters.source import EpisodeRef, Source
from experiments.data.packages import need
from experiments.data.recording import DataError, Recording

NAME = re.compile(r".*\.tfrecords?(-\d+-of-\d+)?")
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
HEADER = _LENGTH.size + _CHECKSUM.size


@dataclasses.dataclass(frozen=True)
class RecordSpan:
    """Where the bytes of a record are; `fault` where the file cannot be followed from here on."""

    offset: int
    length: int
    fault: str = ""


def tfrecord_source(source: pathlib.Path, parse: Callable[[bytes], Recording]) -> Source:
    """Every record of every TFRecord file in a folder as an episode; `parse` makes a recording of its bytes."""
    found = tfrecord_files(source)
    return Source(sum(1 for path in found for _ in find_records(path)), _refer(found, parse))


def tfrecord_files(source: pathlib.Path) -> list[pathlib.Path]:
    """The TFRecord files of one folder in the order of the numbers in their names.

    Raises DataError where there are none, or some in several folders.
    """
    found = [source] if source.is_file() else [path for path in source.rglob("*") if NAME.fullmatch(path.name)]
    if not found:
        raise DataError(f"{source} holds no TFRecord files")
    if len(folders := sorted({str(path.parent) for path in found})) > 1:
        raise DataError(f"{source} holds TFRecord files in several folders: choose one of {', '.join(folders)}")
    return sorted(
        found, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
    )


def find_records(path: pathlib.Path) -> Iterator[RecordSpan]:
    """Where the records of a file are, from their lengths alone; the last may be a fault."""
    with open(path, "rb") as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while offset < size:
            file.seek(offset)
            header = file.read(HEADER)
            if len(header) < HEADER or not _matches(header[: _LENGTH.size], header[_LENGTH.size :]):
                yield RecordSpan(
                    offset, 0, "a length does not match its checksum: this record and those behind it are lost"
                )
                return
            (length,) = _LENGTH.unpack_from(header)
            end = offset + HEADER + length + _CHECKSUM.size
            yield RecordSpan(offset, length, "" if end <= size else "the file ends within this record")
            offset = end


def read_record(path: pathlib.Path, span: RecordSpan) -> bytes:
    """A record's bytes. Raises DataError where they do not match their checksum."""
    if span.fault:
        raise DataError(span.fault)
    with open(path, "rb") as file:
        file.seek(span.offset + HEADER)
        data, checksum = file.read(span.length), file.read(_CHECKSUM.size)
    if len(data) < span.length or not _matches(data, checksum):
        raise DataError("a record does not match its checksum")
    return data


def masked_crc(data: bytes) -> int:
    """A CRC-32C as TFRecord stores it, so that the checksum of data with checksums in it stays strong."""
    checksum = need("google_crc32c").value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _matches(data: bytes, checksum: bytes) -> bool:
    return len(checksum) == _CHECKSUM.size and _CHECKSUM.unpack(checksum)[0] == masked_crc(data)


def _refer(found: list[pathlib.Path], parse: Callable[[bytes], Recording]) -> Iterator[EpisodeRef]:
    for path in found:
        for number, span in enumerate(find_records(path)):
            yield EpisodeRef(f"{path.name}/{number:05d}", functools.partial(_parse, path, span, parse), path.name)


def _parse(path: pathlib.Path, span: RecordSpan, parse: Callable[[bytes], Recording]) -> Recording:
    return parse(read_record(path, span))
