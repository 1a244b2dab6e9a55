"""Care for learned codebooks in training: freezing them, and restarting codes that nothing uses.

A code that no latent chooses gets no gradient, so from a random start most would never be used. Restarting them at the
latents of the current batch is not in the paper, which starts from large data; off unless `dead_code_steps` is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer.config import TokenizerConfig
from tokenizer.types import Params

_QUANTIZERS = {"context": "context_quantizer", "future": "future_quantizer"}


def size(config: TokenizerConfig, name: str) -> int:
    """Number of codes of `context` or `future`."""
    return {"context": config.context_codes, "future": config.future_codes}[name]


def never_idle(config: TokenizerConfig) -> dict[str, Array]:
    """The counters before the first step; none where codes do not restart."""
    if config.dead_code_steps is None:
        return {}
    return {name: jnp.zeros(size(config, name), jnp.int32) for name in _QUANTIZERS}


def copied(source: Params, target: Params) -> Params:
    """`target` with the codebooks of `source`."""
    return _with_codebooks(target, {name: _codebook(source, quantizer) for name, quantizer in _QUANTIZERS.items()})


def restart(
    config: TokenizerConfig,
    params: Params,
    idle: dict[str, Array],
    counts: dict[str, Array],
    latents: dict[str, Array],
    key: Array,
    pieces: int = 1,
) -> tuple[Params, dict[str, Array]]:
    """Place codes unused for `dead_code_steps` updates at random latents [..., D] of this batch; count on for the
    others.

    pieces: batches that make one update, each of which comes here.
    """
    if config.dead_code_steps is None or config.freeze_codebooks:
        return params, idle
    codebooks: dict[str, Array] = {}
    new_idle: dict[str, Array] = {}
    for (name, quantizer), quantizer_key in zip(
        _QUANTIZERS.items(), jax.random.split(key, len(_QUANTIZERS)), strict=True
    ):
        idle_k = jnp.where(counts[name] > 0, 0, idle[name] + 1)
        dead_k = idle_k >= config.dead_code_steps * pieces
        flat = latents[name].reshape(-1, latents[name].shape[-1])
        candidates = flat[jax.random.randint(quantizer_key, dead_k.shape, 0, len(flat))]
        codebooks[name] = jnp.where(dead_k[:, None], candidates, _codebook(params, quantizer))
        new_idle[name] = jnp.where(dead_k, 0, idle_k)
    return _with_codebooks(params, codebooks), new_idle


def _codebook(params: Mapping[str, Any], quantizer: str) -> Array:
    return params[quantizer]["codebook"][...]


def _with_codebooks(params: Params, codebooks: dict[str, Array]) -> Params:
    flat = dict(nnx.to_flat_state(params))
    for name, codebook in codebooks.items():
        path = (_QUANTIZERS[name], "codebook")
        flat[path] = flat[path].replace(codebook)
    return nnx.from_flat_state(flat)
