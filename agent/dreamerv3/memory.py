"""Latents of replayed steps: a sequence that begins inside an episode goes on from what the model knew there.

Every update leaves the states that it passed through (replay context 1 in the published code).
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from agent.dreamerv3.config import ModelConfig
from agent.dreamerv3.rssm import State


class Latents(NamedTuple):
    """N rows, one per step. A row that nothing was written to holds the state before an episode's first frame."""

    deter_nd: Array
    classes_ns: Array  # int32: which class each latent took, or -1

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in self)


def blank(config: ModelConfig, rows: int) -> Latents:
    """Nothing written yet."""
    return Latents(jnp.zeros((rows, config.deter), config.compute), jnp.full((rows, config.stoch), -1, jnp.int32))


def read(config: ModelConfig, latents: Latents, rows_b: Array) -> State:
    """The states [B] of rows [B]; of a negative row, the state before an episode's first frame."""
    chex.assert_rank(rows_b, 1)
    known = rows_b[:, None] >= 0
    deter = jnp.where(known, latents.deter_nd[rows_b], 0)
    classes = jnp.where(known, latents.classes_ns[rows_b], -1)
    return State(deter, jax.nn.one_hot(classes, config.classes, dtype=config.compute))


def write(latents: Latents, rows: Array, states: State) -> Latents:
    """Remember states [...] in rows [...], of which no two are the same; what belongs to a negative row is dropped."""
    chex.assert_equal_shape_prefix([rows, *states], rows.ndim)
    rows = rows.reshape(-1)
    rows = jnp.where(rows < 0, len(latents.deter_nd), rows)  # beyond the end, where `drop` drops
    deter, stoch = (x.reshape(len(rows), *x.shape[x.ndim - k :]) for x, k in zip(states, (1, 2), strict=True))
    classes = jnp.where(stoch.any(-1), stoch.argmax(-1), -1).astype(jnp.int32)
    return Latents(
        latents.deter_nd.at[rows].set(deter.astype(latents.deter_nd.dtype), mode="drop"),
        latents.classes_ns.at[rows].set(classes, mode="drop"),
    )
