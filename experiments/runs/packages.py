"""Packages that only some commands need: imported when they are, and where they are missing, what to install."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from experiments.errors import UsageError


def import_needed(name: str, who: str, remedy: str) -> Any:
    """A module. Raises UsageError, which begins with `who` needs it and ends with what to do."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"{who} the package {name.partition('.')[0]} ({error}): {remedy}") from None


def check_installed(package: str, who: str, extra: str) -> None:
    """Raise UsageError where a package is missing, before the work that it must not cost; imports nothing."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(f"{who} needs the package {package}: pip install 'ivideogpt-jax[{extra}]', or leave it out")
