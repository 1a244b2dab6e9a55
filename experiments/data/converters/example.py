"""tf.train.Example in protobuf's wire format: the features that are asked for, the others passed over unread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from experiments.data.recording import DataError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10
"""Bytes; seven bits of a number in each."""
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3
"""Which of its three kinds of values a feature has: its field numbers."""

Values = list[bytes] | np.ndarray


class Example(Mapping[str, Values]):
    """The features of an Example by name: a list of bytes, float32 [N] or int64 [N], decoded when asked for."""

    def __init__(self, data: bytes):
        self._features: dict[str, memoryview] = {}
        try:
            for _, features in _read_messages(memoryview(data)):
                for _, entry in _read_messages(features):
                    fields = dict(_read_messages(entry))
                    self._features[bytes(fields[1]).decode()] = fields.get(2, memoryview(b""))
        except (IndexError, KeyError, TypeError, UnicodeDecodeError, ValueError) as error:
            raise DataError(f"it is no tf.train.Example ({error})") from None

    def __getitem__(self, name: str) -> Values:
        kinds = list(_read_messages(self._features[name]))
        if not kinds:
            return []
        kind, values = kinds[-1]
        if kind == BYTES_LIST:
            return [bytes(value) for _, value in _read_messages(values)]
        if kind == FLOAT_LIST:  # packed into one field, or a field each
            return np.frombuffer(b"".join(value for _, value in _read_messages(values)), "<f4")
        if kind == INT64_LIST:
            fields = (value for _, value in _read_fields(values))
            numbers = [n for value in fields for n in ([value] if isinstance(value, int) else _read_varints(value))]
            return np.array(numbers, np.uint64).astype(np.int64)
        raise DataError(f"the feature '{name}' is of a kind that tf.train.Example does not have")

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


def _read_messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of every field of a message whose fields are all bytes."""
    for number, value in _read_fields(message):
        if isinstance(value, int):
            raise ValueError("a number where bytes belong")
        yield number, value


def _read_fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and content of every field of a message."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _read_varint(message, at)
            yield tag >> 3, value
            continue
        if wire == BYTES:
            size, at = _read_varint(message, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("a field is cut short")
        yield tag >> 3, message[at : at + size]
        at += size


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that starts at a position, and where it ends."""
    value = 0
    for index in range(LONGEST_VARINT):
        byte = message[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & (2**64 - 1), at + index + 1
    raise ValueError(f"a number of more than {LONGEST_VARINT} bytes")


def _read_varints(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _read_varint(packed, at)
        yield value
