"""The discriminator of the published code, after Paella's: spectral norm, instance norm, four halvings, one logit per
place; it has an optimizer and turns of its own. `discriminator.py` is ours."""

from __future__ import annotations

import functools
import math

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from tokenizer.discriminator import SLOPE, DiscriminatorState
from tokenizer.initial import DeferredInit
from tokenizer.layers import Linear
from tokenizer.optimizer import OptimizerConfig, make_optimizer
from tokenizer.types import Params

WIDTHS = (64, 128, 256, 512)
"""Channels of the hidden layers; each halves the side."""
SMALLEST_LENGTH = 1e-12
"""What a vector's length is divided by at least."""

Directions = tuple[Array, ...]
"""Of each convolution, the output [outputs] that its kernel enlarges most, as far as it is known."""


class SpectralConvolution(nnx.Module):
    """3x3 with stride 2, every side padded by one; its kernel divided by its largest singular value."""

    def __init__(self, inputs: int, outputs: int, *, deferred: DeferredInit):
        self.kernel = deferred.uniform((3, 3, inputs, outputs), 1 / math.sqrt(9 * inputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x_nhwc: Array, direction: Array) -> tuple[Array, Array]:
        """The map, and the direction after one more iteration (Miyato et al., 2018), which is not learned."""
        kernel = self.kernel[...]
        matrix = kernel.reshape(-1, kernel.shape[-1])
        inwards = _unit(lax.stop_gradient(matrix) @ direction)
        direction = _unit(lax.stop_gradient(matrix).T @ inwards)
        kernel = kernel / (inwards @ matrix @ direction)
        numbers = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x_nhwc, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=numbers)
        return y + self.bias[...], direction


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), SMALLEST_LENGTH)


class PublishedDiscriminator(nnx.Module):
    """Each frame by itself: no statistics over a batch, none to keep but the directions."""

    def __init__(self, *, rngs: nnx.Rngs):
        deferred = DeferredInit()
        self.convolutions = nnx.List(
            SpectralConvolution(inputs, outputs, deferred=deferred)
            for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False)
        )
        self.out = Linear(WIDTHS[-1], 1, deferred=deferred)
        deferred.fill(rngs.params())

    def __call__(self, frames_nhwc: Array, directions: Directions) -> tuple[Array, Directions]:
        """Logits [N, h, w] of frames float32 [N, H, W, 3] in [0, 1], and the directions after them."""
        chex.assert_shape(frames_nhwc, (None, None, None, 3))
        x, after = frames_nhwc, list[Array]()
        for index, (convolution, direction) in enumerate(zip(self.convolutions, directions, strict=True)):
            x, direction = convolution(x, direction)
            after.append(direction)
            x = jax.nn.leaky_relu(x if index == 0 else instance_norm(x), SLOPE)
        return self.out(x)[..., 0], tuple(after)


def instance_norm(x_nhwc: Array, epsilon: float = 1e-5) -> Array:
    """Each channel of each frame with mean 0 and variance 1 over its places."""
    centred = x_nhwc - x_nhwc.mean((1, 2), keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean((1, 2), keepdims=True) + epsilon)


@functools.cache
def _structure() -> nnx.GraphDef[PublishedDiscriminator]:
    return nnx.split(nnx.eval_shape(lambda: PublishedDiscriminator(rngs=nnx.Rngs(0))))[0]


def init_published(optimizer: OptimizerConfig, key: Array) -> DiscriminatorState:
    """A new discriminator, its own optimizer and first directions, from a random key."""
    params = nnx.split(PublishedDiscriminator(rngs=nnx.Rngs(key)))[1]
    keys = jax.random.split(jax.random.fold_in(key, 1), len(WIDTHS))
    directions = tuple(_unit(jax.random.normal(k, (width,))) for k, width in zip(keys, WIDTHS, strict=True))
    return DiscriminatorState(params, make_optimizer(optimizer).init(params), directions)


def published_logits(params: Params, directions: Directions, frames_nhwc: Array) -> tuple[Array, Directions]:
    """`PublishedDiscriminator.__call__` with these parameters."""
    return nnx.merge(_structure(), params)(frames_nhwc, directions)


def published_loss(real_logits: Array, fake_logits: Array) -> Array:
    """Hinge loss, not halved."""
    return jax.nn.relu(1 - real_logits).mean() + jax.nn.relu(1 + fake_logits).mean()
