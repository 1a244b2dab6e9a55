"""`ivideogpt adaptation`: does pre-training help? Errors of models by what they began with and by how much they saw."""

from __future__ import annotations

import csv
import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Measure:
    """What is compared: columns of a table, and what they say once multiplied by `scale`."""

    column: str
    repeat: str  # of repeating the last frame
    scale: float
    described: str
    swapped: str | None = None  # of the same model under another episode's actions


MEASURES = {
    "mse": Measure("mse_imagined", "mse_repeat", 1e3, "mean squared error of the likeliest future, thousandths", "mse_swapped"),
    "best-mse": Measure("best_mse", "repeat_mse", 1e3, "mean squared error of the best of {} samples, thousandths"),
    "best-psnr": Measure("best_psnr", "repeat_psnr", 1, "PSNR of the best of {} samples, dB"),
    "best-ssim": Measure("best_ssim", "repeat_ssim", 100, "SSIM of the best of {} samples, hundredths"),
    "best-lpips": Measure("best_lpips", "repeat_lpips", 100, "LPIPS of the best of {} samples, hundredths"),
}
"""What `--of` can name: what a run judged its model by, and what `ivideogpt evaluate` found of it (best of many samples, as the paper)."""

Row = Mapping[str, Any]


def read_table(path: str | os.PathLike, of: str = "mse") -> list[Row]:
    """The last judgement of each run of a file that `ivideogpt report --csv` wrote. Raises UsageError where it is another."""
    try:
        rows = last_judgements(csv.DictReader(pathlib.Path(path).read_text().splitlines()), of)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}") from error
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{path} is no table of fine-tuning runs ({error}): 'ivideogpt report RUN... --csv FILE' writes those"
        ) from error
    if not rows:
        raise UsageError(
            f"no run of {path} has a {MEASURES[of].column}"
            + ("" if of == "mse" else ": 'ivideogpt evaluate RUN --data SET --out RUN/evaluation' measures it for the table")
        )
    return rows


def last_judgements(rows: Iterable[Row], of: str = "mse") -> list[Row]:
    """Of each run its last row that says how well it imagines, with its `beginning`, and `value`, `repeat` and `swapped`
    in the measure's unit (`swapped` None where it has none)."""
    measure = MEASURES[of]
    judged = {row["command"]: row for row in rows if row[measure.column] != ""}
    columns = {"value": measure.column, "repeat": measure.repeat, "swapped": measure.swapped}
    return [
        row
        | {"beginning": beginning(command)}
        | {name: float(row[column]) * measure.scale if column and row[column] != "" else None for name, column in columns.items()}
        for command, row in judged.items()
    ]


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


def described(rows: Sequence[Row], of: str) -> str:
    """What the values are, for a reader. Raises UsageError where they are the best of different numbers of samples."""
    samples = {row["evaluated_samples"] for row in rows} if of != "mse" else {""}
    if len(samples) > 1:
        raise UsageError(f"these are the best of {', '.join(sorted(map(str, samples)))} samples: evaluate all with one --samples")
    return MEASURES[of].described.format(*samples)


def as_text(rows: Sequence[Row], of: str = "mse") -> str:
    """A line a beginning and number of trajectories: mean and range over seeds."""
    lines = [("data", "beginning", "trajectories", "seeds", "imagined", "range", "repeat", "other actions")]
    for (data, begun), by_trajectories in grouped(rows).items():
        for trajectories, runs in by_trajectories.items():
            values = [run["value"] for run in runs]
            spread = f"{min(values):.2f} to {max(values):.2f}"
            others = [[run[name] for run in runs] for name in ("repeat", "swapped")]
            means = ("" if None in each else f"{np.mean(each):.2f}" for each in others)
            lines.append((data, begun, str(trajectories or "-"), str(len(runs)), f"{np.mean(values):.2f}", spread, *means))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join((described(rows, of), *table))


def draw(rows: Sequence[Row], of: str = "mse") -> Figure:
    """The measure against trajectories, a picture a data set: every seed a dot, their mean a line; level where none were seen."""
    groups = grouped(rows)
    sets = list(dict.fromkeys(data for data, _ in groups))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4 * len(sets), 3.4), layout="constrained")
        for axes, data in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            for begun, colour in zip(BEGINNINGS, COLOURS, strict=False):
                by_trajectories = dict(groups.get((data, begun), {}))
                for run in (level := by_trajectories.pop(None, [])):
                    axes.axhline(run["value"], color=colour, linestyle="--", label=begun if run is level[0] else None)
                x = list(by_trajectories)
                if x:
                    means = [np.mean([run["value"] for run in by_trajectories[each]]) for each in x]
                    axes.plot(x, means, color=colour, label=begun)
                    dots = [(each, run["value"]) for each in x for run in by_trajectories[each]]
                    axes.plot(*zip(*dots, strict=True), ".", color=colour)
            repeat = np.mean([row["repeat"] for row in rows if row["data"] == data])
            axes.axhline(repeat, color=STYLE["text.color"], linestyle=":", linewidth=1, label="repeating the last frame")
            axes.set(title=data, xscale="log", xlabel="trajectories")
            ticks = sorted({t for (name, _), found in groups.items() if name == data for t in found if t})
            axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
            axes.minorticks_off()
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        figure.axes[0].set_ylabel(described(rows, of).replace(", ", ",\n"))
    return figure
