"""Losses on held-out segments, codebook usage and token accuracy; nothing is drawn, so that figures compare."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import tokenizer
import world_model
from agent.mbpo.model_evaluation import Comparison, evaluate_model
from agent.replay import Episode, rewards_of_actions
from experiments.data.augment import centre_square
from experiments.data.loader import DatasetSpec
from experiments.data.recording import Recording
from experiments.data.segments import every_nth, split_of
from experiments.data.store import Store
from experiments.pretraining.config import Pretraining
from tokenizer.losses import Outputs, losses
from tokenizer.quantize import perplexity, usage
from world_model import WorldModelConfig, WorldModelParams, training

TOP_K = 5


def validate(
    config: WorldModelConfig, params: WorldModelParams, part: str, batches: list[tuple], perceptual: Any
) -> dict[str, float]:
    """Means over batches of (frames uint8 [B, T, H, W, 3], actions [B, T, A], rewards [B, T]); usage over all of
    them."""
    if part == "transformer":
        return _means([_transformer(config, params, *batch) for batch in batches])
    parts = [_tokenizer(config, params.tokenizer, config.layout.arrange(batch[0]), perceptual) for batch in batches]
    metrics = _means([terms for terms, _ in parts])
    for name in ("context", "future"):
        counts_k = jnp.stack([counts[name] for _, counts in parts]).sum(0)
        metrics[f"{name}_codes_used"] = float((counts_k > 0).sum())
        metrics[f"{name}_perplexity"] = float(perplexity(counts_k))
    return metrics


def _means(found: list[dict[str, Array]]) -> dict[str, float]:
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@dataclasses.dataclass(frozen=True)
class Reconstructed:
    """Some held-out segments beside what the tokenizer makes of them; uint8 [M, T, H, W, 3] each."""

    real: np.ndarray
    made: np.ndarray


def reconstruct(
    config: WorldModelConfig, params: WorldModelParams, frames_bthwc: np.ndarray, shown: int = 3
) -> Reconstructed:
    real = frames_bthwc[:shown]
    tokens_bl, _ = world_model.tokenize(config, params, real)
    made = np.clip(np.asarray(world_model.detokenize(config, params, tokens_bl)), 0, 1)
    return Reconstructed(real, np.rint(made * 255).astype(np.uint8))


def with_held_out(settings: Pretraining) -> tuple[DatasetSpec, ...]:
    """The data sets that have recordings to be evaluated on: at least two."""
    return tuple(part for part in settings.data if len(_held_out(settings, Store(part.folder))))


def _held_out(settings: Pretraining, store: Store) -> np.ndarray:
    """Indices of a data set's held-out recordings."""
    return split_of(store, "validation", settings.validation_share, None, settings.held_out)


def evaluate_imagination(settings: Pretraining, model: WorldModelConfig, params: WorldModelParams) -> Comparison | None:
    """The most likely futures of held-out recordings against reality, at each set's step, under their own actions and
    another one's, if the model takes any. None where fewer than two recordings are long enough.
    """
    length = model.tokenizer.context_frames + settings.horizon
    each = math.ceil(settings.evaluated_recordings / len(settings.data))
    episodes = [
        _episode(every_nth(store.read(int(index)), part.step), model)
        for part, store in ((part, Store(part.folder)) for part in settings.data)
        for index in _held_out(settings, store)[:each]
        if -(-store.lengths[index] // part.step) > length
    ]
    return evaluate_model(model, params, episodes, settings.horizon) if len(episodes) > 1 else None


def _episode(recording: Recording, model: WorldModelConfig) -> Episode:
    frames = centre_square(recording.frames, model.tokenizer.resolution)
    size = model.transformer.action_size
    actions = (
        np.asarray(world_model.pad_actions(recording.actions[None, :-1], size))[0]
        if size
        else recording.actions[:-1, :0]
    )
    rewards = np.zeros(len(frames), np.float32) if recording.rewards is None else recording.rewards
    return Episode(frames, actions, rewards_of_actions(rewards), np.zeros(len(actions), bool))


@functools.partial(jax.jit, static_argnames="config")
def _tokenizer(config: WorldModelConfig, params: Any, frames_bthwc: Array, perceptual: Any):
    frames = frames_bthwc.astype(jnp.float32) / 255
    context, future = jnp.split(frames, [config.tokenizer.context_frames], axis=1)
    made = tokenizer.merge(config.tokenizer, params).reconstruct(context, future, None)
    terms = losses(config.tokenizer, Outputs.of(made), context, future, perceptual)
    error = jnp.mean(jnp.square(made.future_bfhwc - future))
    counts = {
        "context": usage(made.context.indices, config.tokenizer.context_codes),
        "future": usage(made.future.indices, config.tokenizer.future_codes),
    }
    return {"loss": sum(terms.values()), **terms, "future_mse": error}, counts


@functools.partial(jax.jit, static_argnames="config")
def _transformer(config: WorldModelConfig, params: WorldModelParams, frames_bthwc, actions_bta, rewards_bt):
    return training.segment_metrics(config, params, frames_bthwc, actions_bta, rewards_bt, TOP_K)
