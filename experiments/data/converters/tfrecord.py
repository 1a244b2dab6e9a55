"""TFRecord files, read without TensorFlow: where each record is, and its bytes once both checksums hold."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import re
import struct
from collections.abc import Callable, Iterator

from experiments.data.converters.crc32c import crc32c, masked
from experiments.data.converters.source import Candidate, Source
from experiments.data.recording import DataError, Recording

NAME = re.compile(r".*\.tfrecords?(-\d+-of-\d+)?")
_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
HEADER = _LENGTH.size + _CHECKSUM.size


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the bytes of a record are; `fault` where the file cannot be followed from here on."""

    offset: int
    length: int
    fault: str = ""


def tfrecord_source(place: pathlib.Path, parse: Callable[[bytes], Recording]) -> Source:
    """Every record of every TFRecord file in a folder as an episode; `parse` makes a recording of its bytes."""
    found = tfrecord_files(place)
    return Source(sum(1 for path in found for _ in places(path)), _candidates(found, parse))


def tfrecord_files(place: pathlib.Path) -> list[pathlib.Path]:
    """The TFRecord files of one folder in the order of the numbers in their names. DataError: none, or in several folders."""
    found = [place] if place.is_file() else [path for path in place.rglob("*") if NAME.fullmatch(path.name)]
    if not found:
        raise DataError(f"{place} holds no TFRecord files")
    if len(folders := sorted({str(path.parent) for path in found})) > 1:
        raise DataError(f"{place} holds TFRecord files in several folders: choose one of {', '.join(folders)}")
    return sorted(
        found, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
    )


def places(path: pathlib.Path) -> Iterator[Place]:
    """Where the records of a file are, from their lengths alone; the last may be a fault."""
    with open(path, "rb") as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while offset < size:
            file.seek(offset)
            header = file.read(HEADER)
            if len(header) < HEADER or not _matches(header[: _LENGTH.size], header[_LENGTH.size :]):
                yield Place(offset, 0, "a length does not match its checksum: this record and those behind it are lost")
                return
            (length,) = _LENGTH.unpack_from(header)
            end = offset + HEADER + length + _CHECKSUM.size
            yield Place(offset, length, "" if end <= size else "the file ends within this record")
            offset = end


def read(path: pathlib.Path, place: Place) -> bytes:
    """A record's bytes. Raises DataError where they do not match their checksum."""
    if place.fault:
        raise DataError(place.fault)
    with open(path, "rb") as file:
        file.seek(place.offset + HEADER)
        data, checksum = file.read(place.length), file.read(_CHECKSUM.size)
    if len(data) < place.length or not _matches(data, checksum):
        raise DataError("a record does not match its checksum")
    return data


def _matches(data: bytes, checksum: bytes) -> bool:
    return len(checksum) == _CHECKSUM.size and _CHECKSUM.unpack(checksum)[0] == masked(crc32c(data))


def _candidates(found: list[pathlib.Path], parse: Callable[[bytes], Recording]) -> Iterator[Candidate]:
    for path in found:
        for number, place in enumerate(places(path)):
            yield Candidate(f"{path.name}/{number:05d}", functools.partial(_parsed, path, place, parse))


def _parsed(path: pathlib.Path, place: Place, parse: Callable[[bytes], Recording]) -> Recording:
    return parse(read(path, place))
