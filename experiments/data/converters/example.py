"""tf.train.Example in protobuf's wire format: the features that are asked for, the others passed over unread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from experiments.data.recording import DataError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3
"""Which of its three kinds of values a feature has: its field numbers."""

Values = list[bytes] | np.ndarray


class Example(Mapping[str, Values]):
    """The features of an Example by name: a list of bytes, float32 [N] or int64 [N], decoded when asked for."""

    def __init__(self, data: bytes):
        self._features: dict[str, memoryview] = {}
        try:
            for _, features in _fields(memoryview(data)):
                for _, entry in _fields(features):
                    parts = dict(_fields(entry))
                    self._features[bytes(parts[1]).decode()] = parts.get(2, memoryview(b""))
        except (IndexError, KeyError, TypeError, UnicodeDecodeError, ValueError) as error:
            raise DataError(f"it is no tf.train.Example ({error})") from None

    def __getitem__(self, name: str) -> Values:
        kinds = list(_fields(self._features[name]))
        if not kinds:
            return []
        kind, values = kinds[-1]
        found = list(_fields(values))
        if kind == BYTES_LIST:
            return [bytes(value) for _, value in found]
        if kind == FLOAT_LIST:  # packed into one field, or a field each
            return np.frombuffer(b"".join(value for _, value in found), "<f4")
        if kind == INT64_LIST:
            numbers = [n for _, value in found for n in (_varints(value) if isinstance(value, memoryview) else [value])]
            return np.array(numbers, np.uint64).astype(np.int64)
        raise DataError(f"the feature '{name}' is of a kind that tf.train.Example does not have")

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and content of every field of a message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if wire == BYTES:
            size, at = _varint(message, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("a field is cut short")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that starts at a place, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7


def _varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value
