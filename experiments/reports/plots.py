"""The report's curves, as SVG that takes its ink from the page, so that one picture serves light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from experiments.runs.metrics_log import latest, series

Lines = list[dict[str, Any]]
Runs = Mapping[str, Lines]

INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
COLOURS = ("#2f81f7", "#e8833a", "#1fa37a", "#c2559d", "#b08800", "#7d8590", "#8250df", "#d1242f")
AXES = {"env_steps": "environment steps", "agent_steps": "agent steps", "wall_seconds": "wall time"}
"""What a curve can be drawn against."""
GUESSES = {
    "imagined": "imagined",
    "copy_last": "copying the last frame",
    "shuffled_actions": "another episode's actions",
}
"""How the future frames of `model/mse_<name>` were guessed."""
DASHES = ("-", (0, (4, 2)), (0, (1, 1)), (0, (6, 2, 1, 2)))
"""How curves of one picture are drawn, in turn."""
Curve = tuple[np.ndarray, np.ndarray, str]
"""Of a picture: x [N], y [N] and the name; N may be 0."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-5, 5),
}
SMALL_STYLE: dict[Any, Any] = {**STYLE, "font.size": 8, "axes.titlesize": 8}


def success_curve(runs: Runs, over: str) -> Markup | None:
    """Share of successful evaluation episodes, with its 95% Wilson interval. None where nothing was evaluated."""
    drawn = [(*series(lines, "eval/success", over), name) for name, lines in runs.items()]
    if not any(len(x) for x, _, _ in drawn):
        return None
    with matplotlib.rc_context(STYLE):
        figure = new_figure(runs)
        axes = figure.subplots()
        for index, lines in enumerate(runs.values()):
            x, success = series(lines, "eval/success", over)
            low, high = wilson(success, series(lines, "eval/episodes", over)[1])
            colour = COLOURS[index % len(COLOURS)]
            axes.fill_between(in_axis_units(x, over), low, high, color=colour, alpha=0.12, linewidth=0)
        _draw_lines(axes, [(in_axis_units(x, over), success, name) for x, success, name in drawn])
        axes.set(ylim=(-0.03, 1.03), title="success of evaluation episodes")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        return _finish(figure, axes, over, runs)


def return_curve(runs: Runs, over: str) -> Markup | None:
    """Mean return of evaluations; for a single run also every training episode and their mean of ten."""
    alone = len(runs) == 1
    drawn = [
        (*series(lines, "eval/return", over), "evaluation, mean" if alone else name) for name, lines in runs.items()
    ]
    x, trained = series(next(iter(runs.values())), "episode/return", over) if alone else (np.empty(0), np.empty(0))
    if not len(x) and not any(len(at) for at, _, _ in drawn):
        return None
    with matplotlib.rc_context(STYLE):
        figure = new_figure(runs)
        axes = figure.subplots()
        _draw_lines(axes, [(in_axis_units(at, over), returns, name) for at, returns, name in drawn], zorder=3)
        if len(x):
            x = in_axis_units(x, over)
            axes.plot(x, trained, ".", color=COLOURS[1], alpha=0.35, markersize=3)
            axes.plot(x, _mean_of_last(trained, 10), color=COLOURS[1], label="training, mean of 10")
        if alone:
            axes.legend(fontsize=8)
        axes.set(title="return of an episode")
        return _finish(figure, axes, over, runs)


def model_error_curve(runs: Runs, over: str = "env_steps") -> Markup | None:
    """Mean squared error over the horizon at each evaluation of the model; of several runs relative to copy-last."""
    drawn = []
    for guess, label, lines in _guesses(runs):
        x, error = series(lines, f"model/mse_{guess}", over)
        drawn.append((x, error / series(lines, "model/mse_copy_last", over)[1] if len(runs) > 1 else error, label))
    return _error_curves(runs, drawn, "over the horizon", over)


def horizon_curve(runs: Runs) -> Markup | None:
    """Mean squared error of each frame ahead, at the newest evaluation; of several runs relative to copy-last."""
    drawn = []
    for guess, label, lines in _guesses(runs):
        line = latest(lines, f"model/mse_{guess}_by_horizon") or {}
        error = np.array(line.get(f"model/mse_{guess}_by_horizon", ()))
        if len(runs) > 1 and len(error):
            error = error / np.array(line["model/mse_copy_last_by_horizon"])
        drawn.append((np.arange(1, len(error) + 1), error, label))
    return _error_curves(runs, drawn, "of each frame, newest", "frames ahead")


def _guesses(runs: Runs) -> list[tuple[str, str, Lines]]:
    """What to draw of a model: the three guesses of one run, or what each of several runs imagined."""
    if len(runs) > 1:
        return [("imagined", name, lines) for name, lines in runs.items()]
    return [(guess, label, lines) for lines in runs.values() for guess, label in GUESSES.items()]


def _error_curves(runs: Runs, drawn: list[Curve], title: str, under: str) -> Markup | None:
    """Several runs share the line at 1, where imagining is worth no more than copying."""
    if not any(len(x) for x, _, _ in drawn):
        return None
    with matplotlib.rc_context(STYLE):
        figure = new_figure(runs)
        axes = figure.subplots()
        _draw_lines(axes, drawn)
        if len(runs) > 1:
            axes.axhline(1, color=INK, linestyle=":", linewidth=1, label=GUESSES["copy_last"])
        else:
            axes.legend(fontsize=8)
        axes.set(title=f"{'squared error' if len(runs) == 1 else 'relative squared error'} {title}", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        return _finish(figure, axes, under, runs)


def _draw_lines(axes: Axes, drawn: Sequence[Curve], **style: Any) -> None:
    """Each curve in the colour of its place, whether or not there is anything of those before it; through the gaps of a
    later one an equal curve is seen."""
    for index, (x, y, label) in enumerate(drawn):
        if len(x):
            look = {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}
            axes.plot(x, y, marker="o", markersize=4, label=label, **look, **style)


def small_curve(lines: Lines, name: str) -> Markup | None:
    """One training metric over wall time: every value faint, their running mean strong."""
    x, values = series(lines, name, "wall_seconds")
    finite = np.isfinite(values)
    x, values = x[finite], values[finite]
    if not len(x):
        return None
    with matplotlib.rc_context(SMALL_STYLE):
        # There are dozens of these: working out a layout for each would take most of a report's time.
        figure = Figure(figsize=(2.5, 1.6))
        axes = figure.add_axes((0.22, 0.14, 0.75, 0.71))
        x, mean = in_axis_units(x, "wall_seconds"), _mean_of_last(values, max(len(values) // 30, 1))
        axes.plot(x, values, color=COLOURS[0], alpha=0.3, linewidth=0.8)
        axes.plot(x, mean, color=COLOURS[0], marker="o" if len(x) == 1 else "", markersize=4)
        if values.min() > 0 and values.max() > 30 * values.min():
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylim(*_widen(*axes.get_ylim()))
            axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set(title=name.partition("/")[2].replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        return as_svg(figure, name)


def _widen(low: float, high: float) -> tuple[float, float]:
    """Limits at least a fiftieth of their size apart: less is noise, and its labels are too long for their place."""
    least = max(abs(low), abs(high)) / 50
    missing = max(least - (high - low), 0) / 2
    return low - missing, high + missing


def new_figure(names: Collection[str] = ()) -> Figure:
    """A picture, with room for a legend below it where there are several runs, of these names."""
    room = 0.2 * math.ceil((len(names) + 1) / _legend_columns(names)) if len(names) > 1 else 0
    return Figure(figsize=(4.6, 2.9 + room), layout="constrained")


def _legend_columns(names: Collection[str]) -> int:
    return 1 if max(map(len, names), default=0) > 28 else 2


def axis_label(over: str) -> str:
    return "minutes" if over == "wall_seconds" else AXES.get(over, over)


def in_axis_units(x: np.ndarray, over: str) -> np.ndarray:
    return x / 60 if over == "wall_seconds" else x


def _finish(figure: Figure, axes: Axes, over: str, names: Collection[str]) -> Markup:
    """Several runs have their legend below the picture, where it hides no curve."""
    if len(names) > 1:
        columns = _legend_columns(names)
        figure.legend(*axes.get_legend_handles_labels(), fontsize=8, loc="outside lower left", ncols=columns)
    axes.set_xlabel(axis_label(over))
    axes.locator_params("x", nbins=8)
    return as_svg(figure, f"{axes.get_title()} {over}")


def as_svg(figure: Figure, name: str) -> Markup:
    """The figure as an `svg` element that fills its place, up to a size at which its text is no larger than the page's.

    `name` keeps its ids apart from those of other figures.
    """
    buffer = io.StringIO()
    nothing: dict[str, None] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    for part in (figure, *figure.axes):
        part.patch.set_visible(False)
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)  # savefig draws everything twice
    svg = buffer.getvalue()
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg))
    svg = svg[svg.index("<svg") :].replace("<svg", f'<svg style="max-width: {8 * figure.get_figwidth():.0f}rem"', 1)
    return Markup(svg.replace(INK, "currentColor"))


def _mean_of_last(values: np.ndarray, count: int) -> np.ndarray:
    """At each place the mean of up to `count` values ending there."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - count, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def wilson(share: np.ndarray, episodes: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of a success rate from that many episodes (Wilson, 1927)."""
    n, z = np.asarray(episodes, np.float64), 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
