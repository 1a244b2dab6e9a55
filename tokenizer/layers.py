"""The layers everything is made of: linear map, 3x3 convolution, group normalisation, patches.

A layer computes in the dtype of what it is given; its parameters stay float32.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer.convolution import conv3x3, conv3x3_of_doubled
from tokenizer.initial import DeferredInit


class Linear(nnx.Module):
    """A linear map of the last axis; also the published 1x1 convolutions."""

    def __init__(self, inputs: int, outputs: int, *, deferred: DeferredInit):
        self.kernel = deferred.kernel((inputs, outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: Array) -> Array:
        return x @ self.kernel[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class Convolution(nnx.Module):
    """3x3, channels last."""

    def __init__(self, inputs: int, outputs: int, *, deferred: DeferredInit, stride: int = 1):
        self.stride = stride
        self.kernel = deferred.kernel((3, 3, inputs, outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x_bhwc: Array) -> Array:
        return conv3x3(x_bhwc, *self._parameters(x_bhwc), self.stride)

    def of_doubled(self, x_bhwc: Array) -> Array:
        """The convolution of the map with each pixel as a square of four."""
        return conv3x3_of_doubled(x_bhwc, *self._parameters(x_bhwc))

    def _parameters(self, x: Array) -> tuple[Array, Array]:
        return self.kernel[...].astype(x.dtype), self.bias[...].astype(x.dtype)


class GroupNorm(nnx.Module):
    """Group normalisation: each group of channels over all axes between the first and the last.

    alone: over the group's channels only, so that a change at one position of a map leaves all others as they were.
    Computed in float32, whatever the dtype of the map.
    """

    def __init__(self, channels: int, groups: int, epsilon: float, alone: bool = False):
        self.groups, self.epsilon, self.alone = groups, epsilon, alone
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Array) -> Array:
        shape = (-1, 1, x.shape[-1]) if self.alone else (len(x), -1, x.shape[-1])
        x_bpc = x.reshape(shape).astype(jnp.float32)
        # Positions first, channels kept: the form that vectorises. The variance of differences from the mean, not the
        # mean square less the squared mean, which cancels.
        centred = x_bpc - self._over_groups(x_bpc.mean(1))[:, None]
        variance_bc = self._over_groups(jnp.square(centred).mean(1))
        factor_bc = jax.lax.rsqrt(variance_bc + self.epsilon) * self.scale[...]
        return (centred * factor_bc[:, None] + self.bias[...]).reshape(x.shape).astype(x.dtype)

    def _over_groups(self, x_bc: Array) -> Array:
        """Each channel's mean replaced by its group's."""
        b, c = x_bc.shape
        group = x_bc.reshape(b, self.groups, -1).mean(-1)
        return jnp.repeat(group, c // self.groups, axis=-1)


def to_patches(x_bhwc: Array, side: int) -> Array:
    """Cut a map into patches, each flattened row, column, channel: [B, H, W, c] to [B, H / side, W / side, side² c]."""
    b, h, w, c = x_bhwc.shape
    x = x_bhwc.reshape(b, h // side, side, w // side, side, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // side, w // side, side * side * c)


def from_patches(x_bhwd: Array, side: int) -> Array:
    """The inverse of `to_patches`."""
    b, h, w, d = x_bhwd.shape
    x = x_bhwd.reshape(b, h, w, side, side, d // side**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * side, w * side, d // side**2)
