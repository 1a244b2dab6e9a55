"""What runs say about their methods: pooled over tasks, task by task, and in pairs of one seed; as numbers and CSV.

Steps to 80% of runs that never got there are not known (censored). Leaving such runs out would favour the method that
fails more often, so every run counts with its steps or with the budget, whichever is less: the mean is the restricted
mean, in steps that anyone can read, and its difference between pairs keeps the seeds paired. A log-rank test would not:
it knows neither pairs nor by how much, and with three seeds it can hardly reject anything.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from experiments.reports import statistics, tables
from experiments.reports.scores import Note, Panel, ScoredRun, differences, methods_of, panels, score, shared_end
from experiments.reports.statistics import Interval


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """A method over all tasks of a panel."""

    method: str
    seeds: int
    iqm: Interval  # of success at the budget
    mean: Interval
    gap: Interval
    area: Interval  # interquartile mean of the areas under the curves

    @property
    def named(self) -> dict[str, Interval]:
        return {
            "interquartile mean": self.iqm,
            "mean": self.mean,
            "optimality gap": self.gap,
            "area under the curve": self.area,
        }


@dataclasses.dataclass(frozen=True)
class Solved:
    """When runs first solved their task: restricted mean, and how many never did."""

    mean: Interval
    horizon: float  # up to where all were watched
    runs: int
    censored: int


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """A method on one task."""

    task: str
    method: str
    budget: float  # environment steps
    seeds: tuple[str, ...]
    success: Interval
    area: Interval
    steps: Solved
    seconds: Solved


@dataclasses.dataclass(frozen=True)
class Improvement:
    """How likely a run of one method beats one of the other on a task of their panel."""

    first: str
    second: str
    chance: Interval


@dataclasses.dataclass(frozen=True)
class PairedResult:
    """First minus second, over pairs of runs of the same task and seed."""

    first: str
    second: str
    tasks: tuple[str, ...]
    pairs: int
    unpaired: int  # runs on these tasks whose seed the other method has not
    success: Interval
    area: Interval
    steps: Interval
    seconds: Interval
    censored: tuple[int, int]  # pairs in which the first, the second had not solved the task within the budget


@dataclasses.dataclass(frozen=True)
class PanelResult:
    """A panel with what was found of it."""

    panel: Panel
    aggregates: tuple[Aggregate, ...]
    improvements: tuple[Improvement, ...]


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that a page or a CSV file says of a set of runs."""

    runs: tuple[ScoredRun, ...]
    methods: tuple[str, ...]
    notes: tuple[Note, ...]
    panels: tuple[PanelResult, ...]
    tasks: tuple[TaskResult, ...]
    pairs: tuple[PairedResult, ...]


def find(rows: Sequence) -> Findings:
    """All of it, from agents' evaluations as `tables.rows` or `curves.read_table` give them."""
    runs, repeated = score(rows)
    parts = panels(runs)
    return Findings(
        runs=tuple(runs),
        methods=methods_of(runs),
        notes=(*repeated, *differences(runs)),
        panels=tuple(_pool(panel) for panel in parts),
        tasks=tuple(result for panel in parts for task in panel.tasks for result in _on_task(panel, task)),
        pairs=tuple(_pairs(runs)),
    )


def _pool(panel: Panel) -> PanelResult:
    """Over the seeds that a method has on all tasks; a method without such a seed has no line."""
    final = {method: panel.final(method) for method in panel.methods if panel.seeds(method)}
    pooled = statistics.pooled_interquartile_mean
    aggregates = [
        Aggregate(
            method=method,
            seeds=len(scores),
            iqm=statistics.estimate(pooled, scores),
            mean=statistics.estimate(statistics.pooled_mean, scores),
            gap=statistics.estimate(statistics.optimality_gap, scores),
            area=statistics.estimate(pooled, panel.areas(method)),
        )
        for method, scores in final.items()
    ]
    improvements = [
        Improvement(x, y, statistics.estimate(statistics.probability_of_improvement, final[x], final[y]))
        for x, y in itertools.combinations(final, 2)
    ]
    return PanelResult(panel, tuple(aggregates), tuple(improvements))


def _on_task(panel: Panel, task: str) -> Iterator[TaskResult]:
    everyone = [run for run in panel.runs if run.task == task]
    budget = shared_end(everyone)
    for method in panel.methods:
        runs = panel.of(method, task)
        yield TaskResult(
            task=task,
            method=method,
            budget=budget,
            seeds=tuple(run.seed for run in runs),
            success=_mean([run.final(budget) for run in runs]),
            area=_mean([run.area(budget) for run in runs]),
            steps=_solved(runs, "env_steps", budget),
            seconds=_solved(runs, "wall_seconds", shared_end(everyone, "wall_seconds")),
        )


def _solved(runs: Sequence[ScoredRun], over: str, horizon: float) -> Solved:
    times = np.array([run.solved(over) for run in runs])
    return Solved(_mean(statistics.restricted(times, horizon)), horizon, len(times), int((times > horizon).sum()))


def _mean(values: Sequence[float] | np.ndarray) -> Interval:
    return statistics.estimate(statistics.pooled_mean, np.array(values, np.float64)[:, None])


Pairs = list[tuple[ScoredRun, ScoredRun]]


def _pairs(runs: Sequence[ScoredRun]) -> Iterator[PairedResult]:
    by_place = {(run.method, run.task, run.seed): run for run in runs}
    for first, second in itertools.combinations(methods_of(runs), 2):
        by_task: dict[str, Pairs] = {}
        for run in runs:
            if run.method == first and (other := by_place.get((second, run.task, run.seed))) is not None:
                by_task.setdefault(run.task, []).append((run, other))
        if by_task:
            there = sum(run.method in (first, second) and run.task in by_task for run in runs)
            yield _paired(first, second, by_task, there)


def _paired(first: str, second: str, by_task: dict[str, Pairs], there: int) -> PairedResult:
    """there: how many runs there are of both methods on these tasks. A task's pairs end where its shortest run does."""
    count = sum(map(len, by_task.values()))
    watched = {task: [run for pair in pairs for run in pair] for task, pairs in by_task.items()}
    budgets = {task: shared_end(runs) for task, runs in watched.items()}
    ends = {task: shared_end(runs, "wall_seconds") for task, runs in watched.items()}

    def difference(value: Callable[[ScoredRun], float]) -> Interval:
        return statistics.mean_difference(
            [np.array([value(a) - value(b) for a, b in pairs]) for pairs in by_task.values()]
        )

    return PairedResult(
        first=first,
        second=second,
        tasks=tuple(by_task),
        pairs=count,
        unpaired=there - 2 * count,
        success=difference(lambda run: run.final(budgets[run.task])),
        area=difference(lambda run: run.area(budgets[run.task])),
        steps=difference(lambda run: min(run.solved(), budgets[run.task])),
        seconds=difference(lambda run: min(run.solved("wall_seconds"), ends[run.task])),
        censored=(
            sum(a.solved() > budgets[a.task] for pairs in by_task.values() for a, _ in pairs),
            sum(b.solved() > budgets[b.task] for pairs in by_task.values() for _, b in pairs),
        ),
    )


COLUMNS: tuple[str, ...] = (
    "table",
    "tasks",
    "method",
    "other",
    "statistic",
    "value",
    "low",
    "high",
    "runs",
    "censored",
    "budget",
)


def as_csv(found: Findings) -> str:
    """A line for each number: which table of the page it is in, of whom, and its interval (empty: too few seeds)."""
    return tables.csv_text(COLUMNS, _lines(found))


def _lines(found: Findings) -> Iterable[dict[str, object]]:
    for part in found.panels:
        tasks = {"tasks": " ".join(part.panel.tasks)}
        for each in part.aggregates:
            who = tasks | {"table": "pooled", "method": each.method, "runs": each.seeds * len(part.panel.tasks)}
            yield from (who | {"statistic": name} | _cells(value) for name, value in each.named.items())
        for each in part.improvements:
            who = tasks | {"table": "pooled", "method": each.first, "other": each.second}
            yield who | {"statistic": "probability of improvement"} | _cells(each.chance)
    for each in found.tasks:
        who = {"table": "task", "tasks": each.task, "method": each.method, "runs": len(each.seeds)}
        who["budget"] = f"{each.budget:.0f}"
        yield who | {"statistic": "success"} | _cells(each.success)
        yield who | {"statistic": "area under the curve"} | _cells(each.area)
        yield who | {"statistic": "environment steps to 80%"} | _solved_cells(each.steps)
        yield who | {"statistic": "seconds to 80%"} | _solved_cells(each.seconds)
    for each in found.pairs:
        who = {"table": "paired", "tasks": " ".join(each.tasks), "method": each.first, "other": each.second}
        who["runs"] = str(2 * each.pairs)
        yield who | {"statistic": "difference of success"} | _cells(each.success)
        yield who | {"statistic": "difference of area under the curve"} | _cells(each.area)
        censored = {"censored": sum(each.censored)}
        yield who | {"statistic": "difference of environment steps to 80%"} | _cells(each.steps) | censored
        yield who | {"statistic": "difference of seconds to 80%"} | _cells(each.seconds)


def _cells(estimate: Interval) -> dict[str, object]:
    names = ("value", "low", "high")
    return {name: round(number, 6) for name in names if (number := getattr(estimate, name)) is not None}


def _solved_cells(solved: Solved) -> dict[str, object]:
    return _cells(solved.mean) | {"censored": solved.censored, "budget": f"{solved.horizon:.0f}"}
