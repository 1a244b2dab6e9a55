"""`ivideogpt adaptation`: does pre-training help? Errors of models by what they began with and by how much they saw."""

from __future__ import annotations

import csv
import os
import pathlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.errors import UsageError
from experiments.report_plots import COLOURS, STYLE

BEGINNINGS = ("from scratch", "zero-shot", "tokenizer", "transformer", "full")
"""A new model; a pre-trained one as it is, and with one part or both trained further."""
ERROR, REPEAT, SWAPPED = "mse_imagined", "mse_repeat", "mse_swapped"

Row = Mapping[str, Any]


def read_table(path: str | os.PathLike) -> list[Row]:
    """The last judgement of each run of a file that `ivideogpt report --csv` wrote. Raises UsageError where it is another."""
    try:
        return last_judgements(csv.DictReader(pathlib.Path(path).read_text().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}") from error
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{path} is no table of fine-tuning runs ({error}): 'ivideogpt report RUN... --csv FILE' writes those"
        ) from error


def last_judgements(rows: Iterable[Row]) -> list[Row]:
    """Of each run its last row that says how well it imagines, with what it began from and its errors as numbers."""
    ended = {row["command"]: row | {"beginning": beginning(row["command"])} for row in rows if row[ERROR] != ""}
    return [row | {name: float(row[name]) for name in (ERROR, REPEAT, SWAPPED)} for row in ended.values()]


def beginning(command: str) -> str:
    """Which of BEGINNINGS a command stands for."""
    words = shlex.split(command)
    if words[1:2] == ["pretrain"]:
        return "from scratch"
    return words[words.index("--mode") + 1] if "--mode" in words else "full"


def grouped(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int | None, list[Row]]]:
    """By data set and beginning, then by trajectories (None: none, or all there are): the runs that differ in seed alone."""
    ordered = sorted(rows, key=lambda row: (row["data"], BEGINNINGS.index(row["beginning"]), int(row["trajectories"] or 0)))
    found: dict[tuple[str, str], dict[int | None, list[Row]]] = {}
    for row in ordered:
        trajectories = int(row["trajectories"]) if row["trajectories"] else None
        found.setdefault((row["data"], row["beginning"]), {}).setdefault(trajectories, []).append(row)
    return found


def as_text(rows: Sequence[Row]) -> str:
    """A line a beginning and number of trajectories: errors in thousandths, mean and range over seeds."""
    lines = [("data", "beginning", "trajectories", "seeds", "imagined", "range", "repeat", "other actions")]
    for (data, begun), by_trajectories in grouped(rows).items():
        for trajectories, runs in by_trajectories.items():
            error, repeat, swapped = (np.array([run[name] for run in runs]) * 1e3 for name in (ERROR, REPEAT, SWAPPED))
            spread = f"{error.min():.2f} to {error.max():.2f}"
            means = (f"{each.mean():.2f}" for each in (repeat, swapped))
            lines.append((data, begun, str(trajectories or "-"), str(len(runs)), f"{error.mean():.2f}", spread, *means))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(("mean squared error over the imagined frames, in thousandths", *table))


def draw(rows: Sequence[Row]) -> Figure:
    """The error against trajectories, a picture a data set: every seed a dot, their mean a line; level where none were seen."""
    groups = grouped(rows)
    sets = list(dict.fromkeys(data for data, _ in groups))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4 * len(sets), 3.4), layout="constrained")
        for axes, data in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            for begun, colour in zip(BEGINNINGS, COLOURS, strict=False):
                by_trajectories = dict(groups.get((data, begun), {}))
                for run in (level := by_trajectories.pop(None, [])):
                    axes.axhline(run[ERROR], color=colour, linestyle="--", label=begun if run is level[0] else None)
                x = list(by_trajectories)
                if x:
                    means = [np.mean([run[ERROR] for run in by_trajectories[each]]) for each in x]
                    axes.plot(x, means, color=colour, label=begun)
                    dots = [(each, run[ERROR]) for each in x for run in by_trajectories[each]]
                    axes.plot(*zip(*dots, strict=True), ".", color=colour)
            repeat = np.mean([row[REPEAT] for row in rows if row["data"] == data])
            axes.axhline(repeat, color=STYLE["text.color"], linestyle=":", linewidth=1, label="repeating the last frame")
            axes.set(title=data, xscale="log", xlabel="trajectories")
            ticks = sorted({t for (name, _), found in groups.items() if name == data for t in found if t})
            axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
            axes.minorticks_off()
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        figure.axes[0].set_ylabel("mean squared error of imagination")
    return figure
