"""What a page says of methods compared: the findings with their pictures, published series, videos side by side."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from experiments.reports import comparison_plots, curves, findings, imagination_gain, references
from experiments.reports.clips import Clip
from experiments.reports.findings import Findings, PanelResult
from experiments.reports.plots import AXES, axis_label
from experiments.reports.protocols import FIELDS, UNKNOWN
from experiments.reports.references import BesideLine, Reference


@dataclasses.dataclass(frozen=True)
class Played:
    """A run, by the columns of `tables.describe`, and the newest video of its evaluation."""

    run: Mapping[str, Any]
    clip: Clip


@dataclasses.dataclass(frozen=True)
class PanelPictures:
    """A panel's findings and its pictures."""

    result: PanelResult
    intervals: Markup
    profile: Markup
    pooled: Mapping[str, Markup]  # by the name of the axis; none for a single task, whose curves are there already


@dataclasses.dataclass(frozen=True)
class Compared:
    """What the template knows of methods compared."""

    found: Findings
    look: comparison_plots.Look
    axes: Mapping[str, str]
    curves: Mapping[str, Mapping[str, Markup]]  # by the name of the axis, then the task
    panels: Sequence[PanelPictures]
    references: Sequence[Reference]
    beside: Sequence[BesideLine]
    beside_curves: Mapping[str, Markup]  # by task
    protocols: Sequence[tuple[str, Sequence[str]]]  # a field, and its value for each of `columns`
    columns: Sequence[str]  # methods and references
    worth: Sequence[Sequence[tuple[str, str]]]  # a line's words in the order of worth_head, each with its verdict
    worth_head: Sequence[str]
    videos: Mapping[str, Mapping[str, tuple[str, Clip]]]  # by task, then method: the seed and its video


def compare(rows: Sequence[curves.Row], files: Sequence[pathlib.Path], played: Sequence[Played]) -> Compared:
    """All of it, for evaluations of agents and files of published series. Raises UsageError for other files."""
    found = findings.find(rows)
    tasks = sorted({run.task for run in found.runs})
    published = [references.read_reference(path, tasks) for path in files]
    theirs = [run for reference in published for run in reference.runs]
    look = comparison_plots.looks([*found.methods, *dict.fromkeys(run.method for run in theirs)])
    protocols = {run.method: run.protocol for run in found.runs} | {each.name: each.protocol for each in published}
    return Compared(
        found=found,
        look=look,
        axes={over: axis_label(over) for over in AXES},
        curves={over: comparison_plots.task_curves(found.runs, look, over) for over in AXES},
        panels=[_draw(result, look) for result in found.panels],
        references=published,
        beside=references.beside(found.runs, published),
        beside_curves=comparison_plots.beside_curves(found.runs, theirs, look),
        protocols=[(field, [each.get(field, UNKNOWN) for each in protocols.values()]) for field in FIELDS],
        columns=list(protocols),
        worth=[
            list(zip(imagination_gain.cells(line), imagination_gain.verdicts(line), strict=True))
            for line in imagination_gain.find(rows)
        ],
        worth_head=imagination_gain.HEAD,
        videos=_side_by_side(found, rows, played),
    )


def _draw(result: PanelResult, look: comparison_plots.Look) -> PanelPictures:
    return PanelPictures(
        result=result,
        intervals=comparison_plots.intervals(result, look),
        profile=comparison_plots.profile(result.panel, look),
        pooled={
            over: comparison_plots.pooled_curve(result.panel, look, over)
            for over in AXES
            if len(result.panel.tasks) > 1
        },
    )


def _side_by_side(
    found: Findings, rows: Sequence[curves.Row], played: Sequence[Played]
) -> dict[str, dict[str, tuple[str, Clip]]]:
    """For each task that two methods have videos of: of each method one seed, the same for all where there is one."""
    names = curves.labels(curves.run_of(row) for row in rows)
    by_task: dict[str, dict[str, dict[str, Clip]]] = {}
    for each in played:
        run = curves.run_of(each.run)
        if (method := names.get(curves.group_of(run))) is not None:
            by_task.setdefault(run[0], {}).setdefault(method, {}).setdefault(run[3], each.clip)
    chosen: dict[str, dict[str, tuple[str, Clip]]] = {}
    for task, methods in sorted(by_task.items()):
        if len(methods) > 1:
            shared = sorted(set.intersection(*map(set, methods.values())))
            seeds = {method: (shared or sorted(clips))[0] for method, clips in methods.items()}
            order = [method for method in found.methods if method in methods]
            chosen[task] = {method: (seeds[method], methods[method][seeds[method]]) for method in order}
    return chosen
