"""Latents to frames. The future decoder differs from the context decoder by its cross-attentions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer.blocks import EPSILON, Mid, Up
from tokenizer.config import TokenizerConfig
from tokenizer.cross_attention import CrossAttention, KeysValues
from tokenizer.initial import Draws
from tokenizer.layers import Convolution, GroupNorm, Linear, from_patches


def attended_places(config: TokenizerConfig) -> tuple[int, ...]:
    """Where the future decoder looks at the context: 0 is after the mid block, i + 1 after up block i."""
    places = range(len(config.channels) + 1)
    return tuple(place for place in places if _side_at(config, place) <= config.max_attention_resolution)


def _side_at(config: TokenizerConfig, place: int) -> int:
    return config.grid * 2 ** min(place, len(config.channels) - 1)


def _channels_at(config: TokenizerConfig, place: int) -> int:
    return config.channels[-1] if place == 0 else config.channels[-place]


class Decoder(nnx.Module):
    """Input convolution, mid block, up blocks, output layer: latents to [N, H, W, outputs].

    Latents and outputs are float32; all between is in the compute dtype.
    """

    def __init__(self, config: TokenizerConfig, *, mid_attention: bool, draws: Draws, outputs: int = 3):
        self.config = config
        widths = config.channels[::-1]
        self.stem = Convolution(config.latent_channels, widths[0], draws=draws)
        self.mid = Mid(widths[0], mid_attention, config, draws=draws)
        self.blocks = nnx.List(
            Up(inputs, outputs, index < len(widths) - 1, config, draws=draws)
            for index, (inputs, outputs) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.out_norm = GroupNorm(widths[-1], config.norm_groups, EPSILON, config.norm_alone)
        if config.stem_patch == 1:
            self.out = Convolution(widths[-1], outputs, draws=draws)
        else:
            self.out = Linear(widths[-1], outputs * config.stem_patch**2, draws=draws)

    def __call__(self, latents_nhwd: Array) -> tuple[Array, tuple[Array, ...]]:
        """Frames, and the maps at `attended_places`."""
        x, maps = self._stem(latents_nhwd), []
        for place, block in enumerate((self.mid, *self.blocks)):
            x = block(x)
            if place in attended_places(self.config):
                maps.append(x)
        return self._output(x), tuple(maps)

    def _stem(self, latents_nhwd: Array) -> Array:
        return self.stem(latents_nhwd.astype(self.config.compute_dtype))

    def _output(self, x: Array) -> Array:
        x = self.out(jax.nn.silu(self.out_norm(x))).astype(jnp.float32)
        return x if self.config.stem_patch == 1 else from_patches(x, self.config.stem_patch)


class FutureDecoder(Decoder):
    """The same, looking at the context at `attended_places`.

    With context_skip it has a fourth output: how opaque a pixel is painted over the last context frame.
    """

    def __init__(self, config: TokenizerConfig, *, draws: Draws):
        outputs = 4 if config.context_skip else 3
        super().__init__(config, mid_attention=config.future_mid_attention, draws=draws, outputs=outputs)
        self.cross_attentions = nnx.List(
            CrossAttention(_channels_at(config, place), _side_at(config, place), config, draws=draws)
            for place in attended_places(config)
        )

    def project(self, context_maps: tuple[Array, ...]) -> tuple[KeysValues, ...]:
        """What the context decoder's maps are to the cross-attentions; once a context."""
        pairs = zip(self.cross_attentions, context_maps, strict=True)
        return tuple(attention.project(maps) for attention, maps in pairs)

    def __call__(self, latents_nhwd: Array, context: tuple[KeysValues, ...], key: Array | None = None) -> Array:
        """Maps [B * F, H, W, 3 or 4] of future latents. key: draws the dropout of training."""
        x = self._stem(latents_nhwd)
        attentions = zip(attended_places(self.config), self.cross_attentions, context, strict=True)
        at_place = {place: (attention, keys) for place, attention, keys in attentions}
        for place, block in enumerate((self.mid, *self.blocks)):
            x = block(x)
            if place in at_place:
                attention, keys = at_place[place]
                x = attention(x, keys, None if key is None else jax.random.fold_in(key, place))
        return self._output(x)
