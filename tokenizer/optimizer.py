"""Adam as the paper trains with it (appendix, training details); the transformer uses it too."""

from __future__ import annotations

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Constant learning rate after a linear warm-up, decoupled weight decay, gradients clipped by their global norm."""

    learning_rate: float = 1e-4
    warmup_steps: int = 500
    weight_decay: float = 0.0
    clip_norm: float = 1.0


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The optimizer; weight decay only on what multiplies activations: never on embeddings, norms and biases."""
    if config.warmup_steps > 0:
        # Counts from one: a first step of rate zero would be wasted.
        rate = optax.linear_schedule(
            config.learning_rate / config.warmup_steps, config.learning_rate, config.warmup_steps
        )
    else:
        rate = optax.constant_schedule(config.learning_rate)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(rate, weight_decay=config.weight_decay, mask=decayed),
    )


_NOT_DECAYED = ("embedding", "codebook", "positions", "norm", "scale", "bias")


def decayed(params) -> object:
    """The same tree with True where weight decay applies: by name, and never on vectors."""

    def decides(path: tuple, leaf: jax.Array) -> bool:
        name = jax.tree_util.keystr(path).lower()
        return leaf.ndim > 1 and not any(word in name for word in _NOT_DECAYED)

    return jax.tree_util.tree_map_with_path(decides, params)
