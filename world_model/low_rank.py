"""Fine-tuning by matrices of low rank (LoRA: Hu et al., 2021), as an optimizer: a model needs nothing else for it.

Of each adapted matrix W only the factors of a change learn: W = W0 + alpha / rank * A B. Their gradients follow from
that of W, and the optimizer's state holds them, so that the parameters are always the merged ones: they are imagined
with, validated and saved as any others. As in the published code, the matrices of attention and feed-forward, embedding
and head are adapted; action and reward layers learn as a whole; everything else stays.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from tokenizer.optimizer import OptimizerConfig, make_optimizer

PARTS = {
    r"attention/qkv/kernel": 3,
    r"attention/output/kernel": 1,
    r"feed_forward/gate_and_up/kernel": 2,
    r"feed_forward/down/kernel": 1,
    r"head/kernel": 1,
    r"embedding/embedding": 1,
}
"""Adapted matrices, by the ends of their names: of how many matrices, side by side, each is made."""
WHOLE = r"(^|/)(action|reward|action_recon|reward_ensemble/(inner|outer))/(kernel|bias)$"
"""Names of what learns as a whole."""

Factors = dict[str, tuple[Array, Array]]
"""A [inputs, rank] and B [rank, outputs] of each part of each adapted matrix."""


class LowRankState(NamedTuple):
    """The factors, and the optimizer of them and of what learns as a whole."""

    factors: Factors
    inner: optax.OptState


def low_rank(rank: int, alpha: float, config: OptimizerConfig) -> optax.GradientTransformation:
    """The optimizer of a configuration, for factors of this rank in place of matrices."""
    inner, scale = make_optimizer(config), alpha / rank

    def init(params: optax.Params) -> LowRankState:
        factors: Factors = {}
        for number, (name, leaf) in enumerate(_named(params).items()):
            for part, matrix in enumerate(_parts(name, leaf)):
                key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), part)
                factors[f"{number}.{part}"] = _begin(name, matrix.shape, rank, key)
        return LowRankState(factors, inner.init(_learned(factors, params)))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, LowRankState) and params is not None
        gradients: Factors = {}
        for number, (name, leaf) in enumerate(_named(updates).items()):
            for part, gradient in enumerate(_parts(name, leaf)):
                a, b = state.factors[f"{number}.{part}"]
                gradients[f"{number}.{part}"] = (scale * gradient @ b.T, scale * a.T @ gradient)
        changes, moments = inner.update(_learned(gradients, updates), state.inner, _learned(state.factors, params))
        factors: Any = jax.tree.map(jnp.add, state.factors, changes["factors"])  # pyright: ignore
        whole: dict[str, Array] = changes["whole"]  # pyright: ignore

        def change(number: int, name: str, leaf: Array) -> Array:
            if name in whole:
                return whole[name]
            keys = [f"{number}.{part}" for part in range(len(_parts(name, leaf)))]
            if not keys:
                return jnp.zeros_like(leaf)
            product = [scale * (_product(factors[key]) - _product(state.factors[key])) for key in keys]
            return jnp.concatenate(product, axis=-1)

        changed = [change(number, name, leaf) for number, (name, leaf) in enumerate(_named(updates).items())]
        return jax.tree.unflatten(jax.tree.structure(updates), changed), LowRankState(factors, moments)

    return optax.GradientTransformation(init, update)


def _named(tree: Any) -> dict[str, Array]:
    """Every array by its name, in the order of the tree's leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value"): leaf for path, leaf in leaves
    }


def _parts(name: str, leaf: Array) -> list[Array]:
    """The matrices that an adapted one is made of; none of what is not adapted."""
    count = next((count for ending, count in PARTS.items() if re.search(f"(^|/){ending}$", name)), 0)
    return jnp.split(leaf, count, axis=-1) if count else []


def _begin(name: str, shape: tuple[int, ...], rank: int, key: Array) -> tuple[Array, Array]:
    """Factors whose product is zero: B is, or of an embedding, whose rows are looked up, A."""
    inputs, outputs = shape
    if name.endswith("embedding"):
        return jnp.zeros((inputs, rank)), jax.random.normal(key, (rank, outputs))
    bound = inputs**-0.5
    return jax.random.uniform(key, (inputs, rank), minval=-bound, maxval=bound), jnp.zeros((rank, outputs))


def _product(factors: tuple[Array, Array]) -> Array:
    return factors[0] @ factors[1]


def _learned(factors: Factors, tree: Any) -> dict[str, Any]:
    """What the inner optimizer sees: factors, and what learns as a whole."""
    return {
        "factors": factors,
        "whole": {name: leaf for name, leaf in _named(tree).items() if re.search(WHOLE, name)},
    }
