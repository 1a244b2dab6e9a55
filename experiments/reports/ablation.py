"""Each option against its absence: runs that differ from those of one setting in an option, in pairs of one seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from experiments.reports import curves
from experiments.reports.imagination_gain import (
    MEASURES,
    Areas,
    areas_of,
    gain_of,
    mean_in_words,
    steps_of,
)
from experiments.reports.statistics import Interval


@dataclasses.dataclass(frozen=True)
class Ablated:
    """The runs of one setting on a task, beside those of the setting that the table begins with."""

    task: str
    changed: tuple[str, ...]  # settings that the first one does not have, and `no NAME` for those that only it has
    areas: Areas  # over the policy's evaluations
    differences: Mapping[str, Interval]  # by measure: to the first setting, seed by seed


def find(rows: Iterable[curves.Row]) -> list[Ablated]:
    """A line for each setting on each task. A task's first run has the setting that the others are compared with.

    Runs that were not evaluated at the same steps as that one are left out.
    """
    rows = list(rows)
    found: dict[str, dict[curves.Group, dict[str, list[curves.Row]]]] = {}
    for run, evaluations in curves.group_rows(rows).items():
        acting = [row for row in evaluations if int(row["env_steps"]) > 0]
        found.setdefault(run[0], {}).setdefault(curves.group_of(run), {})[run[3]] = acting
    begin = {task: curves.group_of(curves.run_of(next(row for row in rows if row["task"] == task))) for task in found}
    return [line for task, groups in found.items() for line in _of_task(task, begin[task], groups)]


def _of_task(
    task: str, begin: curves.Group, groups: Mapping[curves.Group, Mapping[str, list[curves.Row]]]
) -> Iterable[Ablated]:
    steps = steps_of(next(iter(groups[begin].values())))
    base: Areas = {}
    for group in (begin, *(each for each in groups if each != begin)):
        runs = {seed: run for seed, run in groups[group].items() if steps_of(run) == steps}
        if not runs:
            continue
        areas = areas_of(runs)
        base = base or areas
        differences = {name: gain_of(areas[name], base[name]) for name in MEASURES}
        yield Ablated(task, _changes(begin, group), areas, differences)


def _changes(begin: curves.Group, group: curves.Group) -> tuple[str, ...]:
    more = [each for each in group[2] if each not in begin[2]]
    named = {each.partition("=")[0] for each in group[2]}
    lacking = [f"no {name}" for each in begin[2] if (name := each.partition("=")[0]) not in named]
    return tuple([*([group[0]] if group[0] != begin[0] else []), *more, *lacking])


HEAD = ("task", "changed", "seeds", "area of success", "more than above", "area of return", "more than above")


def cells(line: Ablated) -> list[str]:
    """A line as words, in the order of HEAD."""
    words = [line.task, ", ".join(f"`{each}`" for each in line.changed) or "nothing", str(len(line.areas["success"]))]
    for name, scale in MEASURES.items():
        words.append(mean_in_words(line.areas, name))
        words.append(line.differences[name].in_words(".0f", scale) if line.changed else "")
    return words
