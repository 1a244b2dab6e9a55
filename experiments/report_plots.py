"""The report's curves, as SVG that takes its ink from the page, so that one picture serves light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from experiments.metrics import latest, series

Lines = list[dict[str, Any]]
Runs = Mapping[str, Lines]

INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
COLOURS = ("#2f81f7", "#e8833a", "#1fa37a", "#c2559d", "#b08800", "#7d8590", "#8250df", "#d1242f")
AXES = {"env_steps": "environment steps", "agent_steps": "agent steps", "wall_seconds": "wall time"}
"""What a curve can be drawn against."""
GUESSES = {"imagined": "imagined", "repeat": "last frame repeated", "swapped": "another episode's actions"}
"""How the future frames of `model/mse_<name>` were guessed."""
STYLE = {
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


def success_curve(runs: Runs, over: str) -> Markup | None:
    """Share of successful evaluation episodes, with its 95% Wilson interval. None where nothing was evaluated."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(), None
        for index, (name, lines) in enumerate(runs.items()):
            x, success = series(lines, "eval/success", over)
            if len(x):
                axes = axes or figure.subplots()
                colour = COLOURS[index % len(COLOURS)]
                low, high = _wilson(success, series(lines, "eval/episodes", over)[1])
                axes.fill_between(in_axis_units(x, over), low, high, color=colour, alpha=0.12, linewidth=0)
                axes.plot(in_axis_units(x, over), success, color=colour, marker="o", markersize=4, label=name)
        if axes is None:
            return None
        axes.set(ylim=(-0.03, 1.03), title="success of evaluation episodes")
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        return _finished(figure, axes, over, len(runs) > 1)


def return_curve(runs: Runs, over: str) -> Markup | None:
    """Mean return of evaluations; for a single run also every training episode and their mean of ten."""
    with matplotlib.rc_context(STYLE):
        figure, axes = new_figure(), None
        for index, (name, lines) in enumerate(runs.items()):
            x, returns = series(lines, "eval/return", over)
            if len(x):
                axes = axes or figure.subplots()
                colour = COLOURS[index % len(COLOURS)]
                label = name if len(runs) > 1 else "evaluation, mean"
                axes.plot(in_axis_units(x, over), returns, color=colour, marker="o", markersize=4, label=label, zorder=3)
            x, returns = series(lines, "episode/return", over)
            if len(x) and len(runs) == 1:
                axes = axes or figure.subplots()
                axes.plot(in_axis_units(x, over), returns, ".", color=COLOURS[1], alpha=0.35, markersize=3)
                axes.plot(in_axis_units(x, over), _mean_of_last(returns, 10), color=COLOURS[1], label="training, mean of 10")
        if axes is None:
            return None
        axes.set(title="return of an episode")
        return _finished(figure, axes, over, True)


def model_error_curve(runs: Runs, over: str = "env_steps") -> Markup | None:
    """Mean squared error over the whole horizon at each judgement of the model; of several runs relative to repeating."""
    drawn = []
    for guess, label, lines in _guesses(runs):
        x, error = series(lines, f"model/mse_{guess}", over)
        drawn.append((x, error / series(lines, "model/mse_repeat", over)[1] if len(runs) > 1 else error, label))
    return _error_curves(runs, drawn, "over the horizon", over)


def horizon_curve(runs: Runs) -> Markup | None:
    """Mean squared error of each frame ahead, at the newest judgement; of several runs relative to repeating."""
    drawn = []
    for guess, label, lines in _guesses(runs):
        line = latest(lines, f"model/mse_{guess}_by_horizon")
        if line is not None:
            error = np.array(line[f"model/mse_{guess}_by_horizon"])
            relative = error / np.array(line["model/mse_repeat_by_horizon"]) if len(runs) > 1 else error
            drawn.append((np.arange(1, len(error) + 1), relative, label))
    return _error_curves(runs, drawn, "of each frame, newest", "frames ahead")


def _guesses(runs: Runs) -> list[tuple[str, str, Lines]]:
    """What to draw of a model: the three guesses of one run, or what each of several runs imagined."""
    if len(runs) > 1:
        return [("imagined", name, lines) for name, lines in runs.items()]
    return [(guess, label, lines) for lines in runs.values() for guess, label in GUESSES.items()]


def _error_curves(runs: Runs, drawn: list[tuple], title: str, under: str) -> Markup | None:
    """Curves of (x, error, label). Several runs share the line at 1, where imagining is worth no more than repeating."""
    if not any(len(x) for x, _, _ in drawn):
        return None
    with matplotlib.rc_context(STYLE):
        figure = new_figure()
        axes = figure.subplots()
        for index, (x, error, label) in enumerate(drawn):
            axes.plot(x, error, color=COLOURS[index % len(COLOURS)], marker="o", markersize=4, label=label)
        if len(runs) > 1:
            axes.axhline(1, color=INK, linestyle="--", linewidth=1, label=GUESSES["repeat"])
        axes.set(title=f"{'squared error' if len(runs) == 1 else 'relative squared error'} {title}", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        return _finished(figure, axes, under, True)


def small_curve(lines: Lines, name: str) -> Markup | None:
    """One training metric over wall time: every value faint, their running mean strong."""
    x, values = series(lines, name, "wall_seconds")
    finite = np.isfinite(values)
    x, values = x[finite], values[finite]
    if not len(x):
        return None
    with matplotlib.rc_context(STYLE | {"font.size": 8, "axes.titlesize": 8}):
        # There are dozens of these: working out a layout for each would take most of a report's time.
        figure = Figure(figsize=(2.5, 1.6))
        axes = figure.add_axes((0.2, 0.14, 0.77, 0.71))
        axes.plot(in_axis_units(x, "wall_seconds"), values, color=COLOURS[0], alpha=0.3, linewidth=0.8)
        axes.plot(in_axis_units(x, "wall_seconds"), _mean_of_last(values, max(len(values) // 30, 1)), color=COLOURS[0])
        if values.min() > 0 and values.max() > 30 * values.min():
            axes.set_yscale("log")
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set(title=name.partition("/")[2].replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        return as_svg(figure, name)


def new_figure() -> Figure:
    return Figure(figsize=(4.6, 2.9), layout="constrained")


def axis_label(over: str) -> str:
    return "minutes" if over == "wall_seconds" else AXES.get(over, over)


def in_axis_units(x: np.ndarray, over: str) -> np.ndarray:
    return x / 60 if over == "wall_seconds" else x


def _finished(figure: Figure, axes: Axes, over: str, legend: bool) -> Markup:
    if legend:
        axes.legend(fontsize=8)
    axes.set_xlabel(axis_label(over))
    axes.xaxis.get_major_locator().set_params(nbins=8)
    return as_svg(figure, f"{axes.get_title()} {over}")


def as_svg(figure: Figure, name: str) -> Markup:
    """The figure as an `svg` element that fills its place. `name` keeps its ids apart from those of other figures."""
    buffer = io.StringIO()
    nothing: dict[str, None] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    for part in (figure, *figure.axes):
        part.patch.set_visible(False)
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)  # savefig draws everything twice
    svg = buffer.getvalue()
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg))
    return Markup(svg[svg.index("<svg") :].replace(INK, "currentColor"))


def _mean_of_last(values: np.ndarray, count: int) -> np.ndarray:
    """At each place the mean of up to `count` values ending there."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - count, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _wilson(share: np.ndarray, episodes: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95% interval of a success rate from that many episodes (Wilson, 1927)."""
    n, z = np.asarray(episodes, np.float64), 1.96
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
