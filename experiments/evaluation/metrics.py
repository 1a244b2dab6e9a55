"""Errors of predicted frames, one a frame: frames are float32 [..., H, W, 3] in [0, 1] and results [...]."""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

WINDOW, SIGMA = 11, 1.5
"""Of SSIM's Gaussian (Wang et al., 2004), as video prediction papers use it: only where it fits into the frame."""
K1, K2 = 0.01, 0.03
LARGEST_PSNR = 100.0
"""Of a frame without error, so that means stay finite."""


def mse(real: Array, made: Array) -> Array:
    """Mean squared error over pixels and colours."""
    chex.assert_equal_shape([real, made])
    return jnp.square(real - made).mean((-3, -2, -1))


def psnr(real: Array, made: Array) -> Array:
    """Peak signal-to-noise ratio in dB of a frame, at most LARGEST_PSNR."""
    return -10 * jnp.log10(jnp.maximum(mse(real, made), 10 ** (-LARGEST_PSNR / 10)))


@jax.jit
def ssim(real: Array, made: Array) -> Array:
    """Structural similarity in [-1, 1], each colour for itself, then the mean. Frames of at least 11 pixels a side."""
    chex.assert_equal_shape([real, made])
    rows, columns = (_gaussian(size) for size in real.shape[-3:-1])

    def blurred(x: Array) -> Array:
        return jnp.einsum("ih,jw,...hwc->...ijc", rows, columns, x, precision=jax.lax.Precision.HIGHEST)

    mean_real, mean_made = blurred(real), blurred(made)
    # Moments about the frame's own middle lose less in float32 than about zero.
    middle = jax.lax.stop_gradient(real.mean((-3, -2), keepdims=True))
    a, b = real - middle, made - middle
    variance_real = blurred(a * a) - jnp.square(mean_real - middle)
    variance_made = blurred(b * b) - jnp.square(mean_made - middle)
    covariance = blurred(a * b) - (mean_real - middle) * (mean_made - middle)
    c1, c2 = K1**2, K2**2
    alike = (2 * mean_real * mean_made + c1) * (2 * covariance + c2)
    size = (jnp.square(mean_real) + jnp.square(mean_made) + c1) * (variance_real + variance_made + c2)
    return (alike / size).mean((-3, -2, -1))


@functools.cache
def _gaussian(size: int) -> np.ndarray:
    """[size - 10, size]: a row for each place of the window."""
    if size < WINDOW:
        raise ValueError(f"SSIM's window is {WINDOW} pixels wide, and the frames are {size}")
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    matrix = np.zeros((size - WINDOW + 1, size), np.float32)
    for place in range(len(matrix)):
        matrix[place, place : place + WINDOW] = weights / weights.sum()
    return matrix


def repeats(before: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Where a frame equals the one before it in every pixel: bool [..., F], of uint8 before [..., H, W, 3] and frames
    [..., F, H, W, 3]."""
    previous = np.concatenate([before[..., None, :, :, :], frames[..., :-1, :, :, :]], axis=-4)
    return (previous == frames).all((-3, -2, -1))
