"""Returns, and the range of them that the actor's advantages are measured in (DreamerV3, actor learning)."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array


def lambda_returns(rewards_bt: Array, goes_on_bt: Array, cut_bt: Array, values_bt: Array, lambda_: float) -> Array:
    """Returns [B, T - 1] of the steps before the last.

    R[t] = r[t+1] + c[t+1] ((1 - l[t+1]) v[t+1] + l[t+1] R[t+1]), R[T-1] = v[T-1]; l is lambda, or zero where a sequence
    is cut. rewards_bt[t]: of arriving at step t. goes_on_bt (c): the discount of what follows step t, zero after an
    episode's end. cut_bt: 1 where step t is the last of its episode. values_bt (v): of step t.
    """
    chex.assert_equal_shape([rewards_bt, goes_on_bt, cut_bt, values_bt])
    rate_bt = (1 - cut_bt) * lambda_
    fixed_bt = rewards_bt + goes_on_bt * (1 - rate_bt) * values_bt

    def step(after: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        fixed, rate = inputs
        here = fixed + rate * after
        return here, here

    inputs = (fixed_bt[:, 1:].T, (goes_on_bt * rate_bt)[:, 1:].T)
    return jax.lax.scan(step, values_bt[:, -1], inputs, reverse=True)[1].T


class ReturnRange(NamedTuple):
    """Moving averages of a low and a high percentile of the returns; both start at zero."""

    low: Array
    high: Array

    def updated(self, returns: Array, percentiles: tuple[float, float], rate: float) -> ReturnRange:
        """Move by `rate` towards the percentiles of `returns` (of any shape)."""
        now = jnp.percentile(jax.lax.stop_gradient(returns), jnp.array(percentiles))
        return ReturnRange(self.low + rate * (now[0] - self.low), self.high + rate * (now[1] - self.high))

    def scale(self, limit: float) -> Array:
        """The range, at least `limit`, so that small returns (often noise) are not blown up."""
        return jnp.maximum(self.high - self.low, limit)
