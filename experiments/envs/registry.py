"""The simulators that a task's name can belong to. Another one is a file in this folder and a line here."""

from __future__ import annotations

from experiments.envs import dm_control, gymnasium_pixels, metaworld, pusht
from experiments.envs.camera import Quality
from experiments.envs.simulator import Simulator, Suite
from experiments.errors import by_name

SUITES: tuple[Suite, ...] = (metaworld.SUITE, dm_control.SUITE, gymnasium_pixels.SUITE, pusht.SUITE)


def suite_of(task: str) -> Suite:
    """The suite with the longest prefix that the task's name begins with."""
    return max((suite for suite in SUITES if task.startswith(suite.prefix)), key=lambda suite: len(suite.prefix))


def get_suite(name: str) -> Suite:
    """A suite by name. Raises UsageError with the closest names."""
    return by_name("suite", name, {suite.name: suite for suite in SUITES})


def make_simulator(task: str, render_quality: Quality = "fast", resolution: int = 64) -> Simulator:
    """A task by its whole name. Raises UserError, with what to do, where there is no such task."""
    return suite_of(task).make(task, render_quality, resolution)
