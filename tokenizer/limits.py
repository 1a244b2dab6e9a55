"""What the settings of every floor are held to: a value that no run can use is refused with its name and the limit."""

from __future__ import annotations

import math
from typing import Any


def require_at_least(smallest: int, config: Any, *names: str) -> None:
    """Raise ValueError where one of these fields is below `smallest`; None stands for no value."""
    for name, value in _values(config, names):
        if not smallest <= value < math.inf:
            raise ValueError(f"{name} is {value}, expected at least {smallest}")


def require_positive(config: Any, *names: str) -> None:
    """Raise ValueError where one of these fields is not a finite number above 0; None stands for no value."""
    for name, value in _values(config, names):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}, expected a number above 0")


def require_shares(config: Any, *names: str) -> None:
    """Raise ValueError where one of these fields is not within [0, 1]; None stands for no value."""
    for name, value in _values(config, names):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}, expected a number from 0 to 1")


def _values(config: Any, names: tuple[str, ...]) -> list[tuple[str, float]]:
    return [(name, value) for name in names if (value := getattr(config, name)) is not None]
