"""From pictures to tokens and back: 5x5 convolutions, pooling on the way down, repeated pixels on the way up.

With `patch` a linear layer takes the place of the first convolution on the way down, and of the last on the way up.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from agent.dreamerv3.config import ModelConfig
from agent.dreamerv3.convolution import conv_of_doubled, conv_pooled
from agent.dreamerv3.layers import BlockLinear, ResamplingConvolution, ScaledLinear, activated, dense


def encoder(config: ModelConfig, frames_bhwc: Array) -> Array:
    """Tokens [B, E] of uint8 frames [B, H, W, 3]: the last map, flat."""
    x = frames_bhwc.astype(config.compute) / 255 - 0.5
    for i, multiplier in enumerate(config.multipliers):
        name, channels = f"layer_{i}", config.depth * multiplier
        if i == 0 and config.patch > 1:
            x = ScaledLinear(channels, name=name)(_as_patches(x, config.patch))
        else:
            x = ResamplingConvolution(channels, config.kernel, conv_pooled, name)(x)
        x = activated(x, name)
    return x.reshape(len(x), -1)


def decoder(config: ModelConfig, deter_bd: Array, stoch_bsk: Array) -> Array:
    """Frames [B, H, W, 3] float32 in (0, 1)."""
    x = _first_map(config, deter_bd, stoch_bsk)
    for i, multiplier in reversed(list(enumerate(config.multipliers[:-1]))):
        name = f"layer_{i}"
        x = ResamplingConvolution(config.depth * multiplier, config.kernel, conv_of_doubled, name)(x)
        x = activated(x, name)
    if config.patch > 1:
        x = _as_pixels(ScaledLinear(3 * config.patch**2, name="out")(x), config.patch)
    else:
        x = ResamplingConvolution(3, config.kernel, conv_of_doubled, "out")(x)
    return jax.nn.sigmoid(x.astype(jnp.float32))


def _as_patches(x_bhwc: Array, side: int) -> Array:
    """[B, H, W, C] to [B, H / side, W / side, side * side * C]."""
    b, h, w, c = x_bhwc.shape
    patches = x_bhwc.reshape(b, h // side, side, w // side, side, c).swapaxes(2, 3)
    return patches.reshape(b, h // side, w // side, side * side * c)


def _as_pixels(x_bhwc: Array, side: int) -> Array:
    """The inverse of `_as_patches`."""
    b, h, w, _ = x_bhwc.shape
    return x_bhwc.reshape(b, h, w, side, side, -1).swapaxes(2, 3).reshape(b, h * side, w * side, -1)


def _first_map(config: ModelConfig, deter_bd: Array, stoch_bsk: Array) -> Array:
    """The smallest map [B, h, w, C]: each block of the recurrent state gives some channels, the latents add to all."""
    side, channels, b = config.smallest, config.depth * config.multipliers[-1], len(deter_bd)
    size = side * side * channels
    of_deter = BlockLinear(size, config.blocks, name="from_deter")(deter_bd)
    of_deter = of_deter.reshape(b, config.blocks, side, side, -1).transpose(0, 2, 3, 1, 4)
    of_stoch = ScaledLinear(size, name="from_stoch")(dense(stoch_bsk.reshape(b, -1), 2 * config.units, "stoch"))
    return activated(of_deter.reshape(b, side, side, channels) + of_stoch.reshape(b, side, side, channels), "map")
