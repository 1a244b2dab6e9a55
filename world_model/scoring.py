"""Whole sequences: frames to tokens and back, and the transformer with every token given (teacher forcing)."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
from jax import Array

from tokenizer import CompressiveTokenizer
from world_model.config import WorldModelConfig
from world_model.frames import to_float
from world_model.layout import SequenceLayout
from world_model.params import WorldModelParams, tokenizer_of, transformer_of
from world_model.symlog import symexp
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


def reward_of(layout: SequenceLayout, transformer: Transformer, hidden_bld: Array) -> Array:
    """Predicted rewards [B, F] in symlog space, from the hidden states that `future_hidden` returns."""
    future_frames = hidden_bld.shape[1] // layout.frame_length
    return transformer.rewards(hidden_bld[:, layout.reward_positions(future_frames) - layout.context_length])


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


@functools.partial(jax.jit, static_argnames="config")
def score(
    config: WorldModelConfig, params: WorldModelParams, tokens_bl: Array, actions_bta: Array | None
) -> tuple[Array, Array | None]:
    """Logits [B, (n + 1) F, V] from the first [S2] on, and rewards [B, F] in their own units (None without a head)."""
    layout, transformer = config.layout, transformer_of(config, params)
    config.check_horizon(layout.future_frames(tokens_bl.shape[1]))
    hidden_bld = future_hidden(layout, transformer, tokens_bl, actions_bta, None)
    rewards = symexp(reward_of(layout, transformer, hidden_bld)) if config.transformer.reward_head else None
    return transformer.head(hidden_bld), rewards
