"""The future pair of a patch tokenizer: each patch of a future frame is coded by its change, and painted over the last
context frame.

An unpublished alternative to the VQGAN pair with cross-attention (`TokenizerConfig.future_pair`), for small models. A
patch in which nothing moves has a code of its own and is copied exactly. Where something moves, a few numbers say how,
and the decoder paints, with the neighbourhood in the last context frame and the codes of the patches around in view.
Painted patches overlap and fade into each other, so that no seams are seen.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from tokenizer.blocks import held
from tokenizer.config import TokenizerConfig
from tokenizer.initial import DeferredInit
from tokenizer.layers import Linear, from_patches, to_patches
from tokenizer.quantize import PatchQuantizer, Quantized

STILL = 0.04
"""A patch is still where every colour differs from the last context frame by less: shadows and rounding move less."""
OVERLAP = 2
"""Pixels that a painted patch reaches beyond its own on each side."""
PIXEL_SCALE, CHANGE_SCALE = 2.0, 6.0
"""Bring pictures and changes, which are mostly small, to about unit size at the first layers."""
CLEAR = 2.0
"""The logit of a new decoder's transparency."""


def still_patches(config: TokenizerConfig, future_bfhwc: Array, last_frame_bhwc: Array) -> Array:
    """Where nothing changed since the last context frame: bool [B, F, patches]."""
    change_bfhwc = jnp.abs(future_bfhwc - last_frame_bhwc[:, None])
    change_mhwc = change_bfhwc.reshape(-1, *change_bfhwc.shape[2:])
    return (to_patches(change_mhwc, config.patch_side).max(-1) < STILL).reshape(*future_bfhwc.shape[:2], -1)


def neighbourhoods(frames_mhwc: Array, side: int, margin: int) -> Array:
    """Every patch with `margin` pixels around it, flattened: [M, patches, (side + 2 margin)² c]; edges are repeated."""
    padded = jnp.pad(frames_mhwc, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")
    patches = frames_mhwc.shape[1] // side
    reach = side * np.arange(patches)[:, None] + np.arange(side + 2 * margin)
    windows = padded[:, reach[:, None, :, None], reach[None, :, None, :]]
    return windows.reshape(len(frames_mhwc), patches**2, -1)


def overlapped(windows_mpqyxc: Array, side: int) -> Array:
    """The sum [M, H, W, c] of patches [M, rows, columns, side + 2 margin, side + 2 margin, c] laid over each other."""
    margin = (windows_mpqyxc.shape[3] - side) // 2
    rows = _laid(windows_mpqyxc, side, 1, 3)
    x = _laid(rows, side, 2, 4)  # [M, rows + 1, columns + 1, side, side, c]
    m, rows_, columns, _, _, c = x.shape
    canvas = x.transpose(0, 1, 3, 2, 4, 5).reshape(m, rows_ * side, columns * side, c)
    return canvas[:, margin : margin + (rows_ - 1) * side, margin : margin + (columns - 1) * side]


def _laid(x: Array, side: int, along: int, within: int) -> Array:
    """The pixels of one axis summed where neighbours overlap: one patch more `along`, `side` pixels `within` each."""
    widths = [(0, 0)] * x.ndim
    widths[within] = (0, 2 * side - x.shape[within])
    first, second = jnp.split(jnp.pad(x, widths), 2, axis=within)
    before, after = [(0, 0)] * x.ndim, [(0, 0)] * x.ndim
    after[along], before[along] = (0, 1), (1, 0)
    return jnp.pad(first, after) + jnp.pad(second, before)


@functools.lru_cache(maxsize=8)
def fading(side: int) -> np.ndarray:
    """What each pixel of a painted patch weighs: [side + 2 OVERLAP] squared; 1, falling towards its edges."""
    reach = side + 2 * OVERLAP
    inwards = np.minimum(np.arange(reach), np.arange(reach)[::-1]) + 0.5
    ramp = np.minimum(inwards / (2 * OVERLAP), 1).astype(np.float32)
    return ramp[:, None] * ramp


class CodedPatches(NamedTuple):
    """What became of the patches of future frames."""

    latents_bfpd: Array  # before quantization
    quantized: Quantized  # codes [B, F, patches, D], indices [B, F, patches, groups]
    moving_bfp: Array  # float32, 0 or 1


class PatchPair(nnx.Module):
    """Encoder and decoder of future patches; the same for all places but for a learned vector of each."""

    def __init__(self, config: TokenizerConfig, *, deferred: DeferredInit):
        self.config = config
        self.quantizer = PatchQuantizer(config.levels_of_future, config.future_groups)
        width, code = config.patch_width, config.future_code_dimension
        linear = functools.partial(Linear, deferred=deferred)
        painted = 3 * (config.patch_side + 2 * OVERLAP) ** 2
        self.last = linear(painted, width)
        self.change = linear(painted, width)
        self.encoder_place = nnx.Param(jnp.zeros((config.patches, width)))
        self.encoder_hidden = linear(width, width)
        self.to_code = linear(width, code)

        self.neighbourhood = linear(3 * (2 * config.patch_side) ** 2, width)
        self.decoder_place = nnx.Param(jnp.zeros((config.patches, width)))
        self.codes_around = linear(9 * (code + 1), width)
        self.decoder_hidden = nnx.List([linear(width, width), linear(width, width)])
        self.code_again = linear(code, width)
        self.paint = Linear(width, painted // 3 * 4, deferred=deferred)

    def encode(self, future_bfhwc: Array, last_frame_bhwc: Array) -> CodedPatches:
        """The codes of future frames [B, F, H, W, 3] that follow a last context frame [B, H, W, 3]."""
        latents = self._latents(future_bfhwc, last_frame_bhwc)
        still_bfp = still_patches(self.config, future_bfhwc, last_frame_bhwc)
        return CodedPatches(latents, self.quantizer(latents, still_bfp), 1.0 - still_bfp)

    def reconstruct(self, future_bfhwc: Array, last_frame_bhwc: Array) -> tuple[Array, Array, Quantized]:
        """Frames [B, F, H, W, 3] through their codes; their latents [B * F, patches, D] and codes."""
        latents, quantized, moving_bfp = self.encode(future_bfhwc, last_frame_bhwc)
        frames = self.decode(quantized.codes, moving_bfp, last_frame_bhwc, None)
        latents, codes, indices = (x.reshape(-1, *x.shape[2:]) for x in (latents, quantized.codes, quantized.indices))
        return frames, latents, Quantized(codes, indices, quantized.loss)

    def _latents(self, future_bfhwc: Array, last_frame_bhwc: Array) -> Array:
        side, dtype = self.config.patch_side, self.config.compute_dtype
        change_bfhwc = future_bfhwc - last_frame_bhwc[:, None]
        change_bfpd = neighbourhoods(change_bfhwc.reshape(-1, *change_bfhwc.shape[2:]), side, OVERLAP)
        change_bfpd = change_bfpd.reshape(*future_bfhwc.shape[:2], *change_bfpd.shape[1:])
        last_bpd = neighbourhoods(last_frame_bhwc - 0.5, side, OVERLAP)
        seen_bpd = self.last((PIXEL_SCALE * last_bpd).astype(dtype)) + self.encoder_place[...].astype(dtype)
        x = jax.nn.silu(seen_bpd[:, None] + self.change((CHANGE_SCALE * change_bfpd).astype(dtype)))
        # Float32 before a code is chosen: a token is a decision.
        return self.to_code(jax.nn.silu(self.encoder_hidden(x)).astype(jnp.float32))

    def look(self, last_frame_bhwc: Array) -> Array:
        """What the decoder knows of the last context frame around each patch: [B, patches, width]."""
        side, dtype = self.config.patch_side, self.config.compute_dtype
        around_bpd = PIXEL_SCALE * (neighbourhoods(last_frame_bhwc, side, side // 2) - 0.5)
        return self.neighbourhood(around_bpd.astype(dtype)) + self.decoder_place[...].astype(dtype)

    def decode(self, codes_bfpd: Array, moving_bfp: Array, last_frame_bhwc: Array, around_bpd: Array | None) -> Array:
        """Frames [B, F, H, W, 3] of codes: painted over the last context frame, which still patches show as it is.

        moving_bfp: 1 for a patch that moves, 0 for one that is still; a probability fades between the two.
        around_bpd: what `look` made of that frame, if that has been done.
        """
        seen_bpd = self.look(last_frame_bhwc) if around_bpd is None else around_bpd
        painted = held(self.config, self._painted)(codes_bfpd, moving_bfp, seen_bpd)
        return self._blended(painted, moving_bfp, last_frame_bhwc)

    def _painted(self, codes_bfpd: Array, moving_bfp: Array, seen_bpd: Array) -> Array:
        """Colours and opacity of each patch and its margin: [B, F, patches, D]."""
        codes = (codes_bfpd * moving_bfp[..., None]).astype(seen_bpd.dtype)
        around = self.codes_around(self._around(codes, moving_bfp))
        x = jax.nn.silu(seen_bpd[:, None] + around)
        x = jax.nn.silu(self.decoder_hidden[0](x) + self.code_again(codes))
        x = x + jax.nn.silu(self.decoder_hidden[1](x))
        return self.paint(x).astype(jnp.float32)

    def _around(self, codes_bfpd: Array, moving_bfp: Array) -> Array:
        """The codes of each patch and of the eight around it, and which of them move: [B, F, patches, 9 (d + 1)]."""
        b, f, p, d = codes_bfpd.shape
        known = jnp.concatenate([codes_bfpd, moving_bfp[..., None].astype(codes_bfpd.dtype)], axis=-1)
        grid = known.reshape(b * f, self.config.patch_grid, self.config.patch_grid, d + 1)
        return neighbourhoods_of_zero_edge(grid).reshape(b, f, p, -1)

    def _blended(self, painted_bfpd: Array, moving_bfp: Array, last_frame_bhwc: Array) -> Array:
        side, grid = self.config.patch_side, self.config.patch_grid
        b, f = moving_bfp.shape[:2]
        reach = side + 2 * OVERLAP
        painted = painted_bfpd.reshape(b * f, grid, grid, reach, reach, 4)
        moving = moving_bfp.reshape(b * f, grid, grid, 1, 1, 1)
        weights = jnp.where(moving > 0, fading(side)[..., None], 0.0)
        opacity = moving * weights * jax.nn.sigmoid(painted[..., 3:] - CLEAR)
        # Of what is painted over a pixel, each patch has the share of its weight.
        total = overlapped(jnp.concatenate([opacity * (painted[..., :3] + 0.5), opacity, weights], axis=-1), side)
        share = 1 / jnp.maximum(total[..., 4:], 1e-6)
        colours_bfhwc, opacity_bfhwc = (
            (share * x).reshape(b, f, *x.shape[1:]) for x in (total[..., :3], total[..., 3:4])
        )
        last_bfhwc = last_frame_bhwc[:, None]
        frames = last_bfhwc + colours_bfhwc - opacity_bfhwc * last_bfhwc
        still = from_patches((moving[..., 0, 0] == 0).repeat(side**2, axis=-1), side)
        return jnp.where(still.reshape(b, f, *still.shape[1:]), last_bfhwc, frames)


def neighbourhoods_of_zero_edge(grid_mpqd: Array) -> Array:
    """Each entry of a grid with the eight around it: [M, rows, columns, 9 d]; zeros beyond the edge."""
    rows, columns = grid_mpqd.shape[1:3]
    padded = jnp.pad(grid_mpqd, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return jnp.concatenate(shifted, axis=-1)
