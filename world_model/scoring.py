"""Whole sequences: frames to tokens and back, and the transformer with every token given (teacher forcing)."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
from jax import Array

from tokenizer import CompressiveTokenizer
from world_model.config import WorldModelConfig
from world_model.frame_predictor import FramePredictor
from world_model.frames import to_float
from world_model.layout import SequenceLayout
from world_model.params import WorldModelParams, predictor_of, tokenizer_of, transformer_of
from world_model.rewards import reward_of
from world_model.transformer import Transformer


def tokens_of(layout: SequenceLayout, tokenizer: CompressiveTokenizer, frames_bthwc: Array) -> Array:
    """Token ids int32 [B, L] of frames [B, T, H, W, 3] in the order of time, uint8 or float32 in [0, 1]; T >= C."""
    frames = to_float(layout.arrange(frames_bthwc))
    context = tokenizer.encode_context(frames[:, : layout.context_frames])
    return layout.join(context.tokens_bcn, tokenizer.encode_future(frames[:, layout.context_frames :], context))


def future_hidden(
    layout: SequenceLayout, transformer: Transformer, tokens_bl: Array, actions_bta: Array | None, key: Array | None
) -> Array:
    """Last hidden states [B, (n + 1) F, D] from the first [S2] on. A key turns dropout on."""
    future_frames = layout.future_frames(tokens_bl.shape[1])
    slots = layout.slot_positions(future_frames)
    embeddings = transformer.embed(tokens_bl)
    if transformer.config.action_size:
        assert actions_bta is not None
        chex.assert_rank(actions_bta, 3)
        actions_bfa = layout.future_actions(actions_bta, future_frames)
        embeddings = embeddings.at[:, slots].set(transformer.act(embeddings[:, slots], actions_bfa))
    return transformer(embeddings, layout.context_length, key)


def reward_features(layout: SequenceLayout, hidden_bld: Array) -> Array:
    """What the rewards of frames are read from, [B, F, D], of the hidden states that `future_hidden` returns."""
    future_frames = hidden_bld.shape[1] // layout.frame_length
    return hidden_bld[:, layout.reward_positions(future_frames) - layout.context_length]


@functools.partial(jax.jit, static_argnames="config")
def tokenize(config: WorldModelConfig, params: WorldModelParams, frames_bthwc: Array) -> tuple[Array, Array]:
    """Tokens and labels, int32 [B, L] each, of frames [B, T, H, W, 3]."""
    tokens_bl = tokens_of(config.layout, tokenizer_of(config, params), frames_bthwc)
    return tokens_bl, config.layout.labels(tokens_bl)


@functools.partial(jax.jit, static_argnames="config")
def detokenize(config: WorldModelConfig, params: WorldModelParams, tokens_bl: Array) -> Array:
    """Frames float32 [B, T, H, W, 3] of tokens int32 [B, L]; not clipped."""
    tokenizer = tokenizer_of(config, params)
    context_codes_bcn, future_codes_bfn = config.layout.split(tokens_bl)
    context_frames, context = tokenizer.decode_context(context_codes_bcn)
    frames = jnp.concatenate([context_frames, tokenizer.decode_future(future_codes_bfn, context)], axis=1)
    return config.layout.in_time(frames)


def hidden_of_frames(
    layout: SequenceLayout, predictor: FramePredictor, context_bchwc: Array, actions_bta: Array | None, frames_bs: Array
) -> Array:
    """Hidden states [B, S, patches, D] of the future frames with the numbers `frames_bs`, from 0, of a frame predictor.

    context_bchwc: float32 in [0, 1]. actions_bta: counted over the whole segment.
    """
    context, size = predictor.begin(context_bchwc), predictor.config.action_size
    if not size:
        return predictor(context, jnp.zeros((*frames_bs.shape, 1, 0)), frames_bs + 1)
    assert actions_bta is not None
    actions_bha = jnp.asarray(actions_bta)[:, layout.frames_before - 1 :]
    done_bsh = jnp.arange(actions_bha.shape[1]) <= frames_bs[..., None]
    return predictor(context, jnp.where(done_bsh[..., None], actions_bha[:, None], 0.0), frames_bs + 1)


IMPOSSIBLE = -1e9
"""The logit of a token that cannot come."""


def _score_frames(
    config: WorldModelConfig,
    params: WorldModelParams,
    tokens_bl: Array,
    actions_bta: Array | None,
    context_frames: Array | None,
) -> tuple[Array, Array | None]:
    """As `score`. What a frame predictor never predicts has IMPOSSIBLE logits: a slot where a code comes, and so on."""
    if context_frames is None:
        raise ValueError("this model starts from the context's pixels: give context_frames")
    layout, predictor = config.layout, predictor_of(config, params)
    b, future_frames = len(tokens_bl), layout.future_frames(tokens_bl.shape[1])
    frames_bf = jnp.broadcast_to(jnp.arange(future_frames), (b, future_frames))
    hidden = hidden_of_frames(layout, predictor, to_float(context_frames), actions_bta, frames_bf)
    logits = jnp.full((b, future_frames, layout.frame_length, layout.vocabulary), IMPOSSIBLE)
    logits = logits.at[:, :, :-1, layout.future_ids].set(predictor.logits(hidden))
    logits = logits.at[:, :, -1, layout.future_slot].set(0.0)
    rewards = reward_of(predictor.reward_outputs(hidden)) if config.transformer.reward_head else None
    return logits.reshape(b, -1, layout.vocabulary), rewards


@functools.partial(jax.jit, static_argnames="config")
def score(
    config: WorldModelConfig,
    params: WorldModelParams,
    tokens_bl: Array,
    actions_bta: Array | None,
    context_frames: Array | None = None,
) -> tuple[Array, Array | None]:
    """Logits [B, (n + 1) F, V] from the first [S2] on, and rewards [B, F] in their own units (None without a head).

    context_frames: [B, C, H, W, 3], which a model that decodes frames needs. Raises ValueError where it lacks them.
    """
    layout = config.layout
    config.check_horizon(layout.future_frames(tokens_bl.shape[1]))
    if config.transformer.decoding == "frames":
        return _score_frames(config, params, tokens_bl, actions_bta, context_frames)
    transformer = transformer_of(config, params)
    hidden_bld = future_hidden(layout, transformer, tokens_bl, actions_bta, None)
    rewards = None
    if config.transformer.reward_head:
        rewards = reward_of(transformer.reward_outputs(reward_features(layout, hidden_bld)))
    return transformer.head(hidden_bld), rewards
