"""The pictures of a sweep's page: parallel coordinates, importance, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.reports.plots import COLOURS, STYLE, as_svg
from experiments.sweeps.results import Result, show_setting

COLOUR_MAP = matplotlib.colormaps["viridis"]
PAPER = "#030201"
"""Stands for the page's background, as reports.plots.INK for its text."""
_BEHIND_TEXT: dict[str, Any] = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
WORDS_HEIGHT = 0.05
"""Of a picture: words nearer to each other cannot be read."""
PLACES = 4
"""Into so many groups of equal size a range is cut, to see what it explains."""


def parallel_coordinates(results: Sequence[Result], metric: str, best_is_high: bool) -> Markup | None:
    """A line for each point through its settings to its result; bright and on top are the best. None for fewer than
    two points with a value, or where nothing varies."""
    measured = [result for result in results if result.mean is not None]
    names = varying(measured)
    if len(measured) < 2 or not names:
        return None
    values = np.array([result.mean for result in measured], np.float64)
    places = [_places([result.point.get(name) for result in measured]) for name in names]
    places.append(_places(list(values)))
    goodness = _ranks(values if best_is_high else -values)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.1 + 1.35 * len(places), 3.4), layout="constrained")
        axes = figure.subplots()
        for index in np.argsort(goodness):
            heights = [heights[index] for heights, _ in places]
            axes.plot(
                heights, color=COLOUR_MAP(0.05 + 0.9 * goodness[index]), linewidth=1 + goodness[index], alpha=0.85
            )
        for at, (_, ticks) in enumerate(places):
            axes.axvline(at, color=STYLE["text.color"], linewidth=0.6)
            for height, text in ticks.items():
                look: dict[str, Any] = {"fontsize": 7, "va": "center", "bbox": _BEHIND_TEXT, "zorder": 5}
                axes.annotate(text, (at, height), (5, 0), textcoords="offset points", **look)
        labels = [*map(_short, names), _short(metric)]
        axes.set_xticks(range(len(places)), labels, fontsize=8, rotation=20 if len(places) > 4 else 0, ha="center")
        axes.set(yticks=[], ylim=(-0.06, 1.06), xlim=(-0.2, len(places) - 0.55))
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
        return Markup(as_svg(figure, "parallel coordinates").replace(PAPER, "var(--page)"))


def varying(results: Sequence[Result]) -> list[str]:
    """Settings that have more than one value, or are not always there, in the order of the file."""
    names = dict.fromkeys(name for result in results for name in result.point)
    return [name for name in names if len({str(result.point.get(name)) for result in results}) > 1]


def _places(values: Sequence[Any]) -> tuple[np.ndarray, dict[float, str]]:
    """A height in [0, 1] for each value, and what to write at which height. Numbers over a wide range are spread by
    their logarithms; settings that are not in force lie at the bottom."""
    numbers = [value for value in values if _is_number(value)]
    if len(numbers) == len([value for value in values if value is not None]) and len(set(numbers)) > 1:
        log = min(numbers) > 0 and max(numbers) / min(numbers) > 30
        scaled = {value: float(np.log(value)) if log else float(value) for value in numbers}
        low, high = min(scaled.values()), max(scaled.values())
        bottom = 0.15 if len(numbers) < len(values) else 0.0
        heights = {value: bottom + (1 - bottom) * (at - low) / (high - low) for value, at in scaled.items()}
        shown = sorted(heights, key=heights.__getitem__)
        ticks = shown if len(shown) <= 5 else [shown[0], shown[len(shown) // 2], shown[-1]]
        texts = {0.0: "none"} if bottom else {}
        for value in (ticks[0], ticks[-1], *ticks[1:-1]):
            if all(abs(heights[value] - other) > WORDS_HEIGHT for other in texts):
                texts[heights[value]] = show_setting(value)
        return np.array([0.0 if value is None else heights[value] for value in values]), texts
    kinds = sorted(
        {"none" if value is None else str(value) for value in values}, key=lambda kind: (kind != "none", kind)
    )
    heights = {kind: index / max(len(kinds) - 1, 1) for index, kind in enumerate(kinds)}
    at = np.array([heights["none" if value is None else str(value)] for value in values])
    return at, {height: kind[:18] for kind, height in heights.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 0, the lowest, to 1; equal values have the same."""
    order = np.unique(values, return_inverse=True)[1]
    return order / max(order.max(), 1)


def _short(name: str) -> str:
    """The last parts of a name, which tell it from most others."""
    return "\n".join(name.split(".")[-2:])


# --- importance -------------------------------------------------------------------------------------------------------


def importance(results: Sequence[Result]) -> dict[str, float]:
    """Which share of the variance of the results each setting explains by itself, the most important first; of one that
    is not always there, among the points where it is.

    Epsilon squared of a one-way analysis of variance: what grouping by the setting explains, less what as many random
    groups would. Settings that act together have less than they deserve.
    """
    measured = [result for result in results if result.mean is not None]
    values = np.array([result.mean for result in measured], np.float64)
    shares = {name: _explained([result.point.get(name) for result in measured], values) for name in varying(measured)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _explained(settings: Sequence[Any], values: np.ndarray) -> float:
    there = np.array([setting is not None for setting in settings])
    groups = np.array(_groups([setting for setting in settings if setting is not None]))
    values = values[there]
    if not len(values):
        return 0.0
    count, kinds, total = len(values), len(set(groups)), float(((values - values.mean()) ** 2).sum())
    if kinds < 2 or count <= kinds or total == 0:
        return 0.0
    members = [values[groups == group] for group in set(groups)]
    within = float(sum(((each - each.mean()) ** 2).sum() for each in members))
    return max(0.0, (total - within - (kinds - 1) * within / (count - kinds)) / total)


def _groups(settings: Sequence[Any]) -> list[str]:
    """Values that are alike: numbers of many values in a few groups of equal size."""
    numbers = sorted({value for value in settings if _is_number(value)})
    if len(numbers) <= PLACES + 2:
        return [str(value) for value in settings]
    borders = np.quantile([value for value in settings if _is_number(value)], np.linspace(0, 1, PLACES + 1)[1:-1])
    return [str(int(np.searchsorted(borders, value))) if _is_number(value) else str(value) for value in settings]


def importance_bars(shares: Mapping[str, float]) -> Markup | None:
    """None where no setting explains anything."""
    if not any(shares.values()):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 0.7 + 0.32 * len(shares)), layout="constrained")
        axes = figure.subplots()
        names = list(shares)[::-1]
        axes.barh(["\n".join(name.rsplit(".", 1)) if len(name) > 24 else name for name in names],
                  [100 * shares[name] for name in names], color=COLOURS[0], height=0.6)  # fmt: skip
        axes.tick_params(axis="y", labelsize=8)
        axes.set(xlim=(0, 100), xlabel="% of the results' variance")
        return as_svg(figure, "importance")


# --- learning curves --------------------------------------------------------------------------------------------------


def learning_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], best: Sequence[str], metric: str, step: str
) -> Markup | None:
    """Every trial's metric over its steps, those of the best points named and in colour."""
    if not any(len(x) for x, _ in curves.values()):
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for name, (x, y) in curves.items():
            if name not in best:
                axes.plot(x, y, color=STYLE["text.color"], alpha=0.2, linewidth=0.8, marker="." if len(x) == 1 else "")
        for place, name in enumerate(best):
            if name in curves:
                axes.plot(*curves[name], color=COLOURS[place % len(COLOURS)], marker="o", markersize=3, label=name)
        _legend(axes, figure)
        axes.set(xlabel=step.replace("_", " "), ylabel=metric)
        return as_svg(figure, "learning curves")


def _legend(axes: Axes, figure: Figure) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, fontsize=7, loc="outside lower left", ncols=3)
