"""Accelerators by name: peak figures that their makers publish, a device, and the slices of TPUs that can be rented."""

from __future__ import annotations

import dataclasses
import math

from experiments.errors import by_name


@dataclasses.dataclass(frozen=True)
class DeviceKind:
    """Peak rates, in both directions of a link one direction counted."""

    name: str
    teraflops: float
    """bfloat16 matmuls, dense."""
    memory_gb: float
    memory_gb_per_second: float
    links_gb_per_second: float
    """To the other devices, all links of a device together."""
    slices: tuple[str, ...] = ()
    """Topologies of a TPU."""

    def slice_of(self, devices: int) -> str | None:
        """The topology with so many devices; None where the kind has none."""
        return next((shape for shape in self.slices if size_of(shape) == devices), None)


def size_of(shape: str) -> int:
    """Devices of a slice such as 4x8."""
    return math.prod(int(side) for side in shape.split("x"))


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_DEEP = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")

_KINDS = {
    kind.name: kind
    for kind in (
        DeviceKind("v4", 275, 32, 1228, 300, _DEEP),
        DeviceKind("v5e", 197, 16, 819, 200, _FLAT),
        DeviceKind("v5p", 459, 95, 2765, 600, _DEEP),
        DeviceKind("v6e", 918, 32, 1640, 448, _FLAT),
        DeviceKind("a100", 312, 80, 2039, 300),
        DeviceKind("h100", 989, 80, 3350, 450),
        DeviceKind("h200", 989, 141, 4800, 450),
        DeviceKind("b200", 2250, 180, 8000, 900),
    )
}


def names() -> tuple[str, ...]:
    return tuple(_KINDS)


def get(name: str) -> DeviceKind:
    """A kind by name. Raises UsageError with the closest names."""
    return by_name("device kind", name, _KINDS)
