"""metrics.jsonl: one object a line, appended as things happen, safe to read while a run writes and after it was
killed."""

from __future__ import annotations

import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.errors import UserError
from experiments.runs.run_folder import write_atomically

if TYPE_CHECKING:
    from agent.events import Clock

STAMPS = ("agent_steps", "env_steps", "wall_seconds")
"""What every line carries besides its own values."""


BEGINNING = f'{{"{STAMPS[0]}":'.encode()
"""Of every line, also of a first one that a kill cut short."""


class MetricsError(UserError, ValueError):
    """A metrics file that cannot be read; the message names the file and the line."""


class Metrics:
    """Appends lines. `wall_seconds` goes on from the last line of the file, so it adds up over the sessions of a run.

    Time spent after the last kept line and before a kill is not counted: that work is done again.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        now: Callable[[], float] = time.monotonic,
        listeners: Sequence[Callable[[Mapping[str, Any]], None]] = (),
    ):
        """listeners: get every line that is appended, once it is in the file."""
        self._path = pathlib.Path(path)
        lines = read_metrics(self._path)
        _cut_torn_line(self._path)
        self.lines = len(lines)
        self._now, self._listeners = now, listeners
        self._start = now() - (lines[-1]["wall_seconds"] if lines else 0.0)
        self._file = open(self._path, "ab", buffering=0)

    def write(self, clock: Clock, values: Mapping[str, Any]) -> None:
        """Append one line, in one write. Values: numbers, booleans, text, and arrays or sequences of numbers.

        A number that is not finite is written as null, which JSON has, and read back as NaN.
        """
        taken = [name for name in values if name in STAMPS]
        if taken:
            raise ValueError(f"a metric cannot be called {taken[0]!r}: every line carries its own")
        stamps = (clock.agent_steps, clock.env_steps, round(self._now() - self._start, 3))
        line = dict(zip(STAMPS, stamps, strict=True)) | {name: _json(value) for name, value in values.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self.lines += 1
        for listener in self._listeners:
            listener(line)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """All whole lines, oldest first; a last line without its newline (a kill) is left out. No file: no lines.

    Raises MetricsError for a damaged line, naming it.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    lines = []
    *whole, torn = path.read_bytes().split(b"\n")
    if not whole and not (torn.startswith(BEGINNING) or BEGINNING.startswith(torn)):
        raise MetricsError(f"{path} holds something else than metrics: delete it to go on")
    for number, raw in enumerate(whole, start=1):
        line = read_line(raw)
        if line is None:
            raise MetricsError(f"{path}, line {number} is damaged: delete that line to go on")
        lines.append(line)
    return lines


def read_line(raw: bytes) -> dict[str, Any] | None:
    """A line with all its stamps; None where it is damaged."""
    try:
        line = json.loads(raw)
        if not all(math.isfinite(line[name]) for name in STAMPS):
            return None
        return {name: _with_nan(value) for name, value in line.items()}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def keep_first(path: str | os.PathLike, count: int) -> int:
    """Remove the lines after the first `count`, which a run that goes on from there writes again. Returns how many
    went.

    For a file that nobody has open.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return 0
    raw = path.read_bytes().split(b"\n")[:-1]
    if len(raw) > count:
        write_atomically(path, b"".join(line + b"\n" for line in raw[:count]))
    return max(len(raw) - count, 0)


def series(lines: list[dict[str, Any]], name: str, over: str) -> tuple[np.ndarray, np.ndarray]:
    """The lines that carry `name`, as x = the stamp `over` [N] and y [N], both float64."""
    pairs = [(line[over], line[name]) for line in lines if name in line]
    points = np.array(pairs, np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def latest(lines: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The newest line that carries `name`."""
    return next((line for line in reversed(lines) if name in line), None)


def _cut_torn_line(path: pathlib.Path) -> None:
    """Shorten the file to its last whole line."""
    if path.exists():
        raw = path.read_bytes()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            os.truncate(path, whole)


def _json(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" and str(array.dtype) != "bfloat16":
        raise TypeError(f"a metric cannot hold {value!r} of type {type(value).__name__}")
    return _finite(array.tolist())


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value
