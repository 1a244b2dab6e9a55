"""What imagination is worth on a task: how much more a method has than DrQ-v2 alone, and how much of that a perfect
model would bring, over pairs of runs of one seed."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.reports import curves
from experiments.reports.scores import mean_over
from experiments.reports.statistics import Interval, mean_difference

ALONE, BOUND = "drqv2", "simulator"
NAMES = {
    ALONE: "DrQ-v2 alone",
    BOUND: "the simulator as model",
    "learned": "the learned model",
    "copy-last": "copy-last",
    "dreamerv3": "DreamerV3",
}
"""By the algorithm, or for MBPO by what it imagines with; in the order of a table."""
MEASURES = {"success": 100, "return": 1}
"""By the column of an evaluation: what its table's unit is multiplied by."""


Areas = Mapping[str, Mapping[str, float]]
"""By measure and seed: the mean over the time between evaluations; of one evaluation, its value."""


@dataclasses.dataclass(frozen=True)
class Worth:
    """A method on a task, measured from the policy's first evaluation to the last."""

    task: str
    kind: str  # of NAMES
    steps: tuple[int, ...]  # environment steps of the evaluations
    curve: Mapping[str, np.ndarray]  # by measure: means over seeds [K]
    areas: Areas
    gains: Mapping[str, Interval]  # by measure: of its areas over those of DrQ-v2 alone, seed by seed
    shares: Mapping[str, float | None]  # by measure: of the simulator's gain, where its interval is above zero


def find(rows: Iterable[curves.Row]) -> list[Worth]:
    """A line for every method on every task that has runs of DrQ-v2 alone and of the simulator as model.

    A task is left out where one kind has runs of several settings; a run, where it was not evaluated at the same steps
    as the longest one of its task.
    """
    found: dict[str, dict[str, dict[str, list[curves.Row]]]] = {}
    mixed: set[str] = set()
    settings: dict[tuple[str, str], curves.Group] = {}
    for run, evaluations in curves.group_rows(rows).items():
        task, kind = run[0], _kind(run)
        learned = [row for row in evaluations if int(row["env_steps"]) > 0] or evaluations[-1:]  # offline, at step 0
        if settings.setdefault((task, kind), curves.group_of(run)) != curves.group_of(run):
            mixed.add(task)
        found.setdefault(task, {}).setdefault(kind, {})[run[3]] = learned
    alike = {task: _as_long(kinds) for task, kinds in found.items() if task not in mixed}
    return [line for task, kinds in alike.items() if {ALONE, BOUND} <= kinds.keys() for line in _of_task(task, kinds)]


def _kind(run: curves.Run) -> str:
    if run[1] != "mbpo":
        return run[1]
    return dict(setting.split("=", 1) for setting in run[4]).get("mbpo.model.imagination", "learned")


def steps_of(evaluations: Sequence[curves.Row]) -> tuple[int, ...]:
    return tuple(int(row["env_steps"]) for row in evaluations)


Runs = dict[str, list[curves.Row]]
"""Evaluations by seed."""


def _as_long(kinds: Mapping[str, Runs]) -> dict[str, Runs]:
    """The runs that were evaluated at the same steps as the longest of them."""
    longest = max((steps_of(run) for runs in kinds.values() for run in runs.values()), key=lambda steps: steps[-1:])
    kept = {kind: {seed: run for seed, run in runs.items() if steps_of(run) == longest} for kind, runs in kinds.items()}
    return {kind: runs for kind, runs in kept.items() if runs}


def _of_task(task: str, kinds: Mapping[str, Runs]) -> Iterable[Worth]:
    areas = {kind: areas_of(runs) for kind, runs in kinds.items()}
    gains = {
        kind: {name: gain_of(of_kind[name], areas[ALONE][name]) for name in MEASURES} for kind, of_kind in areas.items()
    }
    for kind in sorted(kinds, key=list(NAMES).index):
        runs = list(kinds[kind].values())
        yield Worth(
            task=task,
            kind=kind,
            steps=steps_of(runs[0]),
            curve={name: np.mean([[float(row[name]) for row in run] for run in runs], axis=0) for name in MEASURES},
            areas=areas[kind],
            gains=gains[kind],
            shares={name: _share(gains[kind][name], gains[BOUND][name]) for name in MEASURES},
        )


def areas_of(runs: Mapping[str, Sequence[curves.Row]]) -> Areas:
    """Of runs by seed, from their first evaluation to their last."""
    return {name: {seed: _area(run, name) for seed, run in runs.items()} for name in MEASURES}


def _area(evaluations: Sequence[curves.Row], name: str) -> float:
    return mean_over(np.array(steps_of(evaluations)), np.array([float(row[name]) for row in evaluations]))


def gain_of(one: Mapping[Any, float], other: Mapping[Any, float]) -> Interval:
    """How much more one has than the other, by seed: over the seeds that both have."""
    shared = sorted(one.keys() & other.keys())
    return mean_difference([np.array([one[seed] - other[seed] for seed in shared])]) if shared else Interval(np.nan)


def _share(gain: Interval, bound: Interval) -> float | None:
    return gain.value / bound.value if bound.value > 0 and bound.excludes_zero else None


HEAD = (
    "task", "imagination", "seeds", "success at the evaluations", "area of success", "more than DrQ-v2 alone",
    "area of return", "more than DrQ-v2 alone", "share of the simulator's gain",
)  # fmt: skip


def cells(line: Worth) -> list[str]:
    """A line as words, in the order of HEAD."""
    told = [line.task, NAMES[line.kind], str(len(line.areas["success"]))]
    told.append(", ".join(f"{100 * each:.0f}" for each in line.curve["success"]) + "%")
    for name, scale in MEASURES.items():
        told.append(mean_in_words(line.areas, name))
        told.append("" if line.kind == ALONE else line.gains[name].in_words(".0f", scale))
    shares = ["none" if share is None else f"{share:.0%}" for share in line.shares.values()]
    return [*told, "" if line.kind in (ALONE, BOUND) else ", ".join(shares)]


def verdicts(line: Worth) -> list[str]:
    """Of each cell `yes` or `no`, where it is a gain whose interval leaves out zero."""
    told = [[""] * 4]
    for name in MEASURES:
        gain = line.gains[name]
        told.append(["", ("yes" if gain.value > 0 else "no") if gain.excludes_zero else ""])
    return [*itertools.chain(*told), ""]


def mean_in_words(areas: Areas, name: str) -> str:
    """The mean over seeds of a measure's areas, in the units of a table."""
    return f"{MEASURES[name] * np.mean(list(areas[name].values())):.0f}" + ("%" if name == "success" else "")
