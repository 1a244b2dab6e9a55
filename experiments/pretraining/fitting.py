"""What a preset becomes for the model that learns and for the data that it learns from; what was decided is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from experiments.data.loader import DatasetSpec
from experiments.data.store import Store
from experiments.errors import UsageError
from experiments.pretraining.config import Pretraining
from experiments.runs import hosts
from world_model import WorldModelConfig

OF_PRESET = {
    "tokenizer": (
        "context_frames",
        "compute_dtype",
        "recompute",
        "future_sample",
        "shuffle_frames",
        "balanced_loss",
        "adversarial_weight",
        "adversarial_start_step",
        "discriminator",
        "discriminator_rate",
    ),
    "transformer": ("compute_dtype", "recompute"),
}
"""What fine-tuning takes from its preset. The architecture and the other losses are the model's own; actions and
rewards are those of the data."""


def with_model(preset: Pretraining, **changes) -> Pretraining:
    """The preset with another configuration of its world model. Raises UsageError where parts do not fit each other."""
    try:
        return dataclasses.replace(preset, world_model=dataclasses.replace(preset.world_model, **changes))
    except ValueError as error:
        raise UsageError(str(error)) from error


def of_model(preset: Pretraining, model: WorldModelConfig) -> Pretraining:
    """The preset for a model that is there: with its architecture, which only OF_PRESET changes."""
    parts = {}
    for part, names in OF_PRESET.items():
        own, wanted = getattr(model, part), getattr(preset.world_model, part)
        try:
            parts[part] = dataclasses.replace(own, **{name: getattr(wanted, name) for name in names})
        except ValueError as error:
            raise UsageError(f"preset {preset.preset} does not fit the model: {error}") from error
    context = parts["tokenizer"].context_frames
    if context != model.tokenizer.context_frames:
        _say(
            f"context frames: {context}, as in preset {preset.preset}, where the model had "
            f"{model.tokenizer.context_frames} (--world-model.tokenizer.context-frames "
            f"{model.tokenizer.context_frames} keeps those)"
        )
    actions = max(parts["transformer"].action_size, preset.world_model.transformer.action_size)
    head = preset.world_model.transformer.reward_head
    bins = preset.world_model.transformer.reward_bins or model.transformer.reward_bins
    ensemble = preset.world_model.transformer.reward_ensemble or model.transformer.reward_ensemble
    parts["transformer"] = dataclasses.replace(
        parts["transformer"],
        action_size=actions,
        reward_head=head,
        reward_bins=bins,
        reward_ensemble=ensemble,
    )
    if model.transformer.decoding != preset.world_model.transformer.decoding:  # each learns in a way of its own
        parts |= model.of_decoding
    goal = model.goal_conditioned or preset.world_model.goal_conditioned
    return with_model(preset, **parts, goal_conditioned=goal)


def for_data(preset: Pretraining, data: Sequence[DatasetSpec], model: WorldModelConfig | None) -> Pretraining:
    """The preset with the actions and rewards that the data has, where it has any; a model that is there keeps its
    actions.

    Raises DataError where there is no data set, or where its first recording is damaged.
    """
    stores = [Store(part.folder) for part in data]
    signals = [store.signals for store in stores]
    for store in stores:
        _say_if_small(store, preset.world_model.tokenizer.resolution)
    old = preset.world_model.transformer
    known = model.transformer.action_size if model else 0
    actions = max(known, *(found.action_size for found in signals)) if old.action_size else 0
    rewards = old.reward_head and all(found.rewards for found in signals)
    if old.action_size and not actions:
        _say("the data has no actions: the model is one without")
    elif actions != (known or old.action_size):
        _say(f"actions of {actions} numbers, as the data has them")
    if rewards != old.reward_head:
        lacking = next(part.folder for part, found in zip(data, signals, strict=True) if not found.rewards)
        _say(f"{lacking} has no rewards: the model has no reward head")
    elif model and model.transformer.reward_head and not rewards:
        _say(
            f"preset {preset.preset} is without rewards: the model loses its reward head "
            "(--world-model.transformer.reward-head keeps it)"
        )
    return with_model(preset, transformer=dataclasses.replace(old, action_size=actions, reward_head=rewards))


def _say(what: str) -> None:
    if hosts.is_first():
        print(what)


def _say_if_small(store: Store, resolution: int) -> None:
    """Pictures of any size can be learned from; detail that was lost in a conversion does not come back."""
    height, width = store.read(0, [0]).frames.shape[1:3]
    if min(height, width) < resolution:
        _say(
            f"{store.folder} holds pictures of {width}x{height} pixels, which are enlarged to {resolution}: "
            f"convert-data without --resolution keeps all of larger ones"
        )
