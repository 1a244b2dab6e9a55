"""The packages of the extra `data`, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from experiments.errors import UsageError


def need(name: str) -> ModuleType:
    """Import a module, or raise UsageError that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"data sets need the package {name.partition('.')[0]} ({error}): pip install 'ivideogpt-jax[data]'"
        ) from None
