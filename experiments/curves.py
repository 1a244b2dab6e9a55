"""Algorithms side by side: learning curves over several seeds, and when each run first solved its task."""

from __future__ import annotations

import csv
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments.errors import UsageError
from experiments.report_plots import AXES, COLOURS, STYLE, axis_label, in_axis_units

Row = Mapping[str, Any]
"""An evaluation, as `summary.rows` makes them."""

RUN = ("task", "algorithm", "preset", "seed")
"""What tells one run from another, with the other settings of its command."""
Run = tuple[str, str, str, str, tuple[str, ...]]
"""The values of `RUN`, and the settings."""
MEASURED = {"success": "success of evaluation episodes", "return": "return of evaluation episodes"}
"""What there are curves of, and how it is called on an axis."""
SOLVED = 0.8
"""Share of the evaluation episodes from which a task counts as solved."""


def read_table(path: str | os.PathLike) -> list[Row]:
    """The rows of a CSV file that `ivideogpt report --csv` wrote. Raises UsageError where it is something else."""
    try:
        rows = list(csv.DictReader(pathlib.Path(path).read_text().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}") from error
    needed = {*RUN, *AXES, *MEASURED}
    if not rows or not needed <= set(rows[0]):
        raise UsageError(f"{path} is no table of evaluations: 'ivideogpt report RUN... --csv FILE' writes those")
    try:
        return [row | {name: float(row[name]) for name in (*AXES, *MEASURED)} for row in rows]
    except ValueError as error:
        raise UsageError(f"{path} holds something that is no number: {error}") from error


def runs_of(rows: Iterable[Row]) -> dict[Run, list[Row]]:
    """The evaluations of each run in the order of their steps; runs by task, algorithm, preset, seed and settings."""
    ordered = sorted(rows, key=lambda row: (*_run(row), row["agent_steps"]))
    return {run: list(group) for run, group in itertools.groupby(ordered, key=_run)}


def _run(row: Row) -> Run:
    return (*(str(row[name]) for name in RUN), settings(str(row.get("command", ""))))


def settings(command: str) -> tuple[str, ...]:
    """The flags of a command, with their values, that no column of a table holds; in alphabetical order."""
    flags = re.split(r"\s+(?=--)", command)[1:]
    own = {"run-dir", "mbpo.agent-steps", "mbpo.evaluation-episodes", *RUN}
    return tuple(sorted(flag for flag in flags if re.split(r"[=\s]", flag.removeprefix("--"))[0] not in own))


def _kind(run: Run) -> tuple:
    """What runs have in common that differ in task and seed alone: algorithm, preset, settings."""
    return run[1], run[2], run[4]


def labels(runs: Iterable[Run]) -> dict[tuple, str]:
    """Names of the kinds of runs: as much as tells those of one algorithm apart."""
    kinds = sorted({_kind(run) for run in runs})
    names = {}
    for algorithm, preset, flags in kinds:
        alike = [kind for kind in kinds if kind[0] == algorithm]
        shared = set.intersection(*(set(kind[2]) for kind in alike))
        own = [flag.removeprefix("--") for flag in flags if flag not in shared]
        several = len({kind[1] for kind in alike}) > 1
        names[algorithm, preset, flags] = ", ".join([algorithm, *([preset] if several else []), *own])
    return names


def first_solved(rows: Iterable[Row], share: float = SOLVED) -> list[dict[str, Any]]:
    """A line a run: where an evaluation first succeeds in `share` of its episodes (empty: nowhere), and how it ended."""
    lines = []
    for run, evaluations in runs_of(rows).items():
        found = next((row for row in evaluations if row["success"] >= share), None)
        when = {name: "" if found is None else found[name] for name in AXES}
        ended = {"last_agent_steps": evaluations[-1]["agent_steps"], "last_success": evaluations[-1]["success"]}
        lines.append(dict(zip((*RUN, "settings"), run, strict=True)) | when | ended)
    return lines


def draw(rows: Sequence[Row], over: str = "env_steps", of: str = "success") -> Figure:
    """Success or return against steps or time, a picture a task: every seed thin, their interquartile mean thick.

    From three seeds on, the 95% interval of that mean is shaded (percentile bootstrap over seeds; Agarwal et al., 2021).
    """
    runs = runs_of(rows)
    tasks = sorted({run[0] for run in runs})
    kinds = labels(runs)
    with matplotlib.rc_context(STYLE):
        # Below each picture is its legend, whose lines are as long as the settings that tell runs apart.
        wide, high = max(3.6, 1.4 + 0.065 * max(map(len, kinds.values()), default=0)), 2.9 + 0.16 * len(kinds)
        figure = Figure(figsize=(wide * len(tasks), high), layout="constrained")
        for axes, task in zip(figure.subplots(1, len(tasks), sharey=of == "success", squeeze=False)[0], tasks, strict=True):
            for number, (kind, name) in enumerate(kinds.items()):
                seeds = [each for run, each in runs.items() if (run[0], _kind(run)) == (task, kind)]
                if seeds:
                    said = f"{name} ({len(seeds)} {'seeds' if len(seeds) > 1 else 'seed'})"
                    _draw_seeds(axes, seeds, over, of, COLOURS[number % len(COLOURS)], said)
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
    axes.plot(in_axis_units(x, over), interquartile_mean(measured), color=colour, marker="o", markersize=3, label=label)
    if len(seeds) >= 3:
        low, high = interval(measured)
        axes.fill_between(in_axis_units(x, over), low, high, color=colour, alpha=0.12, linewidth=0)


def _together(seeds: list[list[Row]], over: str, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Where all seeds were evaluated at the same agent step: x [T] (mean over seeds), what was measured [seeds, T]."""
    common = sorted(set.intersection(*({row["agent_steps"] for row in each} for each in seeds)))
    by_step = [{row["agent_steps"]: row for row in each} for each in seeds]
    x = np.array([[rows[step][over] for step in common] for rows in by_step]).mean(0)
    return x, np.array([[rows[step][of] for step in common] for rows in by_step])


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean [..., T] over the middle half of the seeds of [..., seeds, T]; of three or fewer, over all."""
    from scipy import stats  # takes two seconds, which every command would wait for

    return stats.trim_mean(values, 0.25, axis=-2)


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95% interval [T] of `interquartile_mean`, by resampling seeds; the same numbers every time."""
    rng = np.random.default_rng(0)
    drawn = values[rng.integers(len(values), size=(2000, len(values)))]
    low, high = np.percentile(interquartile_mean(drawn), [2.5, 97.5], axis=0)
    return low, high


def as_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """`first_solved` for a terminal; settings only where they tell runs of an algorithm apart."""
    runs = [tuple(line[name] for name in (*RUN, "settings")) for line in lines]
    kinds = labels(runs)
    shown = [
        (line["task"], kinds[_kind(run)], line["preset"], line["seed"], _whole(line["agent_steps"]), _whole(line["env_steps"]),
         _minutes(line["wall_seconds"]), f"{line['last_success']:.0%} at {_whole(line['last_agent_steps'])}")
        for run, line in zip(runs, lines, strict=True)
    ]  # fmt: skip
    table = [(*RUN, "agent steps", "env steps", "minutes", "success at the end"), *shown]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def _whole(value: float | str) -> str:
    return "never" if value == "" else f"{value:.0f}"


def _minutes(value: float | str) -> str:
    return "" if value == "" else f"{value / 60:.1f}"
