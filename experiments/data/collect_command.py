"""`ivideogpt collect-data` and `collect-demos`: what was typed into tasks and what is played of each."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from experiments.data.collect import Made, TaskSet, collect_sets, in_processes, in_ray_tasks
from experiments.data.converters.played import Collection
from experiments.envs import rendering
from experiments.envs.camera import Quality
from experiments.envs.demonstrations import collect
from experiments.envs.registry import SUITES, get_suite, make_simulator
from experiments.runs.outputs import check_output
from experiments.runs.preemption import stop_request
from experiments.runs.progress import ProgressDisplay, counted
from experiments.runs.ray_engine import check_ray
from experiments.runs.settings import parse_options
from tokenizer.limits import require_at_least


@dataclasses.dataclass(frozen=True)
class CollectOptions:
    """What to play and where it goes."""

    out: Annotated[pathlib.Path, tyro.conf.Positional]
    """A folder; each task gets one in it. The same command goes on where it was stopped."""
    tasks: tuple[str, ...]
    """Names, or `all` of a suite."""
    suite: str = SUITES[0].name
    """Whose tasks `all` are."""
    without: tuple[str, ...] = ()
    """Tasks to leave out."""
    collection: Annotated[Collection, tyro.conf.arg(name="")] = Collection()
    render_quality: Quality = "fast"
    resolution: int = 64
    workers: int = os.cpu_count() or 1
    """Processes, or Ray tasks, that play at the same time."""
    engine: Literal["processes", "ray"] = "processes"
    """What plays. ray: a Ray task for each of `tasks`, on this machine or on the cluster that RAY_ADDRESS names, whose
    machines see the same folders; again where a worker dies."""

    def __post_init__(self):
        require_at_least(1, self, "resolution", "workers")


def collect_data(arguments: Sequence[str], description: str) -> int:
    """Play, with progress, and say what was made."""
    options = parse_options(CollectOptions, "ivideogpt collect-data", description, arguments)
    if options.engine == "ray":
        check_ray()
    check_output(options.out, folder=True)
    rendering.choose_backend()
    quality, resolution = options.render_quality, options.resolution
    names = get_suite(options.suite).task_names()
    tasks = [task for task in (names if options.tasks == ("all",) else options.tasks) if task not in options.without]
    for task in {*tasks, *options.without} - set(names):
        make_simulator(task, quality, resolution).close()  # which says what is wrong with the name
    sets = [
        TaskSet(task, options.out / task.replace("/", "-"), options.collection, quality, resolution) for task in tasks
    ]
    players = in_ray_tasks if options.engine == "ray" else in_processes
    with stop_request() as stop, ProgressDisplay() as display:
        for event in collect_sets(sets, options.workers, stop, players):
            if isinstance(event, Made):
                display.message(event.said)
            else:
                display.update(event)
    print(
        f"{counted(len(sets), 'data set')} in {options.out}; episodes asked for of each: {options.collection.episodes}"
    )
    return 0


@dataclasses.dataclass(frozen=True)
class DemonstrationOptions:
    """What to play and where it goes."""

    task: str
    out: pathlib.Path
    """A folder of episode files; the same command goes on where it was stopped."""
    episodes: int = 5
    seed: int = 0
    noise: float = 0.0
    """Standard deviation of Gaussian noise on the actions."""
    render_quality: Quality = "fast"
    resolution: int = 64

    def __post_init__(self):
        require_at_least(1, self, "episodes", "resolution")
        require_at_least(0, self, "seed", "noise")


def collect_demos(arguments: Sequence[str], description: str) -> int:
    """Play until there are as many successes as asked for."""
    options = parse_options(DemonstrationOptions, "ivideogpt collect-demos", description, arguments)
    check_output(options.out, folder=True)
    rendering.choose_backend()
    env = make_simulator(options.task, options.render_quality, options.resolution)
    with stop_request() as stop, ProgressDisplay() as display:
        for progress in collect(env, options.out, options.episodes, options.seed, options.noise):
            display.update(progress)
            stop.refuse_to_go_on(f"with {progress.done} of {progress.total} episodes kept")
    env.close()
    print(f"{options.episodes} episode{'' if options.episodes == 1 else 's'} in {options.out}")
    return 0
