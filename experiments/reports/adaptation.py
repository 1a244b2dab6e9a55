"""`ivideogpt adaptation`: does pre-training help? Errors of models by what they began with and by how much they saw."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.errors import UsageError
from experiments.reports import tables
from experiments.reports.columns import align
from experiments.reports.plots import COLOURS, GUESSES, STYLE
from experiments.reports.tables import BEGINNINGS


@dataclasses.dataclass(frozen=True)
class Measure:
    """What is compared: columns of a table, and what they say once multiplied by `scale`."""

    column: str
    copy_last: str  # of copying the last frame
    scale: float
    described: str
    shuffled_actions: str | None = None  # of the same model under another episode's actions


MEASURES = {
    "mse": Measure(
        "mse_imagined",
        "mse_copy_last",
        1e3,
        "mean squared error of the likeliest future, thousandths",
        "mse_shuffled_actions",
    ),
    "best-mse": Measure("best_mse", "copy_last_mse", 1e3, "mean squared error of the best of {} samples, thousandths"),
    "best-psnr": Measure("best_psnr", "copy_last_psnr", 1, "PSNR of the best of {} samples, dB"),
    "best-ssim": Measure("best_ssim", "copy_last_ssim", 100, "SSIM of the best of {} samples, hundredths"),
    "best-lpips": Measure("best_lpips", "copy_last_lpips", 100, "LPIPS of the best of {} samples, hundredths"),
}
"""What `--of` can name: what a run evaluated its model by, and what `ivideogpt evaluate` found of it (best of many
samples, as the paper)."""

Row = Mapping[str, Any]


def read_table(path: str | os.PathLike, of: str = "mse") -> list[Row]:
    """The last evaluation of each run of a file that `ivideogpt report --csv` wrote. Raises UsageError where it is
    another."""
    kind, measure = "fine-tuning runs", MEASURES[of]
    table = tables.read(path, (*tables.TRAINING, *(name.removeprefix("model/") for name in tables.MODEL)), kind)
    for row in table:
        if row["beginning"] not in BEGINNINGS:
            raise UsageError(f"{path} is no table of {kind}: beginning '{row['beginning']}' is none of {BEGINNINGS}")
    try:
        rows = last_evaluations(table, of)
        group_rows(rows)
    except ValueError as error:
        raise UsageError(f"{path} holds something that is no number: {error}") from error
    if not rows:
        how = "" if of == "mse" else ": 'ivideogpt evaluate RUN --data SET' measures it for the table"
        raise UsageError(f"no run of {path} has a {measure.column}{how}")
    return rows


def name_unevaluated(path: str | os.PathLike, of: str = "mse") -> list[str]:
    """The runs of such a file that have no row in `read_table`, as a reader tells them apart."""
    table = tables.read(path, tables.TRAINING, "fine-tuning runs")
    measured = {_run_of(row) for row in table if row.get(MEASURES[of].column, "") != ""}
    others = {_run_of(row): row for row in table if _run_of(row) not in measured}
    return [
        f"{row['beginning']} on {row['data']}, trajectories {row['trajectories'] or '-'}, seed {row['seed']}"
        for row in others.values()
    ]


def _run_of(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in tables.TRAINING)


def last_evaluations(rows: Iterable[Row], of: str = "mse") -> list[Row]:
    """Of each run its last row that says how well it imagines, with `value`, `copy_last` and `shuffled_actions` in the
    measure's unit (None where it has none)."""
    measure = MEASURES[of]
    columns = {"value": measure.column, "copy_last": measure.copy_last, "shuffled_actions": measure.shuffled_actions}
    evaluated = {_run_of(row): row for row in rows if row.get(measure.column, "") != ""}
    return [
        {**row, **{name: _scale(row.get(column, ""), measure.scale) for name, column in columns.items()}}
        for row in evaluated.values()
    ]


def _scale(value: float | str, scale: float) -> float | None:
    return None if value == "" else float(value) * scale


def group_rows(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int | None, list[Row]]]:
    """By data set and beginning, then by trajectories (None: none, or all there are): runs of several seeds."""
    ordered = sorted(
        rows, key=lambda row: (row["data"], BEGINNINGS.index(row["beginning"]), int(row["trajectories"] or 0))
    )
    found: dict[tuple[str, str], dict[int | None, list[Row]]] = {}
    for row in ordered:
        trajectories = int(row["trajectories"]) if row["trajectories"] else None
        found.setdefault((row["data"], row["beginning"]), {}).setdefault(trajectories, []).append(row)
    return found


def describe(rows: Sequence[Row], of: str) -> str:
    """What the values are, for a reader. Raises UsageError where they are the best of different numbers of samples."""
    samples = {row["evaluated_samples"] for row in rows} if of != "mse" else {""}
    if len(samples) > 1:
        raise UsageError(
            f"these are the best of {', '.join(sorted(map(str, samples)))} samples: evaluate all with one --samples"
        )
    return MEASURES[of].described.format(*samples)


def as_text(rows: Sequence[Row], of: str = "mse") -> str:
    """A line for each beginning and number of trajectories: mean and range over seeds."""
    lines: list[tuple[str, ...]] = [
        ("data", "beginning", "trajectories", "seeds", "imagined", "range", "copy-last", "shuffled actions")
    ]
    for (data, beginning), by_trajectories in group_rows(rows).items():
        for trajectories, runs in by_trajectories.items():
            values = [run["value"] for run in runs]
            spread = f"{min(values):.2f} to {max(values):.2f}"
            others = [[run[name] for run in runs] for name in ("copy_last", "shuffled_actions")]
            means = ("" if None in each else f"{np.mean(each):.2f}" for each in others)
            lines.append(
                (data, beginning, str(trajectories or "-"), str(len(runs)), f"{np.mean(values):.2f}", spread, *means)
            )
    return "\n".join((describe(rows, of), *align(lines)))


def draw(rows: Sequence[Row], of: str = "mse") -> Figure:
    """The measure against trajectories, a picture for each data set: every seed a dot, their mean a line; level where
    none were seen."""
    sets = list(dict.fromkeys(data for data, _ in group_rows(rows)))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4 * len(sets), 3.4), layout="constrained")
        for axes, data in zip(figure.subplots(1, len(sets), squeeze=False)[0], sets, strict=True):
            _draw_set(axes, [row for row in rows if row["data"] == data])
            axes.set(title=data, xscale="log", xlabel="trajectories")
            ticks = sorted({int(row["trajectories"]) for row in rows if row["data"] == data and row["trajectories"]})
            axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
            axes.minorticks_off()
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        figure.axes[0].set_ylabel(describe(rows, of).replace(", ", ",\n"))
    return figure


def _draw_set(axes: Axes, rows: Sequence[Row]) -> None:
    """The runs of one data set."""
    groups = {beginning: found for (_, beginning), found in group_rows(rows).items()}
    for beginning, colour in zip(BEGINNINGS, COLOURS, strict=False):
        by_trajectories = dict(groups.get(beginning, {}))
        for run in (level := by_trajectories.pop(None, [])):
            axes.axhline(run["value"], color=colour, linestyle="--", label=beginning if run is level[0] else None)
        x = [each for each in by_trajectories if each is not None]
        if x:
            means = [np.mean([run["value"] for run in by_trajectories[each]]) for each in x]
            axes.plot(x, means, color=colour, label=beginning)
            dots = [(each, run["value"]) for each in x for run in by_trajectories[each]]
            axes.plot(*zip(*dots, strict=True), ".", color=colour)
    copied = [row["copy_last"] for row in rows if row["copy_last"] is not None]
    if copied:
        axes.axhline(
            float(np.mean(copied)), color=STYLE["text.color"], linestyle=":", linewidth=1, label=GUESSES["copy_last"]
        )
