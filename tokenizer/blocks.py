"""The blocks of a VQGAN: residual, down, up, mid (the autoencoder of Esser et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer.config import TokenizerConfig
from tokenizer.initial import DeferredInit
from tokenizer.layers import Convolution, GroupNorm, Linear

EPSILON = 1e-6
"""Of the norms in residual blocks, mid blocks and before output layers."""


def held(config: TokenizerConfig, block: Callable[..., Array]) -> Callable[..., Array]:
    """The block itself, or, where the config says recompute, one that keeps only its inputs for the backward pass."""
    return jax.checkpoint(block) if config.recompute else block


class Residual(nnx.Module):
    """Norm, SiLU, convolution, twice; added to the input, through a linear map where the width changes."""

    def __init__(self, inputs: int, outputs: int, config: TokenizerConfig, *, deferred: DeferredInit):
        self.config = config
        self.norm1 = GroupNorm(inputs, config.norm_groups, EPSILON, config.norm_per_position)
        self.conv1 = Convolution(inputs, outputs, deferred=deferred)
        self.norm2 = GroupNorm(outputs, config.norm_groups, EPSILON, config.norm_per_position)
        self.conv2 = Convolution(outputs, outputs, deferred=deferred)
        self.shortcut = Linear(inputs, outputs, deferred=deferred) if inputs != outputs else None

    def __call__(self, x_bhwc: Array) -> Array:
        return held(self.config, self._apply)(x_bhwc)

    def _apply(self, x: Array) -> Array:
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Attention(nnx.Module):
    """Self-attention of one head over all positions of a map, with a residual."""

    def __init__(self, channels: int, config: TokenizerConfig, *, deferred: DeferredInit):
        self.norm = GroupNorm(channels, config.norm_groups, EPSILON, config.norm_per_position)
        self.query = Linear(channels, channels, deferred=deferred)
        self.key = Linear(channels, channels, deferred=deferred)
        self.value = Linear(channels, channels, deferred=deferred)
        self.out = Linear(channels, channels, deferred=deferred)

    def __call__(self, x_bhwc: Array) -> Array:
        b, h, w, c = x_bhwc.shape
        x = self.norm(x_bhwc).reshape(b, h * w, c)
        queries, keys = self.query(x), self.key(x)
        scores = jnp.einsum("bqc,bkc->bqk", queries, keys, preferred_element_type=jnp.float32) * c**-0.5
        attended = jax.nn.softmax(scores, axis=-1).astype(x.dtype) @ self.value(x)
        return x_bhwc + self.out(attended).reshape(b, h, w, c)


class Mid(nnx.Module):
    """Residual layers of one width; attention, where wanted, after the first."""

    def __init__(self, channels: int, attention: bool, config: TokenizerConfig, *, deferred: DeferredInit):
        self.layers = nnx.List(
            Residual(channels, channels, config, deferred=deferred) for _ in range(config.mid_layers)
        )
        self.attention = Attention(channels, config, deferred=deferred) if attention else None

    def __call__(self, x_bhwc: Array) -> Array:
        for index, layer in enumerate(self.layers):
            x_bhwc = layer(x_bhwc)
            if index == 0 and self.attention is not None:
                x_bhwc = self.attention(x_bhwc)
        return x_bhwc


class Down(nnx.Module):
    """Residual layers, then a convolution of stride 2 where the block resamples."""

    def __init__(self, inputs: int, outputs: int, resample: bool, config: TokenizerConfig, *, deferred: DeferredInit):
        widths = (inputs,) + (outputs,) * (config.layers_per_block - 1)
        self.layers = nnx.List(Residual(width, outputs, config, deferred=deferred) for width in widths)
        self.resample = Convolution(outputs, outputs, stride=2, deferred=deferred) if resample else None

    def __call__(self, x_bhwc: Array) -> Array:
        for layer in self.layers:
            x_bhwc = layer(x_bhwc)
        return x_bhwc if self.resample is None else self.resample(x_bhwc)


class Up(nnx.Module):
    """One residual layer more than the down block, then nearest-neighbour doubling and a convolution."""

    def __init__(self, inputs: int, outputs: int, resample: bool, config: TokenizerConfig, *, deferred: DeferredInit):
        widths = (inputs,) + (outputs,) * config.layers_per_block
        self.layers = nnx.List(Residual(width, outputs, config, deferred=deferred) for width in widths)
        self.resample = Convolution(outputs, outputs, deferred=deferred) if resample else None

    def __call__(self, x_bhwc: Array) -> Array:
        for layer in self.layers:
            x_bhwc = layer(x_bhwc)
        return x_bhwc if self.resample is None else self.resample.of_doubled(x_bhwc)
