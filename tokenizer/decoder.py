"""Latents to frames. The future decoder differs from the context decoder by its cross-attentions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer.blocks import EPSILON, Mid, Up
from tokenizer.config import TokenizerConfig
from tokenizer.cross_attention import CrossAttention, KeysValues
from tokenizer.initial import DeferredInit
from tokenizer.layers import Convolution, GroupNorm, Linear, from_patches


def attended_levels(config: TokenizerConfig) -> tuple[int, ...]:
    """Where the future decoder looks at the context: 0 is after the mid block, i + 1 after up block i."""
    levels = range(len(config.channels) + 1)
    return tuple(level for level in levels if _side_at(config, level) <= config.max_attention_resolution)


def _side_at(config: TokenizerConfig, level: int) -> int:
    return config.grid * 2 ** min(level, len(config.channels) - 1)


def _channels_at(config: TokenizerConfig, level: int) -> int:
    return config.channels[-1] if level == 0 else config.channels[-level]


class DecoderLayers(nnx.Module):
    """Input convolution, mid block, up blocks, output layer: latents to [N, H, W, outputs].

    Latents and outputs are float32; all between is in the compute dtype.
    """

    def __init__(self, config: TokenizerConfig, *, mid_attention: bool, deferred: DeferredInit, outputs: int = 3):
        self.config = config
        widths = config.channels[::-1]
        self.stem = Convolution(config.latent_channels, widths[0], deferred=deferred)
        self.mid = Mid(widths[0], mid_attention, config, deferred=deferred)
        self.blocks = nnx.List(
            Up(inputs, outputs, index < len(widths) - 1, config, deferred=deferred)
            for index, (inputs, outputs) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.out_norm = GroupNorm(widths[-1], config.norm_groups, EPSILON, config.norm_per_position)
        if config.stem_patch == 1:
            self.out = Convolution(widths[-1], outputs, deferred=deferred)
        else:
            self.out = Linear(widths[-1], outputs * config.stem_patch**2, deferred=deferred)

    def _stem(self, latents_nhwd: Array) -> Array:
        return self.stem(latents_nhwd.astype(self.config.compute_dtype))

    def _output(self, x: Array) -> Array:
        x = self.out(jax.nn.silu(self.out_norm(x))).astype(jnp.float32)
        return x if self.config.stem_patch == 1 else from_patches(x, self.config.stem_patch)


class Decoder(DecoderLayers):
    """The context decoder: frames do not see each other."""

    def __call__(self, latents_nhwd: Array) -> tuple[Array, tuple[Array, ...]]:
        """Frames, and the maps at `attended_levels`."""
        x = self._stem(latents_nhwd)
        maps: list[Array] = []
        for level, block in enumerate((self.mid, *self.blocks)):
            x = block(x)
            if level in attended_levels(self.config):
                maps.append(x)
        return self._output(x), tuple(maps)


class FutureDecoder(DecoderLayers):
    """The same layers, looking at the context at `attended_levels`.

    With context_residual it has a fourth output: how opaque a pixel is painted over the last context frame.
    """

    def __init__(self, config: TokenizerConfig, *, deferred: DeferredInit):
        outputs = 4 if config.context_residual else 3
        super().__init__(config, mid_attention=config.future_mid_attention, deferred=deferred, outputs=outputs)
        self.cross_attentions = nnx.List(
            CrossAttention(_channels_at(config, level), _side_at(config, level), config, deferred=deferred)
            for level in attended_levels(config)
        )

    def project(self, context_maps: tuple[Array, ...]) -> tuple[KeysValues, ...]:
        """Keys and values of the context decoder's maps, one pair per cross-attention; computed once per context."""
        pairs = zip(self.cross_attentions, context_maps, strict=True)
        return tuple(attention.project(maps) for attention, maps in pairs)

    def __call__(self, latents_nhwd: Array, context: tuple[KeysValues, ...], key: Array | None = None) -> Array:
        """Maps [B * F, H, W, 3 or 4] of future latents. key: draws the dropout of training."""
        x = self._stem(latents_nhwd)
        attentions = zip(attended_levels(self.config), self.cross_attentions, context, strict=True)
        at_level = {level: (attention, keys) for level, attention, keys in attentions}
        for level, block in enumerate((self.mid, *self.blocks)):
            x = block(x)
            if level in at_level:
                attention, keys = at_level[level]
                x = attention(x, keys, None if key is None else jax.random.fold_in(key, level))
        return self._output(x)
