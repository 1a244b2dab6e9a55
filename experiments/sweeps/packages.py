"""The packages of the extra `sweep`, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from experiments.errors import UsageError

WITHOUT = {
    "ray": "--backend local runs one trial after the other without it",
    "optuna": "search: {kind: random} does without it",
    "submitit": "--backend local runs one trial after the other without it",
}


def need(name: str) -> Any:
    """Import a module, or raise UsageError that says what to install."""
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"this sweep needs the package {package} ({error}): pip install 'ivideogpt-jax[sweep]'; {WITHOUT[package]}"
        ) from None
