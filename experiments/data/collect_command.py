"""`ivideogpt collect-data`: what was typed into tasks and what is played of each."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Annotated

import tyro

from experiments import rendering
from experiments.camera import Quality
from experiments.data.collect import Made, TaskSet, collect_sets
from experiments.data.converters.metaworld import Collection
from experiments.metaworld import check_task, task_names
from experiments.progress import ProgressDisplay


@dataclasses.dataclass(frozen=True)
class Options:
    """What to play and where it goes."""

    out: Annotated[pathlib.Path, tyro.conf.Positional]
    """A folder; each task gets one in it. The same command goes on where it was stopped."""
    tasks: tuple[str, ...]
    """Names, or `all`."""
    without: tuple[str, ...] = ()
    """Tasks to leave out."""
    collection: Annotated[Collection, tyro.conf.arg(name="")] = Collection()
    render_quality: Quality = "fast"
    resolution: int = 64
    workers: int = os.cpu_count() or 1
    """Processes that play at the same time."""


def run(arguments: Sequence[str], description: str) -> int:
    """Play, with progress, and say what was made."""
    options = tyro.cli(Options, prog="ivideogpt collect-data", args=arguments, description=description)
    rendering.choose_backend()
    tasks = task_names() if options.tasks == ("all",) else [check_task(task) for task in options.tasks]
    left_out = {check_task(task) for task in options.without}
    sets = [
        TaskSet(task, options.out / task, options.collection, options.render_quality, options.resolution)
        for task in tasks
        if task not in left_out
    ]
    with ProgressDisplay() as display:
        for event in collect_sets(sets, options.workers):
            if isinstance(event, Made):
                display.message(event.said)
            else:
                display.update(event)
    print(f"{len(sets)} data sets in {options.out}, {options.collection.episodes} episodes asked for of each")
    return 0
