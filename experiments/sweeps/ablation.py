"""What an ablation found: every point against the first one of its task, seed by seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from experiments.reports.statistics import Interval, mean_difference
from experiments.sweeps import space
from experiments.sweeps.config import Sweep
from experiments.sweeps.results import Result, show_setting, show_value


@dataclasses.dataclass(frozen=True)
class Line:
    """A point, and how it differs from the one it is compared with."""

    where: Mapping[str, Any]  # the values of what the sweep goes through
    changed: Mapping[str, Any]  # settings that are not those of the first point there
    result: Result
    difference: Interval | None  # in the metric's own units; None of the first point, and without common seeds


def compare(sweep: Sweep, results: Iterable[Result]) -> list[Line]:
    """The points that have a result, in the order of the sweep; none of a sweep that is no ablation."""
    if sweep.search.kind != "ablation":
        return []
    found, first = {result.number: result for result in results if result.values}, {}
    through = [domain.name for domain in sweep.space if isinstance(domain, space.Values) and domain.gone_through]
    lines: list[Line] = []
    for number, point in enumerate(space.ablation(sweep.space)):
        where = {name: point[name] for name in through}
        begin, first_point = first.setdefault(tuple(where.values()), (number, point))
        if number in found:
            changed = {name: value for name, value in point.items() if first_point.get(name, ...) != value}
            difference = _difference(found[number], found.get(begin)) if changed else None
            lines.append(Line(where, changed, found[number], difference))
    return lines


def _difference(one: Result, other: Result | None) -> Interval | None:
    shared = sorted(one.values.keys() & other.values.keys()) if other else []
    if other is None or not shared:
        return None
    return mean_difference([np.array([one.values[seed] - other.values[seed] for seed in shared])])


def cells(line: Line) -> list[str]:
    """What was changed, the value, the difference with its interval, and the seeds, as words."""
    return [
        " ".join(f"{name}={show_setting(value)}" for name, value in {**line.where, **line.changed}.items())
        or "nothing",
        show_value(line.result.mean),
        _in_words(line.difference),
        str(len(line.result.values)),
    ]


def _in_words(found: Interval | None) -> str:
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.value:+.3g}"
    return f"{found.value:+.3g} ({found.low:+.3g} to {found.high:+.3g})"
