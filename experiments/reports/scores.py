"""Evaluations as scores that can be compared: which runs there are, how far they are compared, what is not alike.

The score of a run is the share of evaluation episodes that succeed. It needs no normalising, so tasks can be pooled;
the returns of two tasks have no common unit and are never pooled.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from experiments.reports import curves, protocols
from experiments.reports.plots import AXES


@dataclasses.dataclass(frozen=True)
class ScoredRun:
    """One run's evaluations, in the order of their steps."""

    method: str  # algorithm, with the settings that tell it from others of its name
    task: str
    seed: str
    preset: str
    over: Mapping[str, np.ndarray]  # by the names of AXES that are known: [N] each
    success: np.ndarray  # [N] in [0, 1]
    protocol: protocols.Protocol

    @property
    def end(self) -> float:
        """The environment step of the last evaluation."""
        return float(self.over["env_steps"][-1])

    def success_at(self, points: np.ndarray, over: str = "env_steps") -> np.ndarray:
        """What the last evaluation up to each point found; before the first one, what that found."""
        return self.success[np.maximum(np.searchsorted(self.over[over], points, side="right") - 1, 0)]

    def final(self, budget: float) -> float:
        """Success at a budget."""
        return float(self.success_at(np.array([budget]))[0])

    def area(self, budget: float) -> float:
        """Mean success from the first evaluation to the budget, by straight lines between evaluations: in [0, 1]."""
        steps = self.over["env_steps"]
        if budget <= steps[0]:
            return float(self.success[0])
        inside = steps < budget
        x = np.append(steps[inside], budget)
        y = np.append(self.success[inside], np.interp(budget, steps, self.success))
        return mean_over(x, y)

    def solved(self, over: str = "env_steps") -> float:
        """Where the first evaluation of at least SOLVED is; infinite where there is none (a censored run)."""
        found = np.flatnonzero(self.success >= curves.SOLVED)
        return float(self.over[over][found[0]]) if len(found) else np.inf


def mean_over(steps: np.ndarray, values: np.ndarray) -> float:
    """Mean from the first step to the last, by straight lines between them; of one step, its value."""
    if len(steps) == 1:
        return float(values[0])
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))


@dataclasses.dataclass(frozen=True)
class Note:
    """Something that is not alike between the runs, and on which tasks."""

    what: str
    tasks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Panel:
    """Methods that all were run on the same tasks: they can be pooled over these."""

    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    runs: tuple[ScoredRun, ...]

    def budget(self, task: str) -> float:
        """Environment steps up to which the task's runs are compared: where the shortest of them ends."""
        return shared_end([run for run in self.runs if run.task == task])

    def seeds(self, method: str) -> tuple[str, ...]:
        """Seeds of a method that all tasks have."""
        found = [{run.seed for run in self.of(method, task)} for task in self.tasks]
        return tuple(sorted(set.intersection(*found), key=_by_number))

    def of(self, method: str, task: str) -> tuple[ScoredRun, ...]:
        """A method's runs on a task."""
        return tuple(run for run in self.runs if (run.method, run.task) == (method, task))

    def grid(self, method: str) -> list[list[ScoredRun]]:
        """A method's runs, seed by seed [R] and in them task by task [T]."""
        by_place = {(run.seed, run.task): run for run in self.runs if run.method == method}
        return [[by_place[seed, task] for task in self.tasks] for seed in self.seeds(method)]

    def final(self, method: str) -> np.ndarray:
        """Success at the tasks' budgets, [R, T]."""
        return np.array([[run.final(self.budget(run.task)) for run in runs] for runs in self.grid(method)])

    def areas(self, method: str) -> np.ndarray:
        """Areas under the curves up to the tasks' budgets, [R, T]."""
        return np.array([[run.area(self.budget(run.task)) for run in runs] for runs in self.grid(method)])


def shared_end(runs: Collection[ScoredRun], over: str = "env_steps") -> float:
    """How far all of the runs were watched."""
    return float(min(run.over[over][-1] for run in runs))


def score(rows: Sequence[curves.Row]) -> tuple[list[ScoredRun], list[Note]]:
    """The runs that these evaluations are of, and which of them came more than once: of those the first counts."""
    found: dict[curves.Run, list[list[curves.Row]]] = {}
    for row in rows:
        copies = found.setdefault(curves.run_of(row), [])
        if not copies or row["agent_steps"] <= copies[-1][-1]["agent_steps"]:
            copies.append([])
        copies[-1].append(row)
    names = curves.labels(found)
    scored: list[ScoredRun] = []
    notes = [Note(f"{method} also has {', '.join(more)}", ()) for method, more in curves.settings_beside(found).items()]
    for run, (first, *others) in found.items():
        method = names[curves.group_of(run)]
        scored.append(_scored(method, first))
        if others:
            text = f"{method}, seed {run[3]}, is there {1 + len(others)} times: the first one is counted"
            notes.append(Note(text, (run[0],)))
    order = {method: number for number, method in enumerate(dict.fromkeys(sorted(run.method for run in scored)))}
    return sorted(scored, key=lambda run: (run.task, order[run.method], _by_number(run.seed))), notes


def _scored(method: str, rows: Sequence[curves.Row]) -> ScoredRun:
    return ScoredRun(
        method=method,
        task=str(rows[0]["task"]),
        seed=str(rows[0]["seed"]),
        preset=str(rows[0]["preset"]),
        over={name: np.array([row[name] for row in rows], np.float64) for name in AXES},
        success=np.array([row["success"] for row in rows], np.float64),
        protocol=protocols.of_row(rows[-1]),
    )


def panels(runs: Sequence[ScoredRun]) -> list[Panel]:
    """Tasks by the set of methods that were run on them: those of one panel have the same methods."""
    by_methods: dict[tuple[str, ...], list[str]] = {}
    for task in sorted({run.task for run in runs}):
        by_methods.setdefault(methods_of([run for run in runs if run.task == task]), []).append(task)
    return [
        Panel(methods, tuple(tasks), tuple(run for run in runs if run.task in tasks))
        for methods, tasks in sorted(by_methods.items(), key=lambda each: (-len(each[0]), -len(each[1]), each[0]))
    ]


def methods_of(runs: Iterable[ScoredRun]) -> tuple[str, ...]:
    return tuple(sorted({run.method for run in runs}))


def differences(runs: Sequence[ScoredRun]) -> list[Note]:
    """All that is not alike between the runs of a task, the same sentence once for all tasks that it is true of."""
    said: dict[str, list[str]] = {}
    for task in sorted({run.task for run in runs}):
        here = [run for run in runs if run.task == task]
        for what in (*_budgets(here), *_seeds(here), *_spacing(here), *_protocols(here)):
            said.setdefault(what, []).append(task)
    missing = [
        f"{method} was not run on {', '.join(lacking)}: it is pooled with others only over the tasks they share"
        for method in methods_of(runs)
        if (lacking := sorted({run.task for run in runs} - {run.task for run in runs if run.method == method}))
    ]
    return [*(Note(what, ()) for what in missing), *(Note(what, tuple(tasks)) for what, tasks in said.items())]


def _budgets(runs: Sequence[ScoredRun]) -> Iterable[str]:
    shortest, longest = min(runs, key=lambda run: run.end), max(runs, key=lambda run: run.end)
    if shortest.end < longest.end:
        yield (
            f"unequal budgets: compared up to environment step {shortest.end:,.0f}, where {shortest.method}, seed "
            f"{shortest.seed}, ends; what comes later, up to {longest.end:,.0f}, counts in curves alone"
        )


def _seeds(runs: Sequence[ScoredRun]) -> Iterable[str]:
    seeds = {method: sorted({run.seed for run in runs if run.method == method}, key=_by_number)
             for method in methods_of(runs)}  # fmt: skip
    if len({tuple(each) for each in seeds.values()}) > 1:
        yield "unequal seeds: " + "; ".join(f"{method} has {', '.join(each)}" for method, each in seeds.items())


def _spacing(runs: Sequence[ScoredRun]) -> Iterable[str]:
    gaps = {run.method: float(np.diff(run.over["env_steps"]).max(initial=0)) for run in runs}
    if len(set(gaps.values())) > 1:
        listed = "; ".join(f"{method} at most every {gap:,.0f}" for method, gap in gaps.items())
        yield f"unequal evaluations, so first at 80% is known more or less exactly: {listed} environment steps"


def _protocols(runs: Sequence[ScoredRun]) -> Iterable[str]:
    presets: dict[str, list[str]] = {}
    for method, preset in {run.method: run.preset for run in runs}.items():
        presets.setdefault(preset, []).append(method)
    fields = [("preset", presets)] if len(presets) > 1 else []
    for field, owners in [*fields, *protocols.differing({run.method: run.protocol for run in runs})]:
        listed = "; ".join(f"{', '.join(methods)}: {value}" for value, methods in owners.items())
        yield f"unequal {field.replace('_', ' ')}: {listed}"
    for method, each in itertools.groupby(sorted(runs, key=lambda run: run.method), key=lambda run: run.method):
        if protocols.differing({run.seed: run.protocol for run in each}):
            yield f"the seeds of {method} do not all have the same protocol"


def _by_number(seed: str) -> tuple[int, str]:
    return (int(seed) if seed.isdigit() else -1, seed)
