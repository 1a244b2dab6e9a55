"""sweep.html: one page about a sweep, with its pictures inside it."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterable
from typing import Any

from experiments.reports.page import template
from experiments.runs.metrics_log import MetricsError, read_metrics, series
from experiments.runs.run_folder import write_atomically
from experiments.sweeps import ablation, plots, results
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.table import age, summary

SHOWN = 5
"""Best points with their commands."""


def write_page(folder: SweepFolder) -> pathlib.Path:
    """Write the page anew from what is in the folder; returns its path."""
    sweep, standings = folder.read(), folder.standings()
    ranked = results.rank(folder, sweep)
    measured = [result for result in ranked if result.mean is not None]
    best = [name for result in measured[:3] for name in results.folders(result)][: len(plots.COLOURS)]
    shares = plots.importance(measured)
    page = template("sweeps/page.html.j2").render(
        name=folder.path.name,
        sweep=sweep,
        when=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        summary=summary(standings, None),
        best=[
            (result, results.describe(sweep, result), result.is_whole(len(sweep.seeds))) for result in measured[:SHOWN]
        ],
        head=ablation.head(sweep),
        ablated=[ablation.cells(line) for line in ablation.compare(sweep, ranked)],
        coordinates=plots.parallel_coordinates(measured, sweep.objective.name, sweep.objective.mode == "max"),
        importance=plots.importance_bars(shares),
        points=len(measured),
        curves=plots.learning_curves(_curves(folder, sweep, standings), best, sweep.objective.name, sweep.step),
        trials=[(name, standing, age(standing)) for name, standing in standings.items()],
        show_value=results.show_value,
        show_setting=results.show_setting,
    )
    write_atomically(folder.page, page)
    return folder.page


def _curves(folder: SweepFolder, sweep: Sweep, trials: Iterable[str]) -> dict[str, Any]:
    """What each trial, by name, has measured of the metric; a trial whose metrics are damaged has no curve."""
    found = {}
    for name in trials:
        try:
            lines = read_metrics(folder.run_folder(name).metrics)
        except MetricsError:
            continue
        found[name] = series([line for line in lines if sweep.step in line], sweep.objective.name, sweep.step)
    return found
