"""Accelerators by name: peak figures per device as their makers publish them, and the slices of TPUs for rent."""

from __future__ import annotations

import dataclasses
import math

from experiments.errors import by_name


@dataclasses.dataclass(frozen=True)
class DeviceKind:
    """Peak rates as published; of a link, one direction counts."""

    name: str
    teraflops: float
    """bfloat16 matmuls, dense."""
    memory_gb: float
    links_gb_per_second: float
    """To the other devices, all links of a device together."""
    slices: tuple[str, ...] = ()
    """Topologies of a TPU."""

    def slice_of(self, devices: int) -> str | None:
        """The topology of so many devices; None where the kind has none."""
        return next((shape for shape in self.slices if size_of(shape) == devices), None)


def size_of(shape: str) -> int:
    """Devices of a slice such as 4x8."""
    return math.prod(int(side) for side in shape.split("x"))


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")

_KINDS = {
    kind.name: kind
    for kind in (
        DeviceKind("v5e", 197, 16, 200, _FLAT),
        DeviceKind("v5p", 459, 95, 600, _DEEP),
        DeviceKind("v6e", 918, 32, 448, _FLAT),
        DeviceKind("a100", 312, 80, 300),
        DeviceKind("h100", 989, 80, 450),
        DeviceKind("h200", 989, 141, 450),
        DeviceKind("b200", 2250, 180, 900),
    )
}


def names() -> tuple[str, ...]:
    return tuple(_KINDS)


def get(name: str) -> DeviceKind:
    """A kind by name. Raises UsageError with the closest names."""
    return by_name("device kind", name, _KINDS)
