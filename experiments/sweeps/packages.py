"""The packages of the extra `sweep`, imported when they are needed."""

from __future__ import annotations

from typing import Any

from experiments.runs.packages import import_needed

WITHOUT = {
    "ray": "--backend local runs one trial after the other without it",
    "optuna": "search: {kind: random} does without it",
    "submitit": "--backend local runs one trial after the other without it",
}


def need(name: str) -> Any:
    """Import a module, or raise UsageError that says what to install."""
    package = name.partition(".")[0]
    return import_needed(name, "this sweep needs", f"pip install 'ivideogpt-jax[sweep]'; {WITHOUT[package]}")
