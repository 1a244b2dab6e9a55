"""The same weights for another context length or action size, with or without rewards.

This is how fine-tuning starts from a published model.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer import abstract_params
from tokenizer import published as published_tokenizer
from tokenizer.config import other_architecture
from tokenizer.types import AnyArray, Params, Path
from world_model import modules
from world_model.config import WorldModelConfig
from world_model.params import WorldModelParams
from world_model.reward_ensemble import RewardEnsemble


def with_context_frames(
    config: WorldModelConfig, params: WorldModelParams, context_frames: int
) -> tuple[WorldModelConfig, WorldModelParams]:
    """The same model after C context frames. Raises ValueError where no future frame would fit behind them."""
    tokenizer_config, tokenizer = published_tokenizer.with_context_frames(
        config.tokenizer, params.tokenizer, context_frames
    )
    # A training segment holds at least one future frame.
    segment_frames = max(config.segment_frames, context_frames + 1)
    if config.transformer.decoding == "frames":
        raise ValueError(
            f"a model that decodes frames starts from the pixels of {config.tokenizer.context_frames} context frames: "
            f"keep them"
        )
    config = dataclasses.replace(config, tokenizer=tokenizer_config, segment_frames=segment_frames)
    positions = config.transformer.max_positions
    if not config.layout.longest_horizon(positions):
        raise ValueError(
            f"{context_frames} context frames take {config.layout.context_length} of the transformer's {positions} "
            f"positions: too few are left for a future frame"
        )
    return config, params.replace(tokenizer=tokenizer)


def with_action_size(
    config: WorldModelConfig, params: WorldModelParams, action_size: int
) -> tuple[WorldModelConfig, WorldModelParams]:
    """The same model for actions of A numbers: new rows of the action layer are zero, so predictions stay the same.

    An action-free model gets the whole layer; one with smaller actions predicts for `pad_actions(actions, A)` what it
    predicted for the actions. Raises ValueError where A is smaller than the model's action size.
    """
    known = config.transformer.action_size
    if action_size < known or action_size < 0:
        raise ValueError(
            f"this model takes actions of {known} numbers: its action size can grow, not become {action_size}"
        )
    changed = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, action_size=action_size))
    if action_size == known:
        return config, params
    abstract = dict(nnx.to_flat_state(modules.abstract(changed.transformer, config.layout)))
    flat = dict(nnx.to_flat_state(params.transformer))
    for path, wanted in abstract.items():
        if path not in flat:
            flat[path] = wanted.replace(jnp.zeros(wanted.shape, wanted.dtype))
        elif flat[path].shape != wanted.shape:
            rows = jnp.zeros((wanted.shape[0] - flat[path].shape[0], *wanted.shape[1:]))
            flat[path] = wanted.replace(jnp.concatenate([flat[path][...], rows]))
    # In the order of the model's own parameters, whatever was put in last.
    return changed, params.replace(transformer=nnx.from_flat_state([(path, flat[path]) for path in abstract]))


def with_reward_head(
    config: WorldModelConfig, params: WorldModelParams, reward_head: bool = True, reward_bins: int | None = None
) -> tuple[WorldModelConfig, WorldModelParams]:
    """The same model with a reward head, or without one (data without rewards) and the ensemble beside it.

    Where it has none, or one with another number of outputs, the new one says zero until it is trained.
    """
    transformer = dataclasses.replace(
        config.transformer,
        reward_head=reward_head,
        reward_bins=reward_bins,
        reward_ensemble=config.transformer.reward_networks if reward_head else 0,
    )
    known = params.transformer
    if transformer.reward_outputs != config.transformer.reward_outputs:
        known = nnx.from_flat_state([each for each in nnx.to_flat_state(known) if each[0][0] != "reward"])
    changed = dataclasses.replace(config, transformer=transformer)
    return changed, params.replace(transformer=_with_new_layers(changed, known))


def with_reward_ensemble(
    config: WorldModelConfig, params: WorldModelParams, size: int
) -> tuple[WorldModelConfig, WorldModelParams]:
    """The same model with so many new reward networks beside the head, or without those it has.

    They are drawn from a fixed key: equal ones, and zeros most of all, would never come to differ. Raises ValueError
    where it has some, and another number of them is asked for.
    """
    changed = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, reward_ensemble=size))
    known = config.transformer.reward_networks
    if size == known:
        return config, params
    if size and known:
        raise ValueError(f"reward_ensemble is {size}, but this model has learned {known} networks: keep {known}, or 0")
    flat = [each for each in nnx.to_flat_state(params.transformer) if each[0][0] != "reward_ensemble"]
    if size:
        ensemble = nnx.state(RewardEnsemble(changed.transformer, rngs=nnx.Rngs(0)), nnx.Param)
        flat += [(("reward_ensemble", *path), leaf) for path, leaf in nnx.to_flat_state(ensemble)]
    return changed, params.replace(transformer=_with_new_layers(changed, nnx.from_flat_state(flat)))


def with_action_head(
    config: WorldModelConfig, params: WorldModelParams, action_head: bool
) -> tuple[WorldModelConfig, WorldModelParams]:
    """The same model with an action head, a new one reading zeros until trained, or without one."""
    changed = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, action_head=action_head))
    return changed, params.replace(transformer=_with_new_layers(changed, params.transformer))


def _with_new_layers(config: WorldModelConfig, transformer: Params) -> Params:
    """The parameters that a configuration's transformer has: those that are there, and zeros."""
    abstract = dict(nnx.to_flat_state(modules.abstract(config.transformer, config.layout)))
    flat = dict(nnx.to_flat_state(transformer))
    new = {path: leaf.replace(jnp.zeros(leaf.shape, leaf.dtype)) for path, leaf in abstract.items() if path not in flat}
    return nnx.from_flat_state([(path, (flat | new)[path]) for path in abstract])


def fit_params(config: WorldModelConfig, params: WorldModelParams, wanted: WorldModelConfig) -> WorldModelParams:
    """The weights for a configuration of the same architecture.

    It may have other context frames, larger actions, and rewards or none. Raises ValueError as the functions above do,
    and where the architecture differs, with what differs.
    """
    check_architecture(config, wanted)
    if wanted.tokenizer.context_frames != config.tokenizer.context_frames:
        config, params = with_context_frames(config, params, wanted.tokenizer.context_frames)
    if config.transformer.action_head and config.transformer.action_size != wanted.transformer.action_size:
        config, params = with_action_head(config, params, False)
    config, params = with_action_size(config, params, wanted.transformer.action_size)
    config, params = with_action_head(config, params, wanted.transformer.action_head)
    config, params = with_reward_head(config, params, wanted.transformer.reward_head, wanted.transformer.reward_bins)
    params = with_reward_ensemble(config, params, wanted.transformer.reward_networks)[1]
    _check_shapes(wanted, params)
    return params


def check_architecture(config: WorldModelConfig, wanted: WorldModelConfig) -> None:
    """Raise ValueError, with the settings' names, where weights of one configuration are of no use to the other."""
    for part in ("tokenizer", "transformer"):
        if differing := other_architecture(getattr(config, part), getattr(wanted, part)):
            raise ValueError(f"these weights are of another {part}: leave {', '.join(differing)} as the model has them")


def _check_shapes(wanted: WorldModelConfig, params: WorldModelParams) -> None:
    """Raise ValueError where weights are not the arrays, by name and shape, that a configuration's model has."""
    expected = {
        "tokenizer": abstract_params(wanted.tokenizer),
        "transformer": modules.abstract(wanted.transformer, wanted.layout),
    }
    for part, abstract in expected.items():
        found, needed = (_shapes(state) for state in (getattr(params, part), abstract))
        for path in needed.keys() | found.keys():
            if found.get(path) != needed.get(path):
                raise ValueError(
                    f"these weights do not fit the {part}: {'.'.join(map(str, path))} is {found.get(path, 'missing')}, "
                    f"expected {needed.get(path, 'none')}"
                )


def _shapes(state: Params) -> dict[Path, tuple[int, ...]]:
    return {path: tuple(leaf.shape) for path, leaf in nnx.to_flat_state(state)}


def pad_actions(actions: AnyArray, action_size: int) -> Array:
    """Actions [..., a] as [..., A] with A - a zeros behind, so that data of several robots can be mixed.

    Raises ValueError where the actions have more than A numbers.
    """
    found = actions.shape[-1]
    if found > action_size:
        raise ValueError(
            f"actions of {found} numbers do not fit into an action size of {action_size}: choose {found} or more"
        )
    return jnp.pad(actions, [(0, 0)] * (actions.ndim - 1) + [(0, action_size - found)])
