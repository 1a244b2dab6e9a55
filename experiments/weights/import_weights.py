"""Published weights into a folder of our own: read, check, adapt, write, in this order."""

from __future__ import annotations

import pathlib

from experiments.errors import UsageError
from world_model import WorldModel, WorldModelConfig, card, folder, pretrained

GOAL_NAME = "-goal-cond"
"""How the published names of goal-conditioned models end; nothing in their files says what they are."""


def import_weights(
    source: str,
    destination: pathlib.Path,
    context_frames: int | None = None,
    action_size: int | None = None,
    goal_conditioned: bool = False,
    dtype: folder.DType = "float32",
) -> WorldModelConfig:
    """Write what a published folder or hub name holds to `destination`, for another C or A where given.

    dtype: of the files' weights. goal_conditioned: the context begins with the goal; so it is, too, where the source's
    name ends with GOAL_NAME. The folder appears whole, after everything has been checked. Raises UsageError, in one
    sentence, otherwise.
    """
    try:
        found = pretrained.find(source)
    except OSError as error:
        raise UsageError(str(error)) from error
    if found.resolve() == destination.resolve():
        raise UsageError(f"{destination} is where the weights come from: choose another place for the imported ones")
    try:
        goal = goal_conditioned or source.rstrip("/").endswith(GOAL_NAME)
        model = WorldModel.from_pretrained(found, context_frames, action_size, goal or None)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    try:
        model.save(destination, dtype=dtype)
    except OSError as error:
        raise UsageError(str(error)) from error
    return model.config


def describe(config: WorldModelConfig) -> str:
    """What a model is, one fact a line."""
    return "\n".join(f"{name:17} {fact}" for name, fact in card.describe(config).items())
