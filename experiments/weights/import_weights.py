"""Published weights into a folder of our own: read, check, adapt, write, in this order."""

from __future__ import annotations

import json
import pathlib

import jax
from safetensors import SafetensorError
from safetensors.numpy import load_file

import world_model
from experiments.errors import UsageError
from tokenizer import amused
from world_model import TransformerConfig, WorldModel, WorldModelConfig, card, folder, pretrained

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
    if (vqvae := _find_vqvae(found)) is not None:
        if context_frames or action_size or goal_conditioned:
            raise UsageError(f"{source} is a VQ-VAE alone: leave out what makes a world model of another kind")
        return _save(import_vqvae(vqvae), destination, dtype)
    try:
        goal = goal_conditioned or source.rstrip("/").endswith(GOAL_NAME)
        model = WorldModel.from_pretrained(found, context_frames, action_size, goal or None)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    return _save(model, destination, dtype)


def _save(model: WorldModel, destination: pathlib.Path, dtype: folder.DType) -> WorldModelConfig:
    try:
        model.save(destination, dtype=dtype)
    except OSError as error:
        raise UsageError(str(error)) from error
    return model.config


VQVAE_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def _find_vqvae(place: pathlib.Path) -> pathlib.Path | None:
    """The folder of aMUSEd's VQ-VAE, where the place is one or holds one as `vqvae`; None for a world model."""
    candidates = (candidate for candidate in (place, place / "vqvae") if (candidate / VQVAE_FILES[1]).exists())
    return next(candidates, None)


def import_vqvae(place: pathlib.Path, transformer: TransformerConfig | None = None) -> WorldModel:
    """A world model whose tokenizer has a VQ-VAE's weights in both pairs; its transformer, that of 138 M where nothing
    is said, has learned nothing. Raises UsageError."""
    try:
        document = json.loads((place / VQVAE_FILES[0]).read_text("utf-8"))
        if document.get("_class_name") != amused.CLASS_NAME:
            raise UsageError(f"{place / VQVAE_FILES[0]}: _class_name is not {amused.CLASS_NAME}")
        config = WorldModelConfig(amused.to_config(document), transformer or TransformerConfig(), segment_frames=16)
        params = world_model.init(config, jax.random.key(0)).params
        tensors = load_file(place / VQVAE_FILES[1])
        both = amused.import_both_pairs(config.tokenizer, params.tokenizer, tensors)
        return WorldModel(config, params.replace(tokenizer=both))
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise UsageError(f"{place}: {error}") from error


def describe(config: WorldModelConfig) -> str:
    """What a model is, one fact a line."""
    return "\n".join(f"{name:17} {fact}" for name, fact in card.describe(config).items())
