"""The errors that the command line tells in one sentence."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from tokenizer.errors import UserError

__all__ = ["UsageError", "UserError", "by_name"]

Value = TypeVar("Value")


class UsageError(UserError, ValueError):
    """What was asked for cannot be run; one sentence says why and what to do."""


def by_name(kind: str, name: str, table: Mapping[str, Value]) -> Value:
    """What the table holds under a name. Raises UsageError with the closest names."""
    if name not in table:
        close = difflib.get_close_matches(name, table) or list(table)
        raise UsageError(f"unknown {kind} '{name}': did you mean {', '.join(close)}?")
    return table[name]
