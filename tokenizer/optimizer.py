"""Adam as the paper trains with it (appendix, training details); the transformer uses it too."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, cast

import jax
import optax

from tokenizer.limits import require_at_least, require_positive
from tokenizer.types import Path

Tree = TypeVar("Tree", bound=optax.Params)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Linear warm-up, then a constant rate or a cosine; decoupled weight decay; gradients clipped by global norm."""

    learning_rate: float = 1e-4
    warmup_steps: int = 500
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0  # None: gradients of any length
    decay_steps: int | None = None  # updates, warm-up included, after which a cosine has brought the rate to 0
    accumulate: int = 1  # batches whose mean gradient makes one update

    def __post_init__(self):
        require_positive(self, "learning_rate", "clip_norm")
        require_at_least(0, self, "warmup_steps", "weight_decay")
        require_at_least(1, self, "decay_steps", "accumulate")


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """The optimizer; weight decay only on what multiplies activations: never on embeddings, norms and biases."""
    transformation = optax.chain(
        optax.identity() if config.clip_norm is None else optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(_rate(config), weight_decay=config.weight_decay, mask=decay_mask),
    )
    if config.accumulate > 1:
        return optax.MultiSteps(transformation, config.accumulate).gradient_transformation()
    return transformation


def apply_updates(params: Tree, updates: optax.Updates) -> Tree:
    """The parameters after an update, in the structure that they came in."""
    return cast(Tree, optax.apply_updates(params, updates))


def _rate(config: OptimizerConfig) -> optax.Schedule:
    """The learning rate of each update. A warm-up counts from one: a first step of rate zero would be wasted."""
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.decay_steps is None:
        after = optax.constant_schedule(peak)
    else:
        after = optax.cosine_decay_schedule(peak, max(config.decay_steps - warmup, 1))
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(peak / warmup, peak, warmup), after], [warmup])


_NOT_DECAYED = ("embedding", "codebook", "positions", "norm", "scale", "bias")


def decay_mask(params: optax.Params) -> Any:
    """The same tree with True where weight decay applies: by name, and never on vectors."""

    def decides(path: Path, leaf: jax.Array) -> bool:
        name = jax.tree_util.keystr(path).lower()
        return leaf.ndim > 1 and not any(word in name for word in _NOT_DECAYED)

    return jax.tree_util.tree_map_with_path(decides, params)
