"""What an ablation found: every point against the one with the first value of everything, seed by seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from experiments.reports.columns import align
from experiments.reports.imagination_gain import gain_of
from experiments.reports.statistics import Interval
from experiments.sweeps import space
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import DONE
from experiments.sweeps.results import Result, show_setting, show_value


@dataclasses.dataclass(frozen=True)
class Line:
    """A point beside the one that it is compared with. Trials that are not at their end do not count."""

    where: Mapping[str, Any]  # the values of what the sweep goes through
    changed: Mapping[str, Any]  # settings that the other one does not have; none of the first point itself
    values: Mapping[int, float]  # by seed
    difference: Interval | None  # in the metric's own units; None where nothing is changed, or no seed is shared


def compare(sweep: Sweep, results: Iterable[Result]) -> list[Line]:
    """The points that have a result, in the order of the sweep; none of a sweep that is no ablation."""
    if sweep.search.kind != "ablation":
        return []
    values = {result.number: _of_whole_trials(result) for result in results}
    through, points = space.gone_through(sweep.space), space.ablation(sweep.space)
    lines: list[Line] = []
    for number, point in enumerate(points):
        if not values.get(number):
            continue
        where = {name: point[name] for name in through if name in point}
        begin = next(k for k, first in enumerate(points) if where.items() <= {**where, **first}.items())
        changed = {name: value for name, value in point.items() if points[begin].get(name, ...) != value}
        shared = values[number].keys() & values.get(begin, {}).keys()
        difference = gain_of(values[number], values[begin]) if changed and shared else None
        lines.append(Line(where, changed, values[number], difference))
    return lines


def _of_whole_trials(result: Result) -> dict[int, float]:
    return {seed: value for seed, value in result.values.items() if result.states[seed] == DONE}


def as_text(sweep: Sweep, lines: Iterable[Line]) -> str:
    """The table, for a terminal."""
    return "\n".join(align([head(sweep), *map(cells, lines)]))


def head(sweep: Sweep) -> list[str]:
    """What `cells` has of each line."""
    return ["changed", sweep.objective.name, "difference", "seeds"]


def cells(line: Line) -> list[str]:
    """What was changed, the mean value, the difference with its interval, and the seeds, as words."""
    settings = {**line.where, **line.changed}
    return [
        " ".join(f"{name}={show_setting(value)}" for name, value in settings.items()) or "nothing",
        show_value(float(np.mean(list(line.values.values())))),
        "" if line.difference is None else line.difference.in_words(".3g"),
        str(len(line.values)),
    ]
