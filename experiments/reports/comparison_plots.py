"""Pictures of methods compared. The page has one legend for all of them: a method has the same colour everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, PercentFormatter

from experiments.reports import curves, references, statistics
from experiments.reports.findings import PanelResult
from experiments.reports.plots import COLOURS, DASHES, INK, STYLE, as_svg, axis_label, in_axis_units, new_figure
from experiments.reports.scores import Panel, ScoredRun, methods_of, shared_end
from experiments.reports.statistics import THRESHOLDS

Look = Mapping[str, str]
"""The colour of each method."""
POINTS = 60
"""Places along a pooled curve over time, at which no evaluation need be."""


def looks(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method; from the ninth on they come again."""
    return {method: COLOURS[number % len(COLOURS)] for number, method in enumerate(methods)}


def task_curves(runs: Sequence[ScoredRun], look: Look, over: str) -> dict[str, Markup]:
    """A picture for each task: every seed thin, their interquartile mean thick, its interval shaded."""
    pictures = {}
    for task in sorted({run.task for run in runs}):
        here = [run for run in runs if run.task == task]
        with matplotlib.rc_context(STYLE):
            figure = new_figure()
            axes = figure.subplots()
            for method in methods_of(here):
                _draw_seeds(axes, [run for run in here if run.method == method], over, look[method])
            axes.axhline(curves.SOLVED, linestyle=":", linewidth=1, color=INK)
            _share(axes)
            axes.set(title=task, xlabel=axis_label(over))
            _short_steps(axes, over)
            pictures[task] = as_svg(figure, f"{task} {over}")
    return pictures


def pooled_curve(panel: Panel, look: Look, over: str) -> Markup:
    """Interquartile mean of success over all seeds and tasks of a panel, as far as all were watched."""
    end = shared_end(panel.runs, over)
    stops = np.unique(np.concatenate([run.over[over] for run in panel.runs]))
    points = np.linspace(0, end, POINTS) if over == "wall_seconds" else stops[stops <= end]
    with matplotlib.rc_context(STYLE):
        figure = new_figure()
        axes = figure.subplots()
        for method in panel.methods:
            if not (grid := panel.grid(method)):
                continue
            success_rtk = np.array([[run.success_at(points, over) for run in runs] for runs in grid])
            estimated = statistics.estimate_curve(statistics.curve_of_pooled, success_rtk)
            _draw_estimate(axes, in_axis_units(points, over), estimated, look[method])
        _share(axes)
        axes.set(title="success, pooled over tasks", xlabel=axis_label(over))
        _short_steps(axes, over)
        return as_svg(figure, f"pooled {' '.join(panel.tasks)} {over}")


def intervals(result: PanelResult, look: Look) -> Markup:
    """The pooled numbers of each method, a dot on its interval."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure()
        figure.set_size_inches(4.6, 1.2 + 0.55 * len(result.aggregates))
        all_axes = figure.subplots(1, 3, sharey=True)
        for axes, name in zip(all_axes, ("interquartile mean", "optimality gap", "area under the curve"), strict=True):
            for place, each in enumerate(reversed(result.aggregates)):
                estimate, colour = each.named[name], look[each.method]
                if estimate.low is not None and estimate.high is not None:
                    axes.barh(place, estimate.high - estimate.low, 0.16, estimate.low, color=colour, alpha=0.3)
                axes.plot([estimate.value], [place], "o", color=colour, markersize=5, clip_on=False)
            axes.set(title=name, yticks=[], ylim=(-0.7, len(result.aggregates) - 0.3))
            axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.locator_params("x", nbins=3)
        return as_svg(figure, f"intervals {' '.join(result.panel.tasks)}")


def profile(panel: Panel, look: Look) -> Markup:
    """Share of a method's runs above each success: the higher a curve, the better."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure()
        axes = figure.subplots()
        for method in panel.methods:
            if not panel.seeds(method):
                continue
            estimated = statistics.estimate_curve(statistics.performance_profile, panel.final(method))
            _draw_estimate(axes, THRESHOLDS, estimated, look[method], step="post", drawstyle="steps-post")
        _share(axes)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set(title="share of runs with more success than", xlabel="success at the budget")
        return as_svg(figure, f"profile {' '.join(panel.tasks)}")


def beside_curves(runs: Sequence[ScoredRun], published: Sequence[ScoredRun], look: Look) -> dict[str, Markup]:
    """A picture for each task that both have, over a logarithm of the steps; published means are dashed."""
    pictures = {}
    for task in sorted({run.task for run in runs} & {run.task for run in published}):
        with matplotlib.rc_context(STYLE):
            figure = new_figure()
            axes = figure.subplots()
            for all_runs, dashes in ((runs, DASHES[0]), (published, DASHES[1])):
                here = [run for run in all_runs if run.task == task]
                for method in dict.fromkeys(run.method for run in here):
                    x, y = references.mean_curve([run for run in here if run.method == method])
                    later = x > 0
                    axes.plot(x[later], y[later], color=look[method], linestyle=dashes)
            axes.set_xscale("log")
            _share(axes)
            axes.set(title=task, xlabel=axis_label("env_steps"))
            _short_steps(axes, "env_steps")
            pictures[task] = as_svg(figure, f"beside {task}")
    return pictures


def _draw_seeds(axes: Axes, runs: Sequence[ScoredRun], over: str, colour: str) -> None:
    """Joined where all seeds were evaluated at the same agent step, which each reached at another time."""
    for run in runs:
        axes.plot(in_axis_units(run.over[over], over), run.success, color=colour, alpha=0.35, linewidth=0.8)
    common = sorted(set.intersection(*(set(run.over["agent_steps"].tolist()) for run in runs)))
    places = [np.searchsorted(run.over["agent_steps"], common) for run in runs]
    if not common:
        return
    x = in_axis_units(np.mean([run.over[over][place] for run, place in zip(runs, places, strict=True)], axis=0), over)
    success = np.array([run.success[place] for run, place in zip(runs, places, strict=True)])
    estimated = statistics.estimate_curve(statistics.curve_of_pooled, success[:, None])
    _draw_estimate(axes, x, estimated, colour, marker="o", markersize=3)


def _draw_estimate(
    axes: Axes, x: np.ndarray, estimated: statistics.Curve, colour: str, step: Any = None, **line: Any
) -> None:
    """A line, and its interval as a band where it has one."""
    values, low, high = estimated
    axes.plot(x, values, color=colour, **line)
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, step=step)


def _short_steps(axes: Axes, over: str) -> None:
    """80k for 80000."""
    if over != "wall_seconds":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _share(axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
