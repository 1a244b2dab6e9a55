"""Published weights into a folder of our own: read, check, adapt, write, in this order."""

from __future__ import annotations

import pathlib
import re

from experiments.errors import UsageError
from world_model import WorldModel, WorldModelConfig, folder, sizes

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
"""As in thuml/ivideogpt-oxe-64-act-free."""
GOAL_NAME = "-goal-cond"
"""How the published names of goal-conditioned models end; nothing in their files says what they are."""


def import_weights(
    source: str,
    destination: pathlib.Path,
    context_frames: int | None = None,
    action_size: int | None = None,
    goal_conditioned: bool = False,
) -> WorldModelConfig:
    """Write what a published folder or hub name holds to `destination`, for another C or A where given.

    goal_conditioned: the context begins with the goal; so it is, too, where the source's name ends with GOAL_NAME.
    The folder appears whole, after everything has been checked. Raises UsageError, in one sentence, otherwise.
    """
    found = find(source)
    if found.resolve() == destination.resolve():
        raise UsageError(f"{destination} is where the weights come from: choose another place for the imported ones")
    try:
        goal = goal_conditioned or source.rstrip("/").endswith(GOAL_NAME)
        model = WorldModel.from_pretrained(found, context_frames, action_size, goal or None)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    try:
        model.save(destination)
    except OSError as error:
        raise UsageError(str(error)) from error
    return model.config


def find(source: str) -> pathlib.Path:
    """The folder that is meant: one on this machine, or else a hub's, fetched."""
    path = pathlib.Path(source)
    if path.is_dir():
        return path
    if path.exists() or not HUB_NAME.fullmatch(source):
        raise UsageError(f"{source}: no such folder, and no hub name like thuml/ivideogpt-oxe-64-act-free")
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports] (of the extra `hub`)
    except ImportError:
        raise UsageError(
            f"{source} is no folder here; to fetch it from the hub: pip install 'ivideogpt-jax[hub]', or give a folder"
        ) from None
    files = [folder.TOKENIZER, folder.TOKENIZER_CONFIG, folder.TRANSFORMER, folder.TRANSFORMER_CONFIG]
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(source, allow_patterns=files))
    except (OSError, ValueError) as error:  # all that its own errors are
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"{source} is no folder here, and the hub did not give it: {reason}") from error


def describe(config: WorldModelConfig) -> str:
    """What a model is, one fact a line."""
    tokenizer, transformer, counts = config.tokenizer, config.transformer, sizes(config)
    facts = {
        "resolution": f"{tokenizer.resolution} x {tokenizer.resolution}",
        "context frames": f"{tokenizer.context_frames}, the first of them the goal"
        if config.goal_conditioned
        else tokenizer.context_frames,
        "tokens per frame": f"{tokenizer.tokens_per_context} context, {tokenizer.tokens_per_future} future",
        "tokenizer": f"{counts['tokenizer']:,} parameters",
        "transformer": f"{counts['transformer']:,} parameters",
        "action size": transformer.action_size or "none (action-free)",
        "reward head": "yes" if transformer.reward_head else "no",
    }
    return "\n".join(f"{name:17} {fact}" for name, fact in facts.items())
