"""What the tokenizer is trained on (paper section 3.1, equation 5), without the perceptual and adversarial terms."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from tokenizer.config import TokenizerConfig
from tokenizer.model import Reconstruction


def losses(
    config: TokenizerConfig, reconstruction: Reconstruction, context_bchwc: Array, future_bfhwc: Array
) -> dict[str, Array]:
    """The terms of the loss, already weighted: their sum is minimised."""
    future_weights = motion_weights(config, future_bfhwc, context_bchwc[:, -1])
    return {
        "context_reconstruction": pixel_loss(config, reconstruction.context_bchwc, context_bchwc, None),
        "future_reconstruction": pixel_loss(config, reconstruction.future_bfhwc, future_bfhwc, future_weights),
        "context_commitment": reconstruction.context.loss,
        "future_commitment": reconstruction.future.loss,
    }


def pixel_loss(config: TokenizerConfig, predicted: Array, real: Array, weights: Array | None) -> Array:
    """Weighted mean over all pixels of L1 and L2, with the weights of the config; weights [..., 1] or None."""
    error = predicted - real
    loss = config.l1_weight * jnp.abs(error) + config.l2_weight * jnp.square(error)
    return loss.mean() if weights is None else (loss.mean(-1, keepdims=True) * weights).sum() / weights.sum()


def motion_weights(config: TokenizerConfig, future_bfhwc: Array, last_frame_bhwc: Array) -> Array | None:
    """How much each future pixel counts: [B, F, H, W, 1] in [motion_floor, 1]; None where the config has no floor.

    The change since the last context frame, as a share of the largest in the same future frame.
    """
    if config.motion_floor is None:
        return None
    change = jnp.abs(future_bfhwc - last_frame_bhwc[:, None]).mean(-1, keepdims=True)
    largest = change.max((2, 3), keepdims=True)
    return jnp.maximum(change / jnp.maximum(largest, SMALLEST_CHANGE), config.motion_floor)


SMALLEST_CHANGE = 0.05
"""A frame in which no pixel changes by this much holds noise rather than motion: it is not blown up to full weight."""
