"""A 3x3 convolution, lowered to what the backend is fast at. The only place that knows how."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

_PADDING = {1: (1, 1), 2: (0, 1)}


def conv3x3(x_bhwc: Array, kernel_3xy: Array, bias_y: Array, stride: int = 1) -> Array:
    """3x3 convolution with bias: [B, H, W, X] to [B, H / stride, W / stride, Y].

    kernel_3xy: [3, 3, X, Y] (rows, columns, in, out). Stride 1 pads every side by one; stride 2 pads right and bottom
    only, as the published tokenizer does, and needs even sides.
    """
    chex.assert_rank([x_bhwc, kernel_3xy, bias_y], [4, 4, 1])
    chex.assert_shape(kernel_3xy, (3, 3, x_bhwc.shape[-1], bias_y.shape[0]))
    if stride not in _PADDING or x_bhwc.shape[1] % stride or x_bhwc.shape[2] % stride:
        raise ValueError(f"stride must be 1, or 2 with even sides; found stride {stride} and shape {x_bhwc.shape}")
    return _convolve(stride, x_bhwc, kernel_3xy) + bias_y


def by_primitive(stride: int, x: Array, kernel: Array) -> Array:
    """XLA's own convolution: best where a library stands behind it (GPU, TPU)."""
    padding = (_PADDING[stride], _PADDING[stride])
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def by_winograd(stride: int, x: Array, kernel: Array) -> Array:
    """The minimal filtering of Lavin and Gray (2016), F(2x2, 3x3): 16 multiplications for four pixels, where 36 are usual.

    For even sides and stride 1. The two transforms only add, so that the result differs by rounding.
    """
    b, h, w, outputs = *x.shape[:3], kernel.shape[-1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    tiles = [[padded[:, i : i + h - 1 : 2, j : j + w - 1 : 2] for j in range(4)] for i in range(4)]
    tiles = _both_sides(lambda d: (d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]), tiles)
    kernels = [[kernel[i, j] for j in range(3)] for i in range(3)]
    kernels = _both_sides(lambda g: (g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]), kernels)
    products = [[tiles[i][j].reshape(-1, x.shape[-1]) @ kernels[i][j] for j in range(4)] for i in range(4)]
    pixels = _both_sides(lambda m: (m[0] + m[1] + m[2], m[1] - m[2] - m[3]), products)
    return _interleaved([[pixel.reshape(b, h // 2, w // 2, outputs) for pixel in row] for row in pixels])


def _both_sides(transform: Callable[[Sequence[Array]], Sequence[Array]], grid: Sequence[Sequence[Array]]):
    """A transform of each column of a grid, then of each row."""
    columns = [transform(column) for column in zip(*grid, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


def _interleaved(grid: Sequence[Sequence[Array]]) -> Array:
    """Two by two maps to one of twice their sides: each gives every second pixel."""
    b, h, w, c = grid[0][0].shape
    rows = [jnp.stack(row, axis=3) for row in grid]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, c)


def on_cpu(stride: int, x: Array, kernel: Array) -> Array:
    """What a CPU runs: the primitive, but for many channels on small maps, where it pays to multiply less.

    Which form wins changes with XLA and with the processor. jax 0.10 on two AVX-512 cores, batch 4: 512 channels at 16 px
    18.2 ms by the primitive, 20.3 as nine matmuls, 10.5 by Winograd's method; 256 at 32 px 18 to 27, 33, 12.4; 128 at 64
    px 18.9, 48.4, 23.2.
    """
    even = not (x.shape[1] % 2 or x.shape[2] % 2)
    if stride == 1 and even and min(kernel.shape[2:]) >= 256 and 16 <= x.shape[1] <= 32 and x.dtype == jnp.float32:
        return by_winograd(stride, x, kernel)
    return by_primitive(stride, x, kernel)


def doubled(x_bhwc: Array) -> Array:
    """Each pixel as a square of four."""
    return x_bhwc.repeat(2, axis=1).repeat(2, axis=2)


def conv3x3_of_doubled(x_bhwc: Array, kernel_3xy: Array, bias_y: Array) -> Array:
    """`conv3x3(doubled(x))`: [B, H, W, X] to [B, 2 H, 2 W, Y]."""
    return _convolve_doubled(x_bhwc, kernel_3xy) + bias_y


def doubled_by_primitive(x: Array, kernel: Array) -> Array:
    """As it is written."""
    return by_primitive(1, doubled(x), kernel)


def doubled_by_phases(x: Array, kernel: Array) -> Array:
    """Without doubling: of the nine values under a kernel only four differ, and which depends on where in its square of
    four a pixel lies; so four convolutions of 2x2, with the kernel's values added up, do it in 4/9 of the work.
    """

    def halves(kernel: Array, axis: int, side: int) -> Array:
        first, middle, last = jnp.split(kernel, 3, axis)
        return jnp.concatenate([first, middle + last] if side == 0 else [first + middle, last], axis)

    def phase(row: int, column: int) -> Array:
        small = halves(halves(kernel, 0, row), 1, column)
        padding = ((1 - row, row), (1 - column, column))
        return lax.conv_general_dilated(x, small, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return _interleaved([[phase(row, column) for column in range(2)] for row in range(2)])


# The rule for gradients stands here so that the choice of backend is made inside it: differentiating through the choice
# would keep the intermediate results of both lowerings.
@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(stride: int, x: Array, kernel: Array) -> Array:
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(on_cpu, stride),
        default=functools.partial(by_primitive, stride),
    )


def _convolve_forward(stride: int, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(stride, x, kernel), (x, kernel)


def _convolve_backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    return jax.vjp(functools.partial(by_primitive, stride), *saved)[1](gradient)


_convolve.defvjp(_convolve_forward, _convolve_backward)


@jax.custom_vjp
def _convolve_doubled(x: Array, kernel: Array) -> Array:
    return lax.platform_dependent(x, kernel, cpu=doubled_by_phases, default=doubled_by_primitive)


def _convolve_doubled_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_doubled(x, kernel), (x, kernel)


def _convolve_doubled_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    return jax.vjp(doubled_by_primitive, *saved)[1](gradient)


_convolve_doubled.defvjp(_convolve_doubled_forward, _convolve_doubled_backward)
