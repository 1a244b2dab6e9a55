"""Our discriminator, that of VQGAN: real or reconstructed frames, evaluated patch by patch (Isola et al., 2017)."""

from __future__ import annotations

import functools
import math

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array, lax

from tokenizer.initial import DeferredInit
from tokenizer.layers import GroupNorm
from tokenizer.optimizer import OptimizerConfig, make_optimizer
from tokenizer.types import Params

WIDTHS = (64, 128, 256, 512)
"""Channels of the hidden layers; all but the last halve the side."""
NORM_GROUPS = 32
INITIAL_STD = 0.02
SLOPE = 0.2
"""Of the leaky ReLU below zero."""


class DiscriminatorState(flax.struct.PyTreeNode):
    """Everything that training the discriminator changes."""

    params: Params
    optimizer: optax.OptState
    directions: tuple[Array, ...] = ()  # of the published one: what its spectral norm knows of its kernels


class Convolution4(nnx.Module):
    """4x4, channels last, every side padded by one."""

    def __init__(self, inputs: int, outputs: int, *, deferred: DeferredInit, stride: int):
        self.stride = stride
        self.kernel = deferred.uniform((4, 4, inputs, outputs), INITIAL_STD * math.sqrt(3))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x_nhwc: Array) -> Array:
        strides, padding = (self.stride, self.stride), ((1, 1), (1, 1))
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x_nhwc, self.kernel[...], strides, padding, dimension_numbers=numbers)
        return y + self.bias[...]


class Discriminator(nnx.Module):
    """PatchGAN with three halvings: each logit evaluates a patch of 70 x 70 pixels.

    VQGAN normalises over the batch. Here it is group normalisation: a frame is evaluated by itself, real and
    reconstructed frames do not share a mean, and there are no running statistics to keep or to share between devices.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        deferred = DeferredInit()
        strides = [2] * (len(WIDTHS) - 1) + [1]
        self.convolutions = nnx.List(
            Convolution4(inputs, outputs, deferred=deferred, stride=stride)
            for inputs, outputs, stride in zip((3, *WIDTHS), WIDTHS, strides, strict=False)
        )
        self.norms = nnx.List(GroupNorm(width, NORM_GROUPS, 1e-5) for width in WIDTHS[1:])
        self.out = Convolution4(WIDTHS[-1], 1, deferred=deferred, stride=1)
        deferred.fill(rngs.params())

    def __call__(self, frames_nhwc: Array) -> Array:
        """Logits [N, h, w] of frames float32 [N, H, W, 3] in [0, 1]: positive where a patch looks real."""
        chex.assert_shape(frames_nhwc, (None, None, None, 3))
        x = 2 * frames_nhwc - 1
        for norm, convolution in zip((None, *self.norms), self.convolutions, strict=True):
            x = convolution(x)
            x = jax.nn.leaky_relu(x if norm is None else norm(x), SLOPE)
        return self.out(x)[..., 0]


@functools.cache
def _structure() -> nnx.GraphDef[Discriminator]:
    return nnx.split(nnx.eval_shape(lambda: Discriminator(rngs=nnx.Rngs(0))))[0]


def init_discriminator(optimizer: OptimizerConfig, key: Array) -> DiscriminatorState:
    """A new discriminator and its optimizer, from a random key."""
    params = nnx.split(Discriminator(rngs=nnx.Rngs(key)))[1]
    return DiscriminatorState(params, make_optimizer(optimizer).init(params))


def logits_of(params: Params, frames_nhwc: Array) -> Array:
    """`Discriminator.__call__` with these parameters."""
    return nnx.merge(_structure(), params)(frames_nhwc)


def discriminator_loss(real_logits: Array, fake_logits: Array) -> Array:
    """Hinge loss: nothing more to gain from real patches above 1 and reconstructed ones below -1."""
    return (jax.nn.relu(1 - real_logits).mean() + jax.nn.relu(1 + fake_logits).mean()) / 2


def generator_loss(fake_logits: Array) -> Array:
    """Low where reconstructed patches pass for real."""
    return -fake_logits.mean()
