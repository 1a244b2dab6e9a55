"""The adversarial part as published: the tokenizer's term in its own update, and the discriminator's turns between."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tokenizer.adversary import LARGEST_WEIGHT, Round
from tokenizer.config import TokenizerConfig
from tokenizer.discriminator import DiscriminatorState, generator_loss
from tokenizer.losses import Outputs
from tokenizer.optimizer import OptimizerConfig, apply_updates, make_optimizer
from tokenizer.published_discriminator import published_logits, published_loss
from tokenizer.types import Params

SHORTEST = 1e-8
"""Length of the adversarial gradient that is divided by at least."""


def own_optimizer(config: TokenizerConfig, optimizer: OptimizerConfig) -> OptimizerConfig:
    """The discriminator's: the tokenizer's at another learning rate."""
    return dataclasses.replace(optimizer, learning_rate=config.discriminator_rate)


def play_term(
    config: TokenizerConfig,
    state: DiscriminatorState,
    begun: Array,
    outputs: Outputs,
    perceptual_loss: Callable[[Array], Array],
    pull_back: Callable[[Outputs], tuple[Params]],
) -> Round:
    """The tokenizer's term of one update, against a discriminator that stays as it is; nothing before it has `begun`.

    perceptual_loss: of future frames [B, F, H, W, 3], without its weight. The term's weight is adversarial_weight times
    the length of its gradient over the adversarial one's, both at the future decoder's output layer. pull_back: takes a
    gradient of the outputs back to the parameters.
    """

    def played(state: DiscriminatorState) -> Round:
        def fooled(outputs: Outputs) -> tuple[Array, tuple[Array, ...]]:
            logits, directions = published_logits(state.params, state.directions, outputs.frames())
            return generator_loss(logits), directions

        (loss, directions), own = jax.value_and_grad(fooled, has_aux=True)(outputs)
        nothing = jax.tree.map(jnp.zeros_like, outputs)
        perceptual = nothing._replace(future_bfhwc=jax.grad(perceptual_loss)(outputs.future_bfhwc))
        # Only the gradients of two kernels are used: the compiler drops the backward pass beyond them.
        lengths = [jnp.linalg.norm(_output_kernel(pull_back(gradient)[0])) for gradient in (perceptual, own)]
        adaptive = jnp.minimum(lengths[0] / jnp.maximum(lengths[1], SHORTEST), LARGEST_WEIGHT)
        weight = config.adversarial_weight * adaptive
        gradient = jax.tree.map(lambda x: weight * x, own)
        new = state.replace(directions=directions)
        return Round(weight * loss, gradient, new, {"adaptive_weight": adaptive})

    def waited(state: DiscriminatorState) -> Round:
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(played, state))
        return nothing._replace(state=state)

    return jax.lax.cond(begun, played, waited, state)


def _output_kernel(params: Any) -> Array:
    part, layer = ("patch_pair", "paint") if "patch_pair" in params else ("future_decoder", "out")
    return params[part][layer]["kernel"][...].reshape(-1)


@functools.partial(jax.jit, static_argnames=("config", "optimizer"))
def learn_to_tell(
    config: TokenizerConfig,
    optimizer: OptimizerConfig,
    state: DiscriminatorState,
    real_nhwc: Array,
    fake_nhwc: Array,
) -> tuple[DiscriminatorState, dict[str, Array]]:
    """The discriminator's own turn, on frames and what the tokenizer makes of them."""

    def evaluated(params: Params) -> tuple[Array, tuple[Array, Array, tuple[Array, ...]]]:
        real, directions = published_logits(params, state.directions, real_nhwc)
        fake, directions = published_logits(params, directions, fake_nhwc)
        return published_loss(real, fake), (real.mean(), fake.mean(), directions)

    (loss, (real, fake, directions)), gradients = jax.value_and_grad(evaluated, has_aux=True)(state.params)
    updates, moments = make_optimizer(own_optimizer(config, optimizer)).update(gradients, state.optimizer, state.params)
    params = apply_updates(state.params, updates)
    metrics = {"discriminator_loss": loss, "discriminator_real": real, "discriminator_fake": fake}
    return DiscriminatorState(params, moments, directions), metrics
