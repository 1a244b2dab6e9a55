"""The adversarial part with our discriminator: its share of the tokenizer's gradient, and the discriminator's update,
in one training step. `turns.py` is the published way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tokenizer.config import TokenizerConfig
from tokenizer.discriminator import DiscriminatorState, discriminator_loss, generator_loss, logits_of
from tokenizer.losses import Outputs
from tokenizer.optimizer import OptimizerConfig, apply_updates, make_optimizer
from tokenizer.types import Params

LARGEST_WEIGHT = 1e4
"""Bound of the adaptive weight, as in VQGAN."""


class Round(NamedTuple):
    """One exchange between tokenizer and discriminator."""

    loss: Array  # the tokenizer's term, weighted
    gradient: Outputs  # of that term with respect to the tokenizer's outputs
    state: DiscriminatorState
    metrics: dict[str, Array]


def play_round(
    config: TokenizerConfig,
    optimizer: OptimizerConfig,
    state: DiscriminatorState,
    begun: Array,
    outputs: Outputs,
    real_nhwc: Array,
    gradient: Outputs,
    pull_back: Callable[[Outputs], tuple[Params]],
) -> Round:
    """The round of one training step; where it has not `begun` it changes nothing and every number is zero.

    gradient: of all other terms with respect to the outputs; pull_back: takes such a gradient back to the parameters.
    The term's weight is adversarial_weight times what makes both gradients equally long at the decoders' output layers.
    Context and future reconstructions are evaluated together, and the discriminator has the tokenizer's optimizer.
    """

    def played(state: DiscriminatorState) -> Round:
        def fooled(outputs: Outputs) -> Array:
            return generator_loss(logits_of(state.params, outputs.frames()))

        loss, own = jax.value_and_grad(fooled)(outputs)
        # Only the gradients of two kernels are used: the compiler drops the backward pass beyond them.
        adaptive = adaptive_weight(pull_back(gradient)[0], pull_back(own)[0])
        weight = config.adversarial_weight * adaptive

        def evaluated(params: Params) -> tuple[Array, tuple[Array, Array]]:
            real, fake = logits_of(params, real_nhwc), logits_of(params, outputs.frames())
            return discriminator_loss(real, fake), (real.mean(), fake.mean())

        (of_discriminator, (real, fake)), gradients = jax.value_and_grad(evaluated, has_aux=True)(state.params)
        updates, moments = make_optimizer(optimizer).update(gradients, state.optimizer, state.params)
        metrics = {
            "adaptive_weight": adaptive,
            "discriminator_loss": of_discriminator,
            "discriminator_real": real,
            "discriminator_fake": fake,
        }
        new = DiscriminatorState(apply_updates(state.params, updates), moments)
        return Round(weight * loss, jax.tree.map(lambda x: weight * x, own), new, metrics)

    def waited(state: DiscriminatorState) -> Round:
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(played, state))
        return nothing._replace(state=state)

    return jax.lax.cond(begun, played, waited, state)


def adaptive_weight(gradient: Mapping[str, Any], adversarial_gradient: Mapping[str, Any]) -> Array:
    """Length of the first gradient over that of the second, both over the kernels of the decoders' output layers."""
    lengths = [optax.tree.norm(_output_kernels(tree)) for tree in (gradient, adversarial_gradient)]
    return jnp.clip(lengths[0] / (lengths[1] + 1e-4), 0, LARGEST_WEIGHT)


def _output_kernels(params: Mapping[str, Any]) -> list[Array]:
    layers = (("context_decoder", "out"), ("future_decoder", "out"), ("patch_pair", "paint"))
    return [params[part][layer]["kernel"][...] for part, layer in layers if part in params]
