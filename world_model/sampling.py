"""Drawing a token from its logits: temperature, top-k, greedy.

The generated tokens of a frame are always future codes. The published code draws from the whole vocabulary and has no
picture for the other ids when one comes up; a trained model gives those ids no mass worth naming, so leaving them out
changes neither a greedy rollout nor, noticeably, a sampled one, and it halves the work of the output layer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def sample(logits_bv: Array, key: Array, temperature: float, top_k: int | None) -> Array:
    """One index per row: [B] int32 in [0, V).

    temperature 0 is greedy (the first largest logit) and leaves the key alone. top_k keeps the k largest logits of a
    row and all that equal the least of them; None or anything from V up keeps all.
    """
    check_sampling(temperature, top_k)
    if temperature == 0:
        return jnp.argmax(logits_bv, axis=-1).astype(jnp.int32)
    scaled = logits_bv / temperature
    if top_k is None or top_k >= scaled.shape[-1]:
        return draw(scaled, jnp.ones_like(scaled, bool), key)
    return draw(scaled, scaled >= kth_largest(scaled, top_k)[:, None], key)


def entropy(logits_v: Array) -> Array:
    """Of the softmax of logits [..., V], in nats: [...], from 0 (certain) to log V (knows nothing)."""
    logs = jax.nn.log_softmax(logits_v, axis=-1)
    # Where a probability is 0 its logarithm may be minus infinity, and their product is 0 all the same.
    return -jnp.sum(jnp.where(jnp.isfinite(logs), jnp.exp(logs) * logs, 0.0), axis=-1)


def check_sampling(temperature: float, top_k: int | None) -> None:
    """Raise ValueError for a temperature below 0 or a top_k below 1."""
    if temperature < 0 or (top_k is not None and top_k < 1):
        raise ValueError(f"temperature {temperature} and top_k {top_k}: expected at least 0 and at least 1 (or None)")


def draw(logits_bv: Array, kept_bv: Array, key: Array) -> Array:
    """An index [B] of a kept entry, with the softmax of the kept logits as its probability.

    By the cumulative distribution and one uniform number per row: far cheaper than one Gumbel number per logit.
    """
    top = jnp.max(logits_bv, axis=-1, keepdims=True)
    cumulative = jnp.cumsum(jnp.where(kept_bv, jnp.exp(logits_bv - top), 0.0), axis=-1)
    point = jax.random.uniform(key, (len(logits_bv), 1)) * cumulative[:, -1:]
    # The first kept entry beyond the point; should rounding leave none beyond it, the kept entry that comes nearest.
    beyond = jnp.nextafter(point, jnp.inf)
    return jnp.argmax(jnp.where(kept_bv, jnp.minimum(cumulative, beyond), -1.0), axis=-1).astype(jnp.int32)


def kth_largest(x_bv: Array, k: int) -> Array:
    """The k-th largest entry [B] of each row, ties counted.

    XLA's top-k on a CPU sorts (9 ms for 32 rows of 2002, more than the rest of a token), so it uses bisection instead.
    """
    return jax.lax.platform_dependent(
        x_bv,
        cpu=lambda x: kth_largest_by_bisection(x, k),
        default=lambda x: jax.lax.top_k(x, k)[0][:, -1],
    )


def kth_largest_by_bisection(x_bv: Array, k: int) -> Array:
    """The same by bisection over the 32 bits of a float, which finds the exact entry."""
    ordered = _ordered_bits(x_bv)

    def narrow(step: Array, found_b: Array) -> Array:
        # From the highest bit down: keep a bit where still k entries or more are at least as large.
        candidate = found_b | (jnp.uint32(1) << (31 - step).astype(jnp.uint32))
        enough = jnp.sum(ordered >= candidate[:, None], axis=-1) >= k
        return jnp.where(enough, candidate, found_b)

    found = jax.lax.fori_loop(0, 32, narrow, jnp.zeros(len(x_bv), jnp.uint32))
    return _from_ordered_bits(found)


_SIGN = np.uint32(0x80000000)


def _ordered_bits(x: Array) -> Array:
    """Floats as unsigned integers in the same order: flip the sign bit of positive ones, all bits of negative ones."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    return jnp.where(bits >= _SIGN, ~bits, bits | _SIGN)


def _from_ordered_bits(ordered: Array) -> Array:
    bits = jnp.where(ordered >= _SIGN, ordered & ~_SIGN, ~ordered)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
