"""Which simulator a task's name belongs to."""

from __future__ import annotations

from experiments import dm_control
from experiments.camera import Quality
from experiments.dm_control import DmControl
from experiments.metaworld import MetaWorld

Simulator = MetaWorld | DmControl


def simulator(task: str, render_quality: Quality, resolution: int) -> Simulator:
    """Raises UnknownTaskError and UsageError, with what to do."""
    kind = DmControl if task.startswith(dm_control.PREFIX) else MetaWorld
    return kind(task, render_quality, resolution)
