"""CRC-32C (Castagnoli) of bytes, as TFRecord uses it, without a compiled package: a table and numpy, lanes side by side.

A checksum is linear over the field of two elements. So a message is cut into lanes whose checksums are computed at once,
and a lane's is then moved over the bytes behind it by a matrix, kept as tables of what each byte of a checksum becomes.
"""

from __future__ import annotations

import functools

import numpy as np

POLYNOMIAL = 0x82F63B78  # reflected
LANES = 4096
"""Lanes of a long message; 100 MB/s and more."""
SHORT = 16 * LANES
"""Below this, fewer lanes: at least 16 bytes each."""


def crc32c(data: bytes | memoryview) -> int:
    """The checksum, 32 bits; 0xE3069283 for b"123456789"."""
    message = np.frombuffer(data, np.uint8)
    lanes = LANES if len(message) >= SHORT else 1 << max(len(message) // 16, 1).bit_length() - 1
    width = len(message) // lanes
    states = _lanes(message[: lanes * width].reshape(lanes, width))
    while len(states) > 1:  # neighbours become one, twice as long
        states = _moved(states[0::2], width) ^ states[1::2]
        width *= 2
    state = int(states[0])
    for byte in message[lanes * (len(message) // lanes) :].tolist():
        state = int(_table()[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def masked(checksum: int) -> int:
    """As TFRecord stores a checksum, so that the checksum of data with checksums in it stays strong."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _lanes(message_lw: np.ndarray) -> np.ndarray:
    """Raw states, uint32 [L], of lanes of W bytes; the first starts at all ones, the others at zero."""
    states = np.zeros(len(message_lw), np.uint32)
    states[0] = 0xFFFFFFFF
    table = _table()
    for column in np.ascontiguousarray(message_lw.T):
        states = table[(states ^ column) & 0xFF] ^ (states >> 8)
    return states


@functools.cache
def _table() -> np.ndarray:
    """What a state becomes over one byte, uint32 [256]."""
    states = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        states = np.where(states & 1, states >> 1 ^ POLYNOMIAL, states >> 1).astype(np.uint32)
    return states


def _moved(states: np.ndarray, width: int) -> np.ndarray:
    """What states become over `width` zero bytes."""
    for bit in range(width.bit_length()):
        if width >> bit & 1:
            states = _apply(_zeros(bit), states)
    return states


def _apply(tables: np.ndarray, states: np.ndarray) -> np.ndarray:
    parts = (tables[i][states >> 8 * i & 0xFF] for i in range(4))
    return functools.reduce(np.bitwise_xor, parts)


@functools.cache
def _zeros(power: int) -> np.ndarray:
    """Tables uint32 [4, 256] that move a state over 2 ** power zero bytes, by each of its four bytes."""
    single = np.arange(256, dtype=np.uint32)[None] << (8 * np.arange(4, dtype=np.uint32))[:, None]
    if power == 0:
        return _table()[single & 0xFF] ^ (single >> 8)
    return _apply(_zeros(power - 1), _zeros(power - 1))
