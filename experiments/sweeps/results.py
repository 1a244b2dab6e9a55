"""What came of a sweep: its points in the order of their results."""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping
from typing import Any

from experiments.sweeps import targets
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import DONE, STOPPED, Standing, SweepFolder, Trial


@dataclasses.dataclass(frozen=True)
class Result:
    """A point with what its trials measured, by seed; a trial that measured nothing yet is not among them."""

    number: int
    point: Mapping[str, Any]
    values: Mapping[int, float]
    states: Mapping[int, str]
    command: str
    """With the first seed, into a new run folder."""

    @property
    def mean(self) -> float | None:
        return sum(self.values.values()) / len(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over seeds; None of fewer than two."""
        if len(self.values) < 2 or self.mean is None:
            return None
        return math.sqrt(sum((value - self.mean) ** 2 for value in self.values.values()) / (len(self.values) - 1))

    def is_whole(self, seeds: int) -> bool:
        """Whether every seed came to an end with a value."""
        ended = [seed for seed, state in self.states.items() if state in (DONE, STOPPED) and seed in self.values]
        return len(ended) == seeds

    @property
    def cut_short(self) -> bool:
        """Whether a trial was stopped early, so that its value is an early one."""
        return STOPPED in self.states.values()


def rank(folder: SweepFolder, sweep: Sweep) -> list[Result]:
    """Points that were begun: those with all seeds at their end first, those stopped early behind them, the best first.

    Points without a value come last. A mean over some of the seeds is no result: it would favour the lucky.
    """
    by_number: dict[int, list[Standing]] = {}
    for standing in folder.standings().values():
        by_number.setdefault(standing.number, []).append(standing)
    sign = -1 if sweep.objective.mode == "max" else 1
    results = [_result(sweep, found) for found in by_number.values()]

    def order(result: Result) -> tuple[bool, bool, bool, float, int]:
        mean = result.mean
        worth = math.inf if mean is None else sign * mean
        return mean is None, not result.is_whole(len(sweep.seeds)), result.cut_short, worth, result.number

    return sorted(results, key=order)


def _result(sweep: Sweep, found: list[Standing]) -> Result:
    first = found[0]
    values = {each.seed: each.value for each in found if each.value is not None}
    states = {each.seed: each.state for each in found}
    command = shlex.join(["ivideogpt", *targets.words(sweep, first.point, sweep.seeds[0])])
    return Result(first.number, first.point, values, states, command)


def folders(result: Result) -> list[str]:
    """The names of a point's trials."""
    return [Trial(result.number, seed, result.point).name for seed in sorted(result.states)]


def show_value(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def show_setting(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def describe(sweep: Sweep, result: Result) -> str:
    """A point in a line: its value, and what it was."""
    spread = "" if result.spread is None else f" ± {show_value(result.spread)}"
    seeds = f" over {len(result.values)} of {len(sweep.seeds)} seeds" if len(sweep.seeds) > 1 else ""
    settings = ", ".join(f"{name} {show_setting(value)}" for name, value in result.point.items())
    early = ", stopped early" if result.cut_short else ""
    return f"{sweep.objective.name} {show_value(result.mean)}{spread}{seeds}{early}: {settings or 'fixed settings'}"
