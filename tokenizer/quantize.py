"""Latents to codes and back: vector quantization as published, and finite scalar quantization."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from tokenizer.config import TokenizerConfig
from tokenizer.initial import DeferredInit

ROWS_AT_ONCE = 8192
"""Latents compared with the codebook at a time: bounds the distance matrix to 256 MiB for 8192 codes."""


class Quantized(NamedTuple):
    """What a quantizer makes of latents [..., D]."""

    codes: Array  # [..., D]; the gradient goes straight through to the latents
    indices: Array  # [...] int32 in [0, K)
    loss: Array  # scalar: commitment and codebook


def straight_through(latents: Array, codes: Array) -> Array:
    """The codes, with the gradient of the latents."""
    return latents + lax.stop_gradient(codes - latents)


def nearest_code(latents_md: Array, codebook_kd: Array) -> Array:
    """Index [M] int32 of the code nearest to each latent, by Euclidean distance; the first of equals."""
    chex.assert_rank([latents_md, codebook_kd], [2, 2])
    chex.assert_equal(latents_md.shape[-1], codebook_kd.shape[-1])
    squares_k = jnp.square(codebook_kd).sum(-1)

    def nearest(latent_d: Array) -> Array:
        # |x - e|^2 without |x|^2, which is the same for all codes. Full precision: a token is a decision.
        return jnp.argmin(squares_k - 2 * jnp.matmul(codebook_kd, latent_d, precision=lax.Precision.HIGHEST))

    return lax.map(nearest, latents_md, batch_size=ROWS_AT_ONCE).astype(jnp.int32)


class VectorQuantizer(nnx.Module):
    """A learned codebook (paper section 3.1; van den Oord et al., 2017)."""

    def __init__(self, codes: int, config: TokenizerConfig, *, deferred: DeferredInit):
        self.commitment_weight = config.commitment_weight
        self.frozen = config.freeze_codebooks
        self.codebook = deferred.uniform((codes, config.latent_channels), 1 / codes)

    def __call__(self, latents: Array) -> Quantized:
        """Latents [..., D] to their nearest codes.

        Commitment (the latent moves to its code) has the weight of the config, the codebook's own term (the code moves
        to its latents) has 1: the order the published code calls non-legacy.
        """
        codebook = lax.stop_gradient(self.codebook[...]) if self.frozen else self.codebook[...]
        flat = latents.reshape(-1, latents.shape[-1])
        indices = nearest_code(lax.stop_gradient(flat), lax.stop_gradient(codebook)).reshape(latents.shape[:-1])
        codes = codebook[indices]
        commitment = jnp.square(lax.stop_gradient(codes) - latents).mean()
        codebook_loss = jnp.square(codes - lax.stop_gradient(latents)).mean()
        return Quantized(straight_through(latents, codes), indices, self.commitment_weight * commitment + codebook_loss)

    def lookup(self, indices: Array) -> Array:
        """The codes [..., D] of indices [...]."""
        return self.codebook[...][indices]

    def mean(self, probabilities: Array) -> Array:
        """The mean code [..., D] under the probabilities [..., K] of all codes."""
        return probabilities @ self.codebook[...]


@dataclasses.dataclass(frozen=True)
class FiniteScalarQuantizer:
    """Every number of a normalised latent rounded to one of a few levels (Mentzer et al., 2023); nothing is learned.

    Latents are divided by their root mean square first. Without it small latents all round to the same code, whose
    gradient gives them no reason to grow: one future code stayed in use.
    """

    levels: tuple[int, ...]
    normalise: bool = True  # makes codes far from all equal magnitudes hard to reach; without it, use even levels

    @property
    def _levels(self) -> np.ndarray:
        return np.asarray(self.levels, np.float32)

    @property
    def _level_steps(self) -> np.ndarray:
        """What one step of each number adds to the index."""
        return np.cumprod((1, *self.levels[:-1]))

    def __call__(self, latents: Array) -> Quantized:
        """Latents [..., number of levels]; there is no loss."""
        chex.assert_axis_dimension(latents, -1, len(self.levels))
        if self.normalise:
            latents = latents * lax.rsqrt(jnp.square(latents).mean(-1, keepdims=True) + 1e-8)
        bounded = self._bound(latents)
        level = jnp.clip(jnp.round(bounded), 0, self._levels - 1)
        indices = (level.astype(jnp.int32) * self._level_steps).sum(-1).astype(jnp.int32)
        return Quantized(self._centre(straight_through(bounded, level)), indices, jnp.zeros(()))

    def mean(self, probabilities: Array) -> Array:
        """The mean code [..., number of levels] under the probabilities [..., K] of all codes."""
        return probabilities @ self.lookup(jnp.arange(probabilities.shape[-1]))

    def lookup(self, indices: Array) -> Array:
        """The codes [..., number of levels] of indices [...]."""
        level = indices[..., None] // self._level_steps % np.asarray(self.levels)
        return self._centre(level.astype(jnp.float32))

    def _bound(self, latents: Array) -> Array:
        """Any number to (-1/2, levels - 1/2), so that rounding reaches every level."""
        return (jnp.tanh(latents) + 1) / 2 * self._levels - 0.5

    def _centre(self, level: Array) -> Array:
        """Levels 0 ... l - 1 to -1 ... 1."""
        return level / (self._levels - 1) * 2 - 1


@dataclasses.dataclass(frozen=True)
class PatchQuantizer:
    """The numbers of a patch in groups, each one token; all tokens of a still patch are `rest`.

    Latents are not normalised: with even levels, small ones fall on either side of the middle, so that no code is left
    alone from the start, and every code can be reached.
    """

    levels: tuple[int, ...]
    groups: int

    @property
    def rest(self) -> int:
        """The code of a still patch, beyond all others."""
        return int(np.prod(self.levels))

    @property
    def _of_group(self) -> FiniteScalarQuantizer:
        return FiniteScalarQuantizer(self.levels, normalise=False)

    def __call__(self, latents: Array, still: Array) -> Quantized:
        """Latents [..., groups x levels], still bool [...]: codes of that shape, indices [..., groups]."""
        found = self._of_group(latents.reshape(*latents.shape[:-1], self.groups, -1))
        indices = jnp.where(still[..., None], self.rest, found.indices)
        return Quantized(found.codes.reshape(latents.shape), indices, found.loss)

    def lookup(self, indices: Array) -> tuple[Array, Array]:
        """The codes [..., groups x levels] of indices [..., groups], and which patches move: float32 [...], 0 or 1.

        A patch is still where its first token says so; a later token of another kind then says nothing, as `rest` does
        after a first token that moves.
        """
        moving = indices != self.rest
        codes = self._of_group.lookup(jnp.minimum(indices, self.rest - 1))
        codes = jnp.where(moving[..., None], codes, 0.0)
        return codes.reshape(*indices.shape[:-1], -1), moving[..., 0].astype(jnp.float32)

    def mean(self, probabilities: Array) -> tuple[Array, Array]:
        """As `lookup`, of tokens known by the probabilities of their codes [..., groups, K]: mean codes of patches that
        move, and the probability that they do."""
        of_moving = probabilities[..., : self.rest]
        total = jnp.maximum(of_moving.sum(-1, keepdims=True), 1e-6)
        codes = of_moving / total @ self._of_group.lookup(jnp.arange(self.rest))
        return codes.reshape(*codes.shape[:-2], -1), 1 - probabilities[..., 0, self.rest]


def make_quantizer(
    codes: int, config: TokenizerConfig, levels: tuple[int, ...], *, deferred: DeferredInit
) -> VectorQuantizer | FiniteScalarQuantizer:
    """One of `codes` learned codes or of these levels, as the config says."""
    if config.quantizer == "vq":
        return VectorQuantizer(codes, config, deferred=deferred)
    return FiniteScalarQuantizer(levels)


def usage(indices: Array, codes: int) -> Array:
    """How often each code occurs: int32 [K]."""
    return jnp.zeros(codes, jnp.int32).at[indices.reshape(-1)].add(1)


def perplexity(counts_k: Array) -> Array:
    """How many codes would be in use if they were used equally often: exp of the entropy, in [1, K]."""
    share = counts_k / counts_k.sum()
    return jnp.exp(-jax.scipy.special.xlogy(share, share).sum())
