"""How a future frame looks at the context frames (paper section 3.1, equation 4)."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer.blocks import held
from tokenizer.config import TokenizerConfig
from tokenizer.initial import DeferredInit
from tokenizer.layers import GroupNorm, Linear

EPSILON = 1e-5
"""Of the norms here; the residual blocks have another."""

POSITIONS = 0.03
"""Bound of the initial positions."""


class KeysValues(NamedTuple):
    """What one cross-attention needs of the context: projected once, used for every future frame."""

    keys_blhd: Array  # [B, C * h * w, heads, width of a head]
    values_blhd: Array


class CrossAttention(nnx.Module):
    """Multi-head attention from one future map to all context maps of the same level; SiLU(map + attention)."""

    def __init__(self, channels: int, side: int, config: TokenizerConfig, *, deferred: DeferredInit):
        self.config = config
        self.query_norm = GroupNorm(channels, config.norm_groups, EPSILON, config.norm_per_position)
        self.context_norm = GroupNorm(channels, config.norm_groups, EPSILON, config.norm_per_position)
        self.query_positions = deferred.uniform((side**2, channels), POSITIONS)
        self.context_positions = deferred.uniform((config.context_frames * side**2, channels), POSITIONS)
        self.query = Linear(channels, channels, deferred=deferred)
        self.key = Linear(channels, channels, deferred=deferred)
        self.value = Linear(channels, channels, deferred=deferred)
        self.out = Linear(channels, channels, deferred=deferred)

    def project(self, maps_nhwc: Array) -> KeysValues:
        """Keys and values of context maps [B * C, h, w, c], the C frames of an example laid side by side."""
        positions = self.context_positions[...].astype(maps_nhwc.dtype)
        # Laid side by side before the norm: its statistics are those of all C frames together.
        context_blc = self.context_norm(maps_nhwc.reshape(-1, *positions.shape)) + positions
        return KeysValues(self._heads(self.key(context_blc)), self._heads(self.value(context_blc)))

    def __call__(self, maps_nhwc: Array, context: KeysValues, key: Array | None) -> Array:
        """Future maps [B * F, h, w, c] to the same. key: draws the dropout of training; None: no dropout."""
        return held(self.config, self._attend)(maps_nhwc, context, key)

    def _attend(self, maps_nhwc: Array, context: KeysValues, key: Array | None) -> Array:
        n, h, w, c = maps_nhwc.shape
        positions = self.query_positions[...].astype(maps_nhwc.dtype)
        queries_npc = self.query_norm(maps_nhwc).reshape(n, h * w, c) + positions
        # All future frames of an example look at the same context, so they share one set of keys: F h w queries.
        queries = self._heads(self.query(queries_npc)).reshape(len(context.keys_blhd), -1, *context.keys_blhd.shape[2:])
        weight_key, out_key = (None, None) if key is None else jax.random.split(key)
        queries = queries * math.sqrt(1 / queries.shape[-1])
        scores = jnp.einsum("bqhd,blhd->bhql", queries, context.keys_blhd, preferred_element_type=jnp.float32)
        weights = dropout(jax.nn.softmax(scores, axis=-1), self.config.dropout, weight_key)
        attended = jnp.einsum("bhql,blhd->bqhd", weights.astype(maps_nhwc.dtype), context.values_blhd)
        out = dropout(self.out(attended.reshape(n, h, w, c)), self.config.dropout, out_key)
        return jax.nn.silu(maps_nhwc + out)

    def _heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.config.attention_heads, -1)


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Zero a share `rate` of the entries and scale up the rest; nothing without a key."""
    if key is None or rate == 0:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)
