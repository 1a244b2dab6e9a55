"""Models that are there: what a user may call one, and how it is read."""

from __future__ import annotations

import pathlib

from experiments.errors import UsageError
from world_model import WorldModel

BUNDLED = pathlib.Path(__file__).parents[1] / "models"
"""Checkpoints that come with the project, by the names of their folders; each says in its README.md how it was made."""


def find_model(name: str) -> pathlib.Path:
    """A model folder, that of a finished run, or that of a bundled checkpoint by its name. Raises UsageError."""
    for path in (pathlib.Path(name), BUNDLED / name):
        if (path / "config.yaml").exists():
            if not (path / "model").is_dir():
                raise UsageError(f"{path} has no model yet: a run has one once it is finished")
            return path / "model"
        if path.is_dir():
            return path
    bundled = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()) if BUNDLED.is_dir() else []
    raise UsageError(f"{name}: no such folder, nor a bundled checkpoint; those are {', '.join(bundled) or 'none'}")


def load_model(name: str) -> WorldModel:
    """The model of `find_model(name)`. Raises UsageError."""
    try:
        return WorldModel.from_pretrained(find_model(name))
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
