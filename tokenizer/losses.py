"""What the tokenizer is trained on (paper section 3.1, equation 5); the adversarial term is in `adversary`."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from tokenizer.config import TokenizerConfig
from tokenizer.model import Reconstruction
from tokenizer.patches import still_patches
from tokenizer.perceptual import PerceptualWeights, lpips


class Outputs(NamedTuple):
    """The parts of a reconstruction that the loss depends on."""

    context_bchwc: Array
    future_bfhwc: Array
    context_commitment: Array
    future_commitment: Array
    future_codes: Array  # [B * F, n, D]

    @classmethod
    def of(cls, reconstruction: Reconstruction) -> Outputs:
        return cls(
            reconstruction.context_bchwc,
            reconstruction.future_bfhwc,
            reconstruction.context.loss,
            reconstruction.future.loss,
            reconstruction.future.codes,
        )

    def frames(self) -> Array:
        """All frames, [B * (C + F), H, W, 3]."""
        return all_frames(self.context_bchwc, self.future_bfhwc)


def all_frames(context_bchwc: Array, future_bfhwc: Array) -> Array:
    """[B * (C + F), H, W, 3]"""
    frames_bthwc = jnp.concatenate([context_bchwc, future_bfhwc], axis=1)
    return frames_bthwc.reshape(-1, *frames_bthwc.shape[2:])


def losses(
    config: TokenizerConfig,
    outputs: Outputs,
    context_bchwc: Array,
    future_bfhwc: Array,
    perceptual: PerceptualWeights | None,
) -> dict[str, Array]:
    """The terms of the loss, already weighted: their sum is minimised. perceptual: only where its weight is not 0."""
    future_weights = motion_weights(config, future_bfhwc, context_bchwc[:, -1])
    of_context, of_future = _shares(config, context_bchwc.shape[1], future_bfhwc.shape[1])
    terms = {
        "context_reconstruction": of_context * pixel_loss(config, outputs.context_bchwc, context_bchwc, None),
        "future_reconstruction": of_future * pixel_loss(config, outputs.future_bfhwc, future_bfhwc, future_weights),
        "context_commitment": outputs.context_commitment,
        "future_commitment": outputs.future_commitment,
    }
    if config.still_weight > 0:
        terms["still"] = config.still_weight * still_loss(
            config, outputs.future_codes, future_bfhwc, context_bchwc[:, -1]
        )
    if config.perceptual_weight > 0:
        assert perceptual is not None  # `train_step` refuses to train without
        made, real = (outputs.context_bchwc, outputs.future_bfhwc), (context_bchwc, future_bfhwc)
        terms["context_perceptual"] = of_context * perceptual_loss(config, perceptual, made[0], real[0])
        terms["future_perceptual"] = of_future * perceptual_loss(config, perceptual, made[1], real[1])
    return terms


def _shares(config: TokenizerConfig, context_frames: int, future_frames: int) -> tuple[float, float]:
    """What the losses of context and future frames are multiplied by: 1, or with balanced_loss their share of all."""
    if not config.balanced_loss:
        return 1.0, 1.0
    total = context_frames + future_frames
    return context_frames / total, future_frames / total


def perceptual_loss(
    config: TokenizerConfig, weights: PerceptualWeights, predicted_bthwc: Array, real_bthwc: Array
) -> Array:
    """Weighted mean of LPIPS over all frames."""
    return config.perceptual_weight * mean_lpips(config, weights, predicted_bthwc, real_bthwc)


def mean_lpips(config: TokenizerConfig, weights: PerceptualWeights, predicted_bthwc: Array, real_bthwc: Array) -> Array:
    """Mean of LPIPS over all frames, without its weight."""
    distance = jax.checkpoint(lpips) if config.recompute else lpips
    predicted, real = (x.reshape(-1, *x.shape[2:]) for x in (predicted_bthwc, real_bthwc))
    return distance(weights, predicted, real).mean()


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


def still_loss(config: TokenizerConfig, codes: Array, future_bfhwc: Array, last_frame_bhwc: Array) -> Array:
    """Mean squared distance from REST of the codes [B * F, n, D] of patches in which nothing changed; 0 without any.

    Without this loss the code of a still patch says something about what moves elsewhere, the more so the longer the
    tokenizer learns. A transformer would then mostly have to predict that.
    """
    still = still_patches(config, future_bfhwc, last_frame_bhwc).reshape(codes.shape[:2]).astype(codes.dtype)
    distance = jnp.square(codes - REST).mean(-1)
    return (distance * still).sum() / jnp.maximum(still.sum(), 1)


REST = 1.0
"""The highest level of every number, which a latent of equal positive numbers has."""

SMALLEST_CHANGE = 0.05
"""A frame in which no pixel changes by this much holds noise, not motion: its changes are not scaled to full weight."""
