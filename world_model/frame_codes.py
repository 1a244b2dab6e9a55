"""All codes of a frame at once from their logits: drawn, and how sure of them the model is.

A patch may have several codes, and one that says it is still.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from world_model.layout import SequenceLayout
from world_model.sampling import entropy, sample


def draw_codes(layout: SequenceLayout, logits_bnk: Array, key: Array, temperature: float, top_k: int | None) -> Array:
    """Future codes int32 [B, n]; patches do not know of each other's, nor the tokens of a patch of each other.

    Where the layout has a still code, the first token of a patch decides whether it is still: all others follow. At
    temperature 0 it is where that is at least as likely as not.
    """
    b, n, k = logits_bnk.shape
    if not layout.still_code:
        return sample(logits_bnk.reshape(-1, k), key, temperature, top_k).reshape(b, n)
    logits = logits_bnk.reshape(-1, layout.future_groups, k)
    moving_key, code_key = jax.random.split(key)
    still = jax.nn.softmax(logits[:, 0] / (temperature or 1.0), axis=-1)[:, -1]
    threshold = jax.random.uniform(moving_key, still.shape) if temperature else 0.5
    of_moving = sample(logits[..., :-1].reshape(-1, k - 1), code_key, temperature, top_k)
    codes = jnp.where((still >= threshold)[:, None], k - 1, of_moving.reshape(logits.shape[:2]))
    return codes.reshape(b, n)


def codes_entropy(layout: SequenceLayout, logits_bnk: Array) -> Array:
    """Of the frames that `draw_codes` draws at temperature 1 from all codes: float32 [B], nats per token."""
    if not layout.still_code:
        return entropy(logits_bnk).mean(axis=-1)
    groups = layout.future_groups
    logits_bpgk = logits_bnk.reshape(len(logits_bnk), -1, groups, logits_bnk.shape[-1])
    decides = jax.nn.softmax(logits_bpgk[:, :, 0], axis=-1)[..., -1]
    of_moving = entropy(logits_bpgk[..., :-1]).sum(axis=-1)
    # By the chain rule: whether the patch moves, then what it shows if it does.
    of_patch = -jax.scipy.special.xlogy(decides, decides) - jax.scipy.special.xlogy(1 - decides, 1 - decides)
    return (of_patch + (1 - decides) * of_moving).mean(axis=-1) / groups
