"""Causal self-attention with rotary positions, over a whole sequence or over a cache of fixed length."""

from __future__ import annotations

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from world_model.config import TransformerConfig

MASKED = np.finfo(np.float32).min / 2

PIECE = 256
"""Queries of a sequence that are answered at a time.

No key after a piece is compared with its queries, which saves up to half of the work. Smaller pieces save little more
and take longer to compile.
"""


class Cache(flax.struct.PyTreeNode):
    """Keys (already rotated) and values of every layer, each [B, heads, positions, head size]; `length` are filled.

    The shapes never change: a token is written into its place, and attention masks what lies beyond.
    """

    keys: tuple[Array, ...]
    values: tuple[Array, ...]
    length: Array  # int32 []

    @property
    def positions(self) -> int:
        return self.keys[0].shape[2]


def rotary_table(config: TransformerConfig, positions: int) -> np.ndarray:
    """Cosines and sines [2, positions, head size / 2] of every position's angles."""
    exponents = np.arange(0, config.head_size, 2, dtype=np.float32) / np.float32(config.head_size)
    frequencies = (1.0 / np.float32(config.rotary_base) ** exponents).astype(np.float32)
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    return np.stack([np.cos(angles), np.sin(angles)])


def rotate(x_bhld: Array, table_2ld: Array) -> Array:
    """Turn the pairs (i, i + head size / 2) of each head by their position's angles, which are float32."""
    cosine, sine = table_2ld
    first, second = jnp.split(x_bhld, 2, axis=-1)
    turned = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return turned.astype(x_bhld.dtype)


def split_heads(x_bld: Array, heads: int) -> Array:
    """[B, L, D] -> [B, heads, L, D / heads]"""
    b, length, d = x_bld.shape
    return x_bld.reshape(b, length, heads, d // heads).transpose(0, 2, 1, 3)


def merge_heads(x_bhld: Array) -> Array:
    """The inverse of `split_heads`."""
    b, h, length, d = x_bhld.shape
    return x_bhld.transpose(0, 2, 1, 3).reshape(b, length, h * d)


@functools.partial(jax.checkpoint, static_argnums=4)
def attend(
    queries_bhqd: Array, keys_bhkd: Array, values_bhkd: Array, allowed_qk: Array, dropout: float, key: Array | None
) -> Array:
    """Softmax attention [B, heads, Q, head size]; `allowed_qk` says which keys a query may see.

    The weights, quadratic in the length, are computed again in the backward pass rather than kept.
    """
    scores = jnp.einsum("bhqd,bhkd->bhqk", queries_bhqd, keys_bhkd, preferred_element_type=jnp.float32)
    scores = scores * queries_bhqd.shape[-1] ** -0.5
    weights = jax.nn.softmax(jnp.where(allowed_qk, scores, MASKED), axis=-1)
    if key is not None and dropout > 0:
        weights = drop(weights, dropout, key)
    return jnp.einsum("bhqk,bhkd->bhqd", weights.astype(values_bhkd.dtype), values_bhkd)


def attend_causally(
    queries_bhqd: Array, keys_bhkd: Array, values_bhkd: Array, dropout: float, key: Array | None
) -> Array:
    """Each query attends up to its own position: [B, heads, Q, head size]. The queries are of the last Q positions."""
    length, asked = keys_bhkd.shape[2], queries_bhqd.shape[2]
    pieces = []
    for index, start in enumerate(range(0, asked, PIECE)):
        piece = queries_bhqd[:, :, start : start + PIECE]
        first = length - asked + start
        seen = first + piece.shape[2]
        allowed_qk = np.arange(first, seen)[:, None] >= np.arange(seen)
        piece_key = None if key is None else jax.random.fold_in(key, index)
        pieces.append(attend(piece, keys_bhkd[:, :, :seen], values_bhkd[:, :, :seen], allowed_qk, dropout, piece_key))
    return jnp.concatenate(pieces, axis=2)


def drop(x: Array, rate: float, key: Array) -> Array:
    """Zero entries with probability `rate` (to 1 / 65536), scaling the others."""
    # Half a random word decides on an entry: drawing them takes longer than all the rest of attention.
    words = jax.random.bits(key, (*x.shape[:-1], -(-x.shape[-1] // 2)), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
    return jnp.where(halves >= round(rate * 2**16), x / (1 - rate), 0.0)


def linear_without_bias(config: TransformerConfig, rngs: nnx.Rngs) -> Callable[..., nnx.Linear]:
    """Makes the linear layers of the blocks, given the sizes of their inputs and outputs."""
    return functools.partial(
        nnx.Linear,
        use_bias=False,
        kernel_init=nnx.initializers.normal(config.initial_std),
        dtype=config.compute_dtype,
        rngs=rngs,
    )


class SelfAttention(nnx.Module):
    """The projections of queries, keys and values are one matrix [D, 3 D], in this order."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        linear = linear_without_bias(config, rngs)
        self.heads, self.width, self.dropout = config.heads, config.width, config.dropout
        self.qkv = linear(config.width, 3 * config.width)
        self.output = linear(config.width, config.width)

    def _project(self, x_bld: Array, outputs: slice) -> Array:
        """Some of the outputs of `qkv`."""
        return x_bld.astype(self.qkv.dtype) @ self.qkv.kernel[:, outputs].astype(self.qkv.dtype)

    def keys_and_values(self, x_bld: Array, table_2ld: Array) -> tuple[Array, Array]:
        """Rotated keys and values, each [B, heads, L, head size]."""
        keys, values = jnp.split(self._project(x_bld, slice(self.width, None)), 2, axis=-1)
        return rotate(split_heads(keys, self.heads), table_2ld), split_heads(values, self.heads)

    def __call__(self, x_bld: Array, table_2ld: Array, first: int, key: Array | None) -> tuple[Array, Array, Array]:
        """Attend over the whole sequence from position `first` on: [B, L - first, D], and all keys and values."""
        if first:
            queries = self._project(x_bld[:, first:], slice(self.width))
            keys, values = self.keys_and_values(x_bld, table_2ld)
        else:
            queries, keys, values = jnp.split(self.qkv(x_bld), 3, axis=-1)
            keys, values = rotate(split_heads(keys, self.heads), table_2ld), split_heads(values, self.heads)
        queries = rotate(split_heads(queries, self.heads), table_2ld[:, first:])
        mixed = attend_causally(queries, keys, values, self.dropout, key)
        return self.output(merge_heads(mixed)), keys, values

    def step(
        self, x_b1d: Array, table_21d: Array, keys_bhkd: Array, values_bhkd: Array, position: Array
    ) -> tuple[Array, Array, Array]:
        """Write one token's key and value at `position` and attend up to it; returns the updated keys and values."""
        query, key, value = (split_heads(x, self.heads) for x in jnp.split(self.qkv(x_b1d), 3, axis=-1))
        at = (0, 0, position, 0)
        keys = jax.lax.dynamic_update_slice(keys_bhkd, rotate(key, table_21d), at)
        values = jax.lax.dynamic_update_slice(values_bhkd, value, at)
        allowed = (jnp.arange(keys.shape[2]) <= position)[None]
        mixed = attend(rotate(query, table_21d), keys, values, allowed, 0.0, None)
        return self.output(merge_heads(mixed)), keys, values
