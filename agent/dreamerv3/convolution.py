"""Convolutions before a halving and behind a doubling of the picture, lowered to what the backend is fast at.

A CPU treats squares of four pixels as one pixel: then either is a 3x3 convolution at the smaller resolution with four
times the outputs. Behind a doubling that is 36 multiplications instead of 100; before a halving it is 144, of which XLA
does more per second since there are more channels, and the maximum of each square needs no other layout. jax 0.10 on
two AVX-512 cores, 1024 pictures of 64 pixels, 3 to 8 channels forward and all gradients: 140 and 370 ms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import Array, lax

KERNELS = (3, 5)
"""Sides of a kernel whose reach is one square."""
AXES = ("NHWC", "HWIO", "NHWC")

Form = Callable[[Array, Array], Array]
"""One way to compute a bilinear function of pictures and kernel."""


def conv_pooled(x_bhwc: Array, kernel_kkxy: Array, bias_y: Array) -> Array:
    """Stride 1, zeros around, then the maximum of every square of four: [B, H, W, X] to [B, H / 2, W / 2, Y]."""
    _check(x_bhwc, kernel_kkxy, bias_y)
    fours = _in_fours(x_bhwc, kernel_kkxy)
    # By pairs: the gradient of one maximum over all four takes 1.7 times as long.
    above, below = (jnp.maximum(fours[:, :, :, i], fours[:, :, :, i + 1]) for i in (0, 2))
    return jnp.maximum(above, below) + bias_y


def conv_of_doubled(x_bhwc: Array, kernel_kkxy: Array, bias_y: Array) -> Array:
    """Every pixel as a square of four, then stride 1, zeros around: [B, H, W, X] to [B, 2 H, 2 W, Y]."""
    _check(x_bhwc, kernel_kkxy, bias_y)
    return _of_doubled(x_bhwc, kernel_kkxy) + bias_y


def _check(x_bhwc: Array, kernel_kkxy: Array, bias_y: Array) -> None:
    chex.assert_rank([x_bhwc, kernel_kkxy, bias_y], [4, 4, 1])
    side = kernel_kkxy.shape[0]
    chex.assert_shape(kernel_kkxy, (side, side, x_bhwc.shape[-1], bias_y.shape[0]))
    if side not in KERNELS:
        raise ValueError(f"the kernel is {side} pixels wide, expected one of {KERNELS}")


# --- both convolutions in both forms ----------------------------------------------------------------------------------


def fours_by_primitive(x: Array, kernel: Array) -> Array:
    """Results of each square of four pixels [B, H / 2, W / 2, 4, Y]."""
    return _fours(_primitive(x, kernel))


def fours_by_squares(x: Array, kernel: Array) -> Array:
    """The same: input pixel p of the square s away is under the kernel of output pixel a at 2 s + p - a."""
    fours = _fours(x)
    taps = _taps(kernel, lambda square, a, tap: [2 * square + p - a == tap for p in range(2)])
    wide = jnp.einsum("satp,zbuq,tuxy->szpqxaby", taps, taps, kernel, precision=lax.Precision.HIGHEST)
    (*_, inputs, outputs), (b, h, w, *_) = kernel.shape, fours.shape
    result = _conv3x3(fours.reshape(b, h, w, 4 * inputs), wide.reshape(3, 3, 4 * inputs, 4 * outputs))
    return result.reshape(b, h, w, 4, outputs)


def doubled_by_primitive(x: Array, kernel: Array) -> Array:
    """[B, 2 H, 2 W, Y]"""
    return _primitive(x.repeat(2, 1).repeat(2, 2), kernel)


def doubled_by_squares(x: Array, kernel: Array) -> Array:
    """The same: the pixel s away lies under the kernel of output pixel a wherever (a + tap) / 2 falls there."""
    taps = _taps(kernel, lambda square, a, tap: (a + tap) // 2 == square)
    wide = jnp.einsum("sat,zbu,tuxy->szxaby", taps, taps, kernel, precision=lax.Precision.HIGHEST)
    (*_, inputs, outputs), (b, h, w, _) = kernel.shape, x.shape
    fours = _conv3x3(x, wide.reshape(3, 3, inputs, 4 * outputs)).reshape(b, h, w, 2, 2, outputs)
    return fours.swapaxes(2, 3).reshape(b, 2 * h, 2 * w, outputs)


def _taps(kernel: Array, under: Callable[[int, int, int], bool | list[bool]]) -> Array:
    """Ones where `under(square, a, tap)`: over three squares, two output pixels, and taps (0 is the middle)."""
    taps = range(-(len(kernel) // 2), len(kernel) // 2 + 1)
    return jnp.array([[[under(s, a, tap) for tap in taps] for a in range(2)] for s in (-1, 0, 1)], kernel.dtype)


def _fours(x: Array) -> Array:
    """[B, H, W, X] to [B, H / 2, W / 2, 4, X]: rows of a square first."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).swapaxes(2, 3).reshape(b, h // 2, w // 2, 4, c)


def _primitive(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=AXES)


# --- which form where -------------------------------------------------------------------------------------------------


def _choose(on_cpu: Form, elsewhere: Form) -> Form:
    """One bilinear function of pictures and kernel in two forms.

    The rule for gradients stands outside the choice, since differentiating through it would keep what both forms need.
    """

    def backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
        def pulled_back(form: Form) -> Callable[[Array, Array, Array], Any]:
            return lambda x, kernel, gradient: jax.vjp(form, x, kernel)[1](gradient)

        return lax.platform_dependent(*saved, gradient, cpu=pulled_back(on_cpu), default=pulled_back(elsewhere))

    @jax.custom_vjp
    def function(x: Array, kernel: Array) -> Array:
        return lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)

    function.defvjp(lambda x, kernel: (function(x, kernel), (x, kernel)), backward)
    return function


_in_fours = _choose(fours_by_squares, fours_by_primitive)
_of_doubled = _choose(doubled_by_squares, doubled_by_primitive)


# --- on a CPU ---------------------------------------------------------------------------------------------------------

PIECE = 8192
"""Pixels at a time, few enough that what is copied for their matmul stays in the cache."""


@jax.custom_vjp
def _conv3x3(x: Array, kernel: Array) -> Array:
    """By the primitive, except the kernel's gradient, which takes the primitive four times as long as the result."""
    return _primitive(x, kernel)


def _conv3x3_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _primitive(x, kernel), (x, kernel)


def _conv3x3_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    of_x = _primitive(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
    return of_x, _kernel_gradient(x, gradient).astype(kernel.dtype)


def _kernel_gradient(x: Array, gradient: Array) -> Array:
    """[3, 3, X, Y] float32: piece by piece, three neighbours in a row times the gradients of the three rows around."""
    b, h, w, _ = x.shape
    piece = math.gcd(b, max(1, PIECE // (h * w)))
    pieces = x.reshape(-1, piece, *x.shape[1:]), gradient.reshape(-1, piece, *gradient.shape[1:])

    def add(total: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
        columns = _neighbours(inputs[0], 2).reshape(-1, 3 * x.shape[-1])
        rows = _neighbours(inputs[1], 1).reshape(-1, 3 * gradient.shape[-1])
        return total + jnp.matmul(columns.T, rows, preferred_element_type=jnp.float32), None

    total, _ = lax.scan(add, jnp.zeros((3 * x.shape[-1], 3 * gradient.shape[-1]), jnp.float32), pieces)
    # A row's gradient seen from the row below belongs to the kernel's first row; the rows came in the other order.
    return total.reshape(3, x.shape[-1], 3, -1).transpose(2, 0, 1, 3)[::-1]


def _neighbours(x: Array, axis: int) -> Array:
    """Before, here and after along an axis, as channels one after the other; zeros around."""
    size = x.shape[axis]
    padded = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(4)])
    return jnp.concatenate([lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)], -1)


_conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)
