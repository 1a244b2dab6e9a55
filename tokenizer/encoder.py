"""Frames to latents. The future encoder differs from the context encoder by its cross-attentions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer.blocks import EPSILON, Down, Mid
from tokenizer.config import TokenizerConfig
from tokenizer.cross_attention import CrossAttention, KeysValues
from tokenizer.initial import DeferredInit
from tokenizer.layers import Convolution, GroupNorm, Linear, to_patches


def attended_levels(config: TokenizerConfig) -> tuple[int, ...]:
    """The down blocks after which the future encoder looks at the context."""
    return tuple(
        level for level in range(len(config.channels)) if _side_after(config, level) <= config.max_attention_resolution
    )


def _side_after(config: TokenizerConfig, level: int) -> int:
    return config.level_resolution(min(level + 1, len(config.channels) - 1))


class EncoderLayers(nnx.Module):
    """Stem, down blocks, mid block, output convolution: [N, H, W, 3] to latents [N, grid, grid, latent_channels].

    Frames and latents are float32; all between is in the compute dtype.
    """

    def __init__(self, config: TokenizerConfig, *, mid_attention: bool, deferred: DeferredInit, colours: int = 3):
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        if config.stem_patch == 1:
            self.stem = Convolution(colours, first, deferred=deferred)
        else:
            self.stem = Linear(colours * config.stem_patch**2, first, deferred=deferred)
        widths = zip((first, *config.channels), config.channels, strict=False)
        self.blocks = nnx.List(
            Down(inputs, outputs, level < len(config.channels) - 1, config, deferred=deferred)
            for level, (inputs, outputs) in enumerate(widths)
        )
        self.mid = Mid(last, mid_attention, config, deferred=deferred)
        self.out_norm = GroupNorm(last, config.norm_groups, EPSILON, config.norm_per_position)
        self.out = Convolution(last, config.latent_channels, deferred=deferred)

    def _stem(self, frames_nhwc: Array) -> Array:
        patch, frames_nhwc = self.config.stem_patch, frames_nhwc.astype(self.config.compute_dtype)
        return self.stem(frames_nhwc if patch == 1 else to_patches(frames_nhwc, patch))

    def _output(self, x: Array) -> Array:
        # Float32 before a code is chosen: a token is a decision.
        return self.out(jax.nn.silu(self.out_norm(self.mid(x)))).astype(jnp.float32)


class Encoder(EncoderLayers):
    """The context encoder: frames do not see each other."""

    def __call__(self, frames_nhwc: Array) -> tuple[Array, tuple[Array, ...]]:
        """Latents, and the maps after the blocks of `attended_levels`."""
        x = self._stem(frames_nhwc)
        maps: list[Array] = []
        for level, block in enumerate(self.blocks):
            x = block(x)
            if level in attended_levels(self.config):
                maps.append(x)
        return self._output(x), tuple(maps)


class FutureEncoder(EncoderLayers):
    """The same layers, looking at the context after the blocks of `attended_levels`.

    It sees whole future frames or, with context_residual, the last context frame and the change from it.
    """

    def __init__(self, config: TokenizerConfig, *, deferred: DeferredInit):
        colours = 6 if config.context_residual else 3
        super().__init__(config, mid_attention=config.future_mid_attention, deferred=deferred, colours=colours)
        self.cross_attentions = nnx.List(
            CrossAttention(config.channels[level], _side_after(config, level), config, deferred=deferred)
            for level in attended_levels(config)
        )

    def project(self, context_maps: tuple[Array, ...]) -> tuple[KeysValues, ...]:
        """Keys and values of the context encoder's maps, one pair per cross-attention; computed once per context."""
        pairs = zip(self.cross_attentions, context_maps, strict=True)
        return tuple(attention.project(maps) for attention, maps in pairs)

    def __call__(self, frames_nhwc: Array, context: tuple[KeysValues, ...], key: Array | None = None) -> Array:
        """Latents of future frames [B * F, H, W, 3]. key: draws the dropout of training."""
        x = self._stem(frames_nhwc)
        attentions = zip(attended_levels(self.config), self.cross_attentions, context, strict=True)
        at_level = {level: (attention, keys) for level, attention, keys in attentions}
        for level, block in enumerate(self.blocks):
            x = block(x)
            if level in at_level:
                attention, keys = at_level[level]
                x = attention(x, keys, None if key is None else jax.random.fold_in(key, level))
        return self._output(x)
