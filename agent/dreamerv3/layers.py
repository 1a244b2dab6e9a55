"""The layers everything is made of. Parameters are float32; a layer computes in the dtype of what it is given."""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
from jax import Array


def _initial(scale: float) -> hk.initializers.Initializer:
    """Truncated normal of variance `scale`^2 / inputs; scale 0 is zeros."""
    if scale == 0:
        return jnp.zeros
    return hk.initializers.VarianceScaling(scale**2, "fan_in", "truncated_normal")


class ScaledLinear(hk.Module):
    """A linear map of the last axis."""

    def __init__(self, outputs: int, scale: float = 1.0, name: str | None = None):
        super().__init__(name)
        self.outputs, self.scale = outputs, scale

    def __call__(self, x: Array) -> Array:
        kernel = hk.get_parameter("kernel", (x.shape[-1], self.outputs), init=_initial(self.scale))
        bias = hk.get_parameter("bias", (self.outputs,), init=jnp.zeros)
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


class BlockLinear(hk.Module):
    """A linear map with a block-diagonal kernel: inputs and outputs fall into equal groups, joined one to one.

    As published, initial values are drawn for the inputs of all blocks together, not for those of one.
    """

    def __init__(self, outputs: int, blocks: int, name: str | None = None):
        super().__init__(name)
        self.outputs, self.blocks = outputs, blocks

    def __call__(self, x: Array) -> Array:
        groups = x.reshape(*x.shape[:-1], self.blocks, -1)
        shape = (self.blocks, groups.shape[-1], self.outputs // self.blocks)
        kernel = hk.get_parameter("kernel", shape, init=_initial(1.0))
        bias = hk.get_parameter("bias", (self.outputs,), init=jnp.zeros)
        y = jnp.einsum("...gi,gio->...go", groups, kernel.astype(x.dtype))
        return y.reshape(*x.shape[:-1], self.outputs) + bias.astype(x.dtype)


class ResamplingConvolution(hk.Module):
    """A square kernel, with what `form` does to the resolution: `conv_pooled` or `conv_of_doubled`."""

    def __init__(
        self, outputs: int, kernel: int, form: Callable[[Array, Array, Array], Array], name: str | None = None
    ):
        super().__init__(name)
        self.outputs, self.kernel, self.form = outputs, kernel, form

    def __call__(self, x_bhwc: Array) -> Array:
        shape = (self.kernel, self.kernel, x_bhwc.shape[-1], self.outputs)
        kernel = hk.get_parameter("kernel", shape, init=_initial(1.0)).astype(x_bhwc.dtype)
        bias = hk.get_parameter("bias", (self.outputs,), init=jnp.zeros).astype(x_bhwc.dtype)
        return self.form(x_bhwc, kernel, bias)


class RMSNorm(hk.Module):
    """The last axis divided by its root mean square, in float32, times a learned scale (Zhang and Sennrich, 2019)."""

    EPSILON = 1e-4

    def __call__(self, x: Array) -> Array:
        scale = hk.get_parameter("scale", (x.shape[-1],), init=jnp.ones)
        wide = x.astype(jnp.float32)
        factor = jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + self.EPSILON)
        return (wide * factor * scale).astype(x.dtype)


def activated(x: Array, name: str) -> Array:
    """RMSNorm, then SiLU: what follows every hidden layer."""
    return jax.nn.silu(RMSNorm(name=f"{name}_norm")(x))


def dense(x: Array, units: int, name: str) -> Array:
    """A hidden layer."""
    return activated(ScaledLinear(units, name=name)(x), name)


def mlp(x: Array, units: int, layers: int, name: str = "layer") -> Array:
    """Hidden layers, one after the other."""
    for i in range(layers):
        x = dense(x, units, f"{name}_{i}")
    return x
