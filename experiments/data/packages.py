"""The packages of the extra `data`, imported when they are needed."""

from __future__ import annotations

from types import ModuleType

from experiments.runs.packages import import_needed


def need(name: str) -> ModuleType:
    """Import a module, or raise UsageError that says what to install."""
    return import_needed(name, "data sets need", "pip install 'ivideogpt-jax[data]'")
