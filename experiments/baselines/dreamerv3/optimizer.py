"""LaProp (Ziyin et al., 2020) after adaptive gradient clipping (Brock et al., 2021), as DreamerV3 trains with them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from experiments.baselines.dreamerv3.config import OptimizerConfig


def clip_by_parameter_norm(clip: float, floor: float) -> optax.GradientTransformation:
    """Shrink each array of gradients to a norm of at most `clip * max(floor, norm of its parameter)`.

    A whole array at a time, not a row, as the published code does (optax.adaptive_grad_clip works on rows).
    """

    def update(gradients, state, parameters=None):
        if parameters is None:
            raise ValueError("clipping by the norm of the parameters needs the parameters")

        def clipped(gradient, parameter):
            largest = clip * jnp.maximum(floor, jnp.linalg.norm(parameter.ravel()))
            return gradient / jnp.maximum(1.0, jnp.linalg.norm(gradient.ravel()) / largest)

        return jax.tree.map(clipped, gradients, parameters), state

    return optax.GradientTransformation(lambda parameters: optax.EmptyState(), update)


def laprop(rms_decay: float, momentum: float, epsilon: float) -> optax.GradientTransformation:
    """Divide by the root mean square of past gradients first, then average over time (Adam does it the other way round).

    Both averages are freed of their start at zero.
    """
    return optax.chain(
        optax.scale_by_rms(rms_decay, epsilon, eps_in_sqrt=False, bias_correction=True),
        optax.ema(momentum, debias=True),
    )


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping, LaProp, and a learning rate that rises linearly from zero, then stays."""
    rate = optax.linear_schedule(0.0, config.learning_rate, config.warmup_updates)
    return optax.chain(
        clip_by_parameter_norm(config.clip, config.clip_floor),
        laprop(config.rms_decay, config.momentum, config.epsilon),
        optax.scale_by_learning_rate(rate if config.warmup_updates else config.learning_rate),
    )
