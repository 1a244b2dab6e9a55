"""LPIPS: how different two pictures look, by the features of VGG16 (Zhang et al., 2018)."""

from __future__ import annotations

from typing import cast

import chex
import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from tokenizer.convolution import conv3x3

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""What LPIPS does to the colours of a picture in [-1, 1] before VGG16 sees it."""

EPSILON = 1e-10
"""Added to the length of a feature vector before dividing by it."""


class PerceptualWeights(flax.struct.PyTreeNode):
    """VGG16 up to relu5_3 and LPIPS's own heads; any widths will do."""

    blocks: tuple[tuple[tuple[Array, Array], ...], ...]  # a block's convolutions: kernel [3, 3, X, Y] and bias [Y]
    heads: tuple[Array, ...]  # [Y] per block, non-negative: how much each of its last channels counts


def lpips(weights: PerceptualWeights, a_nhwc: Array, b_nhwc: Array) -> Array:
    """Distance [N] of two batches of frames, float32 [N, H, W, 3] in [0, 1]; 0 for equal ones, to rounding.

    Frames outside [0, 1], as a decoder may paint them, are taken as they are.
    """
    chex.assert_shape([a_nhwc, b_nhwc], (None, None, None, 3))
    chex.assert_equal_shape([a_nhwc, b_nhwc])
    chex.assert_type([a_nhwc, b_nhwc], float)
    layers = zip(features(weights, a_nhwc), features(weights, b_nhwc), weights.heads, strict=True)
    return cast(Array, sum((jnp.square(_unit(a) - _unit(b)) @ head_c).mean((1, 2)) for a, b, head_c in layers))


def features(weights: PerceptualWeights, frames_nhwc: Array) -> list[Array]:
    """The output of each block of VGG16: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""
    x, found = (2 * frames_nhwc - 1 - jnp.array(SHIFT)) / jnp.array(SCALE), []
    for block in weights.blocks:
        x = _halved(x) if found else x
        for kernel, bias in block:
            x = jax.nn.relu(conv3x3(x, kernel, bias))
        found.append(x)
    return found


def _halved(x_nhwc: Array) -> Array:
    """The largest of every 2 x 2 pixels; a last odd row or column is left out."""
    return jax.lax.reduce_window(x_nhwc, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _unit(x_nhwc: Array) -> Array:
    """Each pixel's features divided by their length."""
    squares = jnp.square(x_nhwc).sum(-1, keepdims=True)
    # Where no feature is active the square root has no gradient: the inner choice keeps infinity out of the product.
    some = squares > 0
    length = jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0)
    return x_nhwc / (length + EPSILON)
