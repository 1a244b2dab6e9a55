"""LaProp (Ziyin et al., 2020) after adaptive gradient clipping (Brock et al., 2021), as DreamerV3 trains with them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from agent.dreamerv3.config import LaPropConfig


def clip_by_parameter_norm(clip: float, floor: float) -> optax.GradientTransformation:
    """Shrink each array of gradients to a norm of at most `clip * max(floor, norm of its parameter)`.

    By whole arrays, as the published code does, not by rows as optax.adaptive_grad_clip does.
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        if params is None:
            raise ValueError("clipping by the norm of the parameters needs the parameters")

        def clipped(gradient: Array, parameter: Array) -> Array:
            largest = clip * jnp.maximum(floor, jnp.linalg.norm(parameter.ravel()))
            return gradient / jnp.maximum(1.0, jnp.linalg.norm(gradient.ravel()) / largest)

        return jax.tree.map(clipped, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def laprop(rms_decay: float, momentum: float, epsilon: float) -> optax.GradientTransformation:
    """Divide by the root mean square of past gradients first, then average over time (Adam does the reverse).

    Both averages are corrected for their start at zero.
    """
    return optax.chain(
        optax.scale_by_rms(rms_decay, epsilon, eps_in_sqrt=False, bias_correction=True),
        optax.ema(momentum, debias=True),
    )


def make_optimizer(config: LaPropConfig) -> optax.GradientTransformation:
    """Clipping, LaProp, and a learning rate that rises linearly from zero, then stays."""
    rate = optax.linear_schedule(0.0, config.learning_rate, config.warmup_updates)
    return optax.chain(
        clip_by_parameter_norm(config.clip, config.clip_floor),
        laprop(config.rms_decay, config.momentum, config.epsilon),
        optax.scale_by_learning_rate(rate if config.warmup_updates else config.learning_rate),
    )
