"""A 3x3 convolution, lowered to what the backend is fast at. The only place that knows how."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

Padding = tuple[int, int]
"""Zeros before and after, the same for rows and columns."""
Form = Callable[[int, Padding, Array, Array], Array]
"""One way to compute the convolution, from stride, padding, map and kernel."""
_PADDING = {1: (1, 1), 2: (0, 1)}
_NONE = (0, 0)


def conv3x3(x_bhwc: Array, kernel_3xy: Array, bias_y: Array, stride: int = 1) -> Array:
    """3x3 convolution with bias: [B, H, W, X] to [B, H / stride, W / stride, Y].

    kernel_3xy: [3, 3, X, Y] (rows, columns, in, out). Stride 1 pads every side by one; stride 2 pads right and bottom
    only, as the published tokenizer does, and needs even sides.
    """
    _check(x_bhwc, kernel_3xy, bias_y)
    if stride not in _PADDING or x_bhwc.shape[1] % stride or x_bhwc.shape[2] % stride:
        raise ValueError(f"stride must be 1, or 2 with even sides; found stride {stride} and shape {x_bhwc.shape}")
    return _convolve(stride, _PADDING[stride], x_bhwc, kernel_3xy) + bias_y


def conv3x3_unpadded(x_bhwc: Array, kernel_3xy: Array, bias_y: Array, stride: int = 1) -> Array:
    """The same without padding: [B, H, W, X] to [B, (H - 3) // stride + 1, (W - 3) // stride + 1, Y]."""
    _check(x_bhwc, kernel_3xy, bias_y)
    return _convolve(stride, _NONE, x_bhwc, kernel_3xy) + bias_y


def _check(x_bhwc: Array, kernel_3xy: Array, bias_y: Array) -> None:
    chex.assert_rank([x_bhwc, kernel_3xy, bias_y], [4, 4, 1])
    chex.assert_shape(kernel_3xy, (3, 3, x_bhwc.shape[-1], bias_y.shape[0]))


def by_primitive(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    """XLA's own convolution: best where a library stands behind it (GPU, TPU)."""
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), (padding, padding), dimension_numbers=axes)


def by_rows(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    """One matmul of every three neighbours in a row with the three rows of the kernel, whose results are added shifted.

    Reads and writes a third of what collecting nine neighbours does; its gradients are as cheap. With stride 2, squares
    of four pixels take the place of pixels, and a 2x2 kernel of such squares that of the kernel.
    """
    x = _pad(padding, x)
    if stride == 2:
        x, kernel = _in_squares(x), _in_squares(kernel[None])[0].reshape(2, 2, -1, kernel.shape[-1])
    (b, h, w, inputs), (rows, columns, _, outputs) = x.shape, kernel.shape
    neighbours = jnp.concatenate([x[:, :, j : w - columns + 1 + j] for j in range(columns)], axis=-1)
    matrix = kernel.transpose(1, 2, 0, 3).reshape(columns * inputs, rows * outputs)
    products = (neighbours.reshape(-1, columns * inputs) @ matrix).reshape(b, h, -1, rows, outputs)
    return cast(Array, sum(products[:, i : h - rows + 1 + i, :, i] for i in range(rows)))


def _in_squares(x: Array) -> Array:
    """Squares of four pixels as one pixel, their channels one after the other: [B, H / 2, W / 2, 4 X, ...].

    Odd sides are padded with a zero.
    """
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), *[(0, 0)] * (x.ndim - 3)))
    squares = x.reshape(x.shape[0], (h + 1) // 2, 2, (w + 1) // 2, 2, *x.shape[3:]).swapaxes(2, 3)
    return squares.reshape(*squares.shape[:3], 4 * x.shape[3], *x.shape[4:])


def _pad(padding: Padding, x: Array) -> Array:
    return jnp.pad(x, ((0, 0), padding, padding, (0, 0)))


def by_winograd(x: Array, kernel: Array) -> Array:
    """The minimal filtering of Lavin and Gray (2016), F(2x2, 3x3): 16 multiplications for four pixels instead of 36.

    For even sides, stride 1 and one zero around. The two transforms only add, so that the result differs by rounding.
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


def _both_sides(
    transform: Callable[[Sequence[Array]], Sequence[Array]], grid: Sequence[Sequence[Array]]
) -> list[Sequence[Array]]:
    """A transform of each column of a grid, then of each row."""
    columns = [transform(column) for column in zip(*grid, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


def _interleaved(grid: Sequence[Sequence[Array]]) -> Array:
    """Two by two maps to one of twice their sides: each gives every second pixel."""
    b, h, w, c = grid[0][0].shape
    rows = [jnp.stack(row, axis=3) for row in grid]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, c)


def on_cpu(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    """What a CPU runs forward: mostly the primitive.

    Which form wins changes with XLA and with the processor. In ms, jax 0.10 on two AVX-512 cores, batch 4, by the
    primitive and by Winograd's method: 512 channels at 16 px 18.2 and 10.5; 256 at 32 px 18 to 27 and 12.4; 128 at
    64 px 18.9 and 23.2. Unpadded, batch 256, by the primitive and by rows: 32 channels at 31 px 95 to 160 and 44 to 76;
    9 at 64 px with stride 2 62, and 37 by a matmul over all nine neighbours.
    """
    even = not (x.shape[1] % 2 or x.shape[2] % 2)
    if padding == _NONE:
        return by_rows(stride, padding, x, kernel)
    if stride == 1 and even and min(kernel.shape[2:]) >= 256 and 16 <= x.shape[1] <= 32 and x.dtype == jnp.float32:
        return by_winograd(x, kernel)
    return by_primitive(stride, padding, x, kernel)


def differentiated_on_cpu(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    """The form whose gradients a CPU computes: the primitive's take four to six times as long as its result does.

    In ms beyond the result, by the primitive and by rows: batch 4, 256 channels at 32 px 101 and 52; 128 at 64 px 107
    and 57; batch 32, 64 at 16 px 15 and 8.5. On a few pixels, batch 32 at 8 px, 2.4 and 2.4.
    """
    if padding == _NONE or (stride == 1 and x.shape[0] * x.shape[1] * x.shape[2] >= 4096):
        return by_rows(stride, padding, x, kernel)
    return by_primitive(stride, padding, x, kernel)


def doubled(x_bhwc: Array) -> Array:
    """Each pixel as a square of four."""
    return x_bhwc.repeat(2, axis=1).repeat(2, axis=2)


def conv3x3_of_doubled(x_bhwc: Array, kernel_3xy: Array, bias_y: Array) -> Array:
    """`conv3x3(doubled(x))`: [B, H, W, X] to [B, 2 H, 2 W, Y]."""
    return _convolve_doubled(x_bhwc, kernel_3xy) + bias_y


def doubled_by_primitive(x: Array, kernel: Array) -> Array:
    """As it is written."""
    return by_primitive(1, _PADDING[1], doubled(x), kernel)


def doubled_by_phases(x: Array, kernel: Array) -> Array:
    """Without doubling, in 4/9 of the work: four convolutions of 2x2 with the kernel's values added up.

    Of the nine values under a kernel only four differ; which ones depends on a pixel's place in its square of four.
    """

    def halves(kernel: Array, axis: int, side: int) -> Array:
        first, middle, last = jnp.split(kernel, 3, axis)
        return jnp.concatenate([first, middle + last] if side == 0 else [first + middle, last], axis)

    def phase(row: int, column: int) -> Array:
        small = halves(halves(kernel, 0, row), 1, column)
        padding = ((1 - row, row), (1 - column, column))
        return lax.conv_general_dilated(x, small, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return _interleaved([[phase(row, column) for column in range(2)] for row in range(2)])


def _with_own_gradient(form: Form) -> Any:
    return jax.custom_vjp(form, nondiff_argnums=(0, 1))


# The rule for gradients stands here so that the choice of backend is made inside it: differentiating through the choice
# would keep the intermediate results of both lowerings.
@_with_own_gradient
def _convolve(stride: int, padding: Padding, x: Array, kernel: Array) -> Array:
    forms = on_cpu, by_primitive
    on, elsewhere = (functools.partial(form, stride, padding) for form in forms)
    return lax.platform_dependent(x, kernel, cpu=on, default=elsewhere)


def _convolve_forward(stride: int, padding: Padding, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(stride, padding, x, kernel), (x, kernel)


def _convolve_backward(
    stride: int, padding: Padding, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    def pulled_back(form: Form) -> Callable[[Array, Array, Array], Any]:
        return lambda x, kernel, gradient: jax.vjp(functools.partial(form, stride, padding), x, kernel)[1](gradient)

    on, elsewhere = pulled_back(differentiated_on_cpu), pulled_back(by_primitive)
    return lax.platform_dependent(*saved, gradient, cpu=on, default=elsewhere)


_convolve.defvjp(_convolve_forward, _convolve_backward)


@jax.custom_vjp
def _convolve_doubled(x: Array, kernel: Array) -> Array:
    return lax.platform_dependent(x, kernel, cpu=doubled_by_phases, default=doubled_by_primitive)


def _convolve_doubled_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve_doubled(x, kernel), (x, kernel)


def _convolve_doubled_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    return jax.vjp(lambda x, kernel: _convolve(1, _PADDING[1], doubled(x), kernel), *saved)[1](gradient)


_convolve_doubled.defvjp(_convolve_doubled_forward, _convolve_doubled_backward)
