"""Models by what a user may call them, read for a command."""

from __future__ import annotations

from experiments.errors import UsageError
from world_model import WorldModel


def load_model(name: str) -> WorldModel:
    """What `WorldModel.from_pretrained` finds under a name. Raises UsageError."""
    try:
        return WorldModel.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
