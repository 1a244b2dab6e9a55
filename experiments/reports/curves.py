"""Algorithms side by side: learning curves over several seeds, and when each run first solved its task."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.errors import UsageError
from experiments.reports import statistics, tables
from experiments.reports.columns import align
from experiments.reports.plots import AXES, COLOURS, STYLE, axis_label, in_axis_units

Row = Mapping[str, Any]
"""An evaluation, as `tables.rows` makes them."""
AnyRow = TypeVar("AnyRow", bound=Row)

RUN = ("task", "algorithm", "preset", "seed")
"""What tells one run from another, with its settings."""
Run = tuple[str, str, str, str, tuple[str, ...]]
"""The values of `RUN`, and the settings: `name=value` each, with the world model that it started from among them."""
Group = tuple[str, str, tuple[str, ...]]
"""What runs have in common that differ in task and seed alone: algorithm, preset, settings."""
MEASURED = {"success": "success of evaluation episodes", "return": "return of evaluation episodes"}
"""What there are curves of, and how it is called on an axis."""
SOLVED = 0.8
"""Share of the evaluation episodes from which a task counts as solved."""


def read_table(path: str | os.PathLike) -> list[Row]:
    """The rows of a CSV file that `ivideogpt report --csv` wrote. Raises UsageError where it is something else."""
    rows = tables.read(path, (*tables.AGENT, *AXES, *MEASURED), "agents' runs")
    try:
        return [row | {name: float(row[name]) for name in (*AXES, *MEASURED)} for row in rows]
    except ValueError as error:
        raise UsageError(f"{path} holds something that is no number: {error}") from error


def group_rows(rows: Iterable[Row]) -> dict[Run, list[Row]]:
    """The evaluations of each run in the order of their steps; runs by task, algorithm, preset, seed and settings."""
    ordered = sorted(rows, key=lambda row: (*run_of(row), float(row["agent_steps"])))  # a file's cells are words
    return {run: list(group) for run, group in itertools.groupby(ordered, key=run_of)}


def run_of(row: Row) -> Run:
    """The run that an evaluation is of."""
    task, algorithm, preset, seed = (str(row[name]) for name in RUN)
    pretrained = [f"pretrained={row['pretrained']}"] if row["pretrained"] else []
    return task, algorithm, preset, seed, tuple(sorted([*row["settings"].split(), *pretrained]))


def group_of(run: Run) -> Group:
    """The group that a run belongs to."""
    return run[1], run[2], run[4]


LABELLED = 3
"""Settings that a name holds, where so many tell the groups apart; more are told beside it."""


WHO_IMAGINES = "mbpo.model.imagination"
"""Named first where it tells groups apart, whatever else does."""


def labels(runs: Iterable[Run]) -> dict[Group, str]:
    """Names of the groups of runs: as much as tells those of one algorithm apart."""
    return {group: name for group, (name, _) in _named(runs).items()}


def settings_beside(runs: Iterable[Run]) -> dict[str, list[str]]:
    """By the name of a group, settings of its own that the name leaves out, where it leaves out some."""
    return {name: left_out for name, left_out in _named(runs).values() if left_out}


def _named(runs: Iterable[Run]) -> dict[Group, tuple[str, list[str]]]:
    """Each group's name, and what of its own settings the name leaves out."""
    groups = sorted({group_of(run) for run in runs})
    named = {}
    for algorithm, alike in itertools.groupby(groups, key=lambda group: group[0]):
        members = list(alike)
        shared = set.intersection(*(set(settings) for _, _, settings in members))
        own = {group: [setting for setting in group[2] if setting not in shared] for group in members}
        several = len({preset for _, preset, _ in members}) > 1
        told = _telling(own)
        for group, settings in own.items():
            shown = [each for each in settings if _name(each) in told]
            name = ", ".join([algorithm, *([group[1]] if several else []), *shown])
            named[group] = name, [each for each in settings if each not in shown]
    return named


def _telling(own: Mapping[Group, Sequence[str]]) -> set[str]:
    """Names of the settings to show: all, but for long lists the fewest that tell the groups apart, if few do."""
    names = sorted({_name(each) for settings in own.values() for each in settings})
    names.sort(key=lambda name: name != WHO_IMAGINES)
    if max(map(len, own.values())) <= LABELLED:
        return set(names)
    for few in itertools.chain(*(itertools.combinations(names, size) for size in range(1, LABELLED + 1))):
        shown = {(group[1], *(each for each in settings if _name(each) in few)) for group, settings in own.items()}
        if len(shown) == len(own):
            return set(few)
    return set(names)


def _name(setting: str) -> str:
    return setting.partition("=")[0]


def find_solved(lines: Iterable[AnyRow], success: str = "success") -> AnyRow | None:
    """The first evaluation that solves the task: at least SOLVED of its episodes, a share that it holds under the name
    `success`, succeed. None where there is none."""
    return next((line for line in lines if line.get(success, 0) >= SOLVED), None)


def summarize(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """A line for each run: where it first solved its task (empty: nowhere), and how it ended."""
    lines = []
    for run, evaluations in group_rows(rows).items():
        found = find_solved(evaluations)
        when = {name: "" if found is None else found[name] for name in AXES}
        ended = {"last_agent_steps": evaluations[-1]["agent_steps"], "last_success": evaluations[-1]["success"]}
        lines.append(dict(zip((*RUN, "settings"), run, strict=True)) | when | ended)
    return lines


def draw(rows: Sequence[Row], over: str = "env_steps", of: str = "success") -> Figure:
    """Success or return against steps or time, a picture for each task.

    Every seed is thin, their interquartile mean thick. From three seeds on, the 95% interval of that mean is shaded
    (percentile bootstrap over seeds; Agarwal et al., 2021).
    """
    runs = group_rows(rows)
    tasks = sorted({run[0] for run in runs})
    names = labels(runs)
    with matplotlib.rc_context(STYLE):
        # Below each picture is its legend, whose lines are as long as the settings that tell runs apart.
        wide, high = max(3.6, 1.4 + 0.065 * max(map(len, names.values()), default=0)), 2.9 + 0.16 * len(names)
        figure = Figure(figsize=(wide * len(tasks), high), layout="constrained")
        grid = figure.subplots(1, len(tasks), sharey=of == "success", squeeze=False)
        for axes, task in zip(grid[0], tasks, strict=True):
            for number, (group, name) in enumerate(names.items()):
                seeds = [each for run, each in runs.items() if (run[0], group_of(run)) == (task, group)]
                if seeds:
                    label = f"{name} ({len(seeds)} {'seeds' if len(seeds) > 1 else 'seed'})"
                    _draw_seeds(axes, seeds, over, of, COLOURS[number % len(COLOURS)], label)
            if of == "success":
                axes.axhline(SOLVED, linestyle=":", linewidth=1, color=STYLE["text.color"])
                axes.set_ylim(-0.03, 1.03)
                axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set(title=task, xlabel=axis_label(over))
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.22), borderaxespad=0)
        figure.axes[0].set_ylabel(MEASURED[of])
    return figure


def _draw_seeds(axes: Axes, seeds: list[list[Row]], over: str, of: str, colour: str, label: str) -> None:
    for evaluations in seeds:
        x = in_axis_units(np.array([row[over] for row in evaluations]), over)
        axes.plot(x, [row[of] for row in evaluations], color=colour, alpha=0.35, linewidth=0.8)
    x, measured = _together(seeds, over, of)
    if not len(x):
        return
    middle, low, high = statistics.estimate_curve(statistics.curve_of_pooled, measured[:, None])
    axes.plot(in_axis_units(x, over), middle, color=colour, marker="o", markersize=3, label=label)
    if low is not None and high is not None:
        axes.fill_between(in_axis_units(x, over), low, high, color=colour, alpha=0.12, linewidth=0)


def _together(seeds: list[list[Row]], over: str, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Where all seeds were evaluated at the same agent step: x [T] (mean over seeds), what was measured [seeds, T]."""
    common = sorted(set.intersection(*({row["agent_steps"] for row in each} for each in seeds)))
    by_step = [{row["agent_steps"]: row for row in each} for each in seeds]
    x = np.array([[rows[step][over] for step in common] for rows in by_step]).mean(0)
    return x, np.array([[rows[step][of] for step in common] for rows in by_step])


def as_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """What `summarize` found, for a terminal; settings only where they tell runs of an algorithm apart."""
    runs: list[Run] = [
        (line["task"], line["algorithm"], line["preset"], line["seed"], line["settings"]) for line in lines
    ]
    names = labels(runs)
    head = (*RUN, "agent steps", "env steps", "minutes", "success at the end")
    table = [head, *(_cells(line, names[group_of(run)]) for run, line in zip(runs, lines, strict=True))]
    return "\n".join(align(table))


def _cells(line: Mapping[str, Any], name: str) -> tuple[str, ...]:
    when = (_whole(line["agent_steps"]), _whole(line["env_steps"]), _minutes(line["wall_seconds"]))
    ended = f"{line['last_success']:.0%} at {_whole(line['last_agent_steps'])}"
    return (line["task"], name, line["preset"], line["seed"], *when, ended)


def _whole(value: float | str) -> str:
    return "never" if isinstance(value, str) else f"{value:.0f}"


def _minutes(value: float | str) -> str:
    return "" if isinstance(value, str) else f"{value / 60:.1f}"
