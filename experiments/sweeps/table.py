"""Trials as a table in the terminal: live while a sweep runs, once for `ivideogpt sweep status`."""

from __future__ import annotations

import collections
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from experiments.reports.columns import align
from experiments.runs.progress import format_duration
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import (
    DONE,
    FAILED,
    LOST,
    PAUSED,
    QUEUED,
    RUNNING,
    STOPPED,
    WAITING,
    Standing,
    SweepFolder,
)
from experiments.sweeps.results import show_setting, show_value

REFRESH_SECONDS = 2.0
ORDER = (RUNNING, LOST, FAILED, WAITING, PAUSED, QUEUED, STOPPED, DONE)
"""How trials stand in the table: those that need a look first."""


class LiveTable:
    """On a terminal the table is drawn again and again; elsewhere a line is printed whenever a trial changes."""

    def __init__(self, folder: SweepFolder, sweep: Sweep, total: int, stream: TextIO | None = None):
        self._folder, self._sweep, self._total = folder, sweep, total
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._drawn = -REFRESH_SECONDS
        self._lines = 0
        self._states = {name: standing.state for name, standing in folder.standings().items()}

    def update(self, now: bool = False) -> None:
        if not now and time.monotonic() - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = time.monotonic()
        standings = self._folder.standings()
        if self._terminal:
            self._draw(standings)
        else:
            self._print_changes(standings)

    def close(self) -> None:
        self.update(now=True)

    def _draw(self, standings: Mapping[str, Standing]) -> None:
        width, height = shutil.get_terminal_size()
        lines = as_lines(self._sweep, standings, self._total, width, height - 2)
        up = f"\x1b[{self._lines}F\x1b[J" if self._lines else ""
        self._lines = len(lines)
        print(up + "\n".join(lines), file=self._stream, flush=True)

    def _print_changes(self, standings: Mapping[str, Standing]) -> None:
        for name, standing in standings.items():
            if standing.state != self._states.get(name):
                value = (
                    f", {self._sweep.objective.name} {show_value(standing.value)}" if standing.value is not None else ""
                )
                reason = f" ({standing.message})" if standing.message else ""
                at = f" at {self._sweep.step.replace('_', ' ')} {standing.step}" if standing.step else ""
                print(f"{name} {standing.state}{at}{value}{reason}", file=self._stream, flush=True)
        self._states = {name: standing.state for name, standing in standings.items()}


def summary(standings: Mapping[str, Standing], total: int | None) -> str:
    """How many trials stand how."""
    counts = collections.Counter(standing.state for standing in standings.values())
    said = [f"{counts[state]} {state}" for state in reversed(ORDER) if counts[state]]
    if total is not None and total > len(standings):
        said.append(f"{total - len(standings)} not begun")
    return f"{len(standings) if total is None else total} trials: {', '.join(said) or 'none begun'}"


def as_lines(
    sweep: Sweep, standings: Mapping[str, Standing], total: int | None, width: int, height: int = 10**6
) -> list[str]:
    """The table in at most so many lines of that width."""
    ordered = sorted(standings.items(), key=lambda item: (ORDER.index(item[1].state), item[0]))
    shown = ordered[: max(height - 3, 1)]
    rows = [("trial", "state", sweep.objective.name, sweep.step.replace("_", " "), "age", "where", "settings")]
    rows += [_row(name, standing) for name, standing in shown]
    lines = [summary(standings, total), *(line[:width] for line in align(rows))]
    hidden = len(ordered) - len(shown)
    return [line.rstrip() for line in lines] + ([f"and {hidden} more"] if hidden else [])


def _row(name: str, standing: Standing) -> tuple[str, ...]:
    settings = " ".join(f"{key}={show_setting(value)}" for key, value in standing.point.items())
    said = f"{settings}  {standing.message}" if standing.message else settings
    return name, standing.state, show_value(standing.value), str(standing.step), age(standing), standing.where, said


def age(standing: Standing) -> str:
    """Since the trial was begun; of one that is over, from there to its end."""
    if standing.started is None:
        return ""
    until = time.time() if standing.state == RUNNING else standing.beat or standing.started
    return format_duration(until - standing.started)
