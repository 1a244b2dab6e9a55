"""The compressive tokenizer: context frames to many tokens each, future frames to few (paper section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tokenizer.config import TokenizerConfig
from tokenizer.cross_attention import KeysValues
from tokenizer.decoder import Decoder, FutureDecoder
from tokenizer.encoder import Encoder, FutureEncoder
from tokenizer.initial import DeferredInit
from tokenizer.layers import Linear, from_patches, to_patches
from tokenizer.patches import PatchPair
from tokenizer.quantize import Quantized, make_quantizer


class Context(flax.struct.PyTreeNode):
    """All that future frames need of the context frames; made once, used for every future frame."""

    tokens_bcn: Array  # int32 [B, C, N] in [0, context_codes)
    encoder_keys: tuple[KeysValues, ...]  # one per cross-attention of the future encoder; empty where not known
    decoder_keys: tuple[KeysValues, ...]  # one per cross-attention of the future decoder
    last_frame_bhwc: Array  # float32 [B, H, W, 3]: what `context_residual` paints over
    around_bpd: Array | None = None  # future_pair patches: what the decoder knows of that frame around each patch


CHANGE_SCALE = 2.0
"""Changes are mostly small: enlarged, they weigh as much at the future encoder's input as the picture does."""


GREY, CLEAR = 0.5, 4.0
"""What a new decoder paints with `context_residual`, and the logit of its transparency."""


class Reconstruction(NamedTuple):
    """The training path: what became of the frames, and of their latents on the way."""

    context_bchwc: Array
    future_bfhwc: Array
    context_latents: Array  # [B * C, grid, grid, D] before quantization
    future_latents: Array  # [B * F, n, D]
    context: Quantized
    future: Quantized


class CompressiveTokenizer(nnx.Module):
    """Two VQGANs, the second looking at the features of the first. Frames are float32 in [0, 1], channels last.

    With future_pair "patches" the second is a `PatchPair`, which looks at the pixels of the last context frame.
    """

    def __init__(self, config: TokenizerConfig, *, rngs: nnx.Rngs):
        self.config = config
        deferred = DeferredInit()
        latent, code = config.latent_channels, config.code_dimension
        patch, future_code = latent * config.future_patch**2, config.future_code_dimension
        self.patch_pair = PatchPair(config, deferred=deferred) if config.future_pair == "patches" else None
        self.context_encoder = Encoder(config, mid_attention=config.context_mid_attention, deferred=deferred)
        self.context_decoder = Decoder(config, mid_attention=config.context_mid_attention, deferred=deferred)
        if self.patch_pair is None:
            self.future_encoder = FutureEncoder(config, deferred=deferred)
            self.future_decoder = FutureDecoder(config, deferred=deferred)
        self.context_to_code = Linear(latent, code, deferred=deferred)
        self.context_from_code = Linear(code, latent, deferred=deferred)
        if self.patch_pair is None:
            self.future_to_code = Linear(patch, future_code, deferred=deferred)
            self.future_from_code = Linear(future_code, patch, deferred=deferred)
        self.context_quantizer = make_quantizer(config.context_codes, config, config.fsq_levels, deferred=deferred)
        if self.patch_pair is None:
            levels = config.levels_of_future
            self.future_quantizer = make_quantizer(config.future_codes, config, levels, deferred=deferred)
        deferred.fill(rngs.params())

    def encode_context(self, frames_bchwc: Array) -> Context:
        """Tokens and features of true context frames, float32 [B, C, H, W, 3]. Frames do not see each other."""
        self._check_frames(frames_bchwc, self.config.context_frames)
        latents, encoder_maps = self.context_encoder(_flat(frames_bchwc))
        quantized = self.context_quantizer(self.context_to_code(latents))
        _, decoder_maps = self.context_decoder(self.context_from_code(quantized.codes))
        tokens_bcn = self._context_tokens(quantized.indices)
        if self.patch_pair is not None:
            return self._pixel_context(tokens_bcn, frames_bchwc[:, -1])
        return Context(
            tokens_bcn=tokens_bcn,
            encoder_keys=self.future_encoder.project(encoder_maps),
            decoder_keys=self.future_decoder.project(decoder_maps),
            last_frame_bhwc=frames_bchwc[:, -1],
        )

    def decode_context(self, tokens_bcn: Array) -> tuple[Array, Context]:
        """Frames [B, C, H, W, 3], not clipped, from tokens; and a context to decode future frames with.

        That context cannot encode future frames (the true frames' features are not known), and its last frame is the
        decoded one.
        """
        c, grid = self.config.context_frames, self.config.grid
        chex.assert_shape(tokens_bcn, (None, c, self.config.tokens_per_context))
        chex.assert_type(tokens_bcn, int)
        codes = self.context_quantizer.lookup(tokens_bcn.reshape(-1, grid, grid))
        frames, decoder_maps = self.context_decoder(self.context_from_code(codes))
        frames_bchwc = frames.reshape(-1, c, *frames.shape[1:])
        if self.patch_pair is not None:
            return frames_bchwc, self._pixel_context(tokens_bcn, frames_bchwc[:, -1])
        return frames_bchwc, Context(
            tokens_bcn=tokens_bcn,
            encoder_keys=(),
            decoder_keys=self.future_decoder.project(decoder_maps),
            last_frame_bhwc=frames_bchwc[:, -1],
        )

    def encode_future(self, frames_bfhwc: Array, context: Context) -> Array:
        """Tokens int32 [B, F, n] in [0, future_codes) of future frames; they see the context, not each other."""
        self._check_frames(frames_bfhwc, None)
        b, f = frames_bfhwc.shape[:2]
        if self.patch_pair is not None:
            coded = self.patch_pair.encode(frames_bfhwc, context.last_frame_bhwc)
            return coded.quantized.indices.reshape(b, f, self.config.tokens_per_future)
        latents = self._future_latents(self._new_in(frames_bfhwc, context.last_frame_bhwc), context.encoder_keys, None)
        return self.future_quantizer(latents).indices.reshape(b, f, self.config.tokens_per_future)

    def decode_future(self, tokens_bfn: Array, context: Context) -> Array:
        """Frames float32 [B, F, H, W, 3] of tokens in [0, future_codes); not clipped."""
        chex.assert_shape(tokens_bfn, (len(context.last_frame_bhwc), None, self.config.tokens_per_future))
        chex.assert_type(tokens_bfn, int)
        if self.patch_pair is not None:
            codes, moving_bfp = self.patch_pair.quantizer.lookup(self._by_patch(tokens_bfn))
            return self.patch_pair.decode(codes, moving_bfp, context.last_frame_bhwc, context.around_bpd)
        codes = self.future_quantizer.lookup(tokens_bfn.reshape(-1, self.config.tokens_per_future))
        return self._future_frames(codes, context.decoder_keys, context.last_frame_bhwc, None)

    def decode_mean(self, probabilities_bfnk: Array, context: Context) -> Array:
        """As `decode_future`, with the mean code of each token under its probabilities [B, F, n, K] of all codes."""
        b, f, n, k = probabilities_bfnk.shape
        if self.patch_pair is not None:
            codes, moving_bfp = self.patch_pair.quantizer.mean(self._by_patch(probabilities_bfnk))
            return self.patch_pair.decode(codes, moving_bfp, context.last_frame_bhwc, context.around_bpd)
        codes = self.future_quantizer.mean(probabilities_bfnk.reshape(b * f, n, k))
        return self._future_frames(codes, context.decoder_keys, context.last_frame_bhwc, None)

    def future_codes(self, tokens_bfn: Array) -> Array:
        """What the tokens of future frames stand for, [B, F, n or patches, D]: frames that look alike have codes close
        to each other, and no decoder is needed to compare them."""
        if self.patch_pair is not None:
            return _moving_codes(*self.patch_pair.quantizer.lookup(self._by_patch(tokens_bfn)))
        return self.future_quantizer.lookup(tokens_bfn)

    def mean_future_codes(self, probabilities_bfnk: Array) -> Array:
        """As `future_codes`, of tokens known by the probabilities [B, F, n, K] of all codes."""
        if self.patch_pair is not None:
            return _moving_codes(*self.patch_pair.quantizer.mean(self._by_patch(probabilities_bfnk)))
        return self.future_quantizer.mean(probabilities_bfnk)

    def _by_patch(self, of_tokens_bfn: Array) -> Array:
        """What belongs to each token [B, F, n, ...], the tokens of a patch together: [B, F, patches, groups, ...]."""
        b, f, _, *rest = of_tokens_bfn.shape
        return of_tokens_bfn.reshape(b, f, self.config.patches, self.config.future_groups, *rest)

    def reconstruct(self, context_bchwc: Array, future_bfhwc: Array, key: Array | None) -> Reconstruction:
        """Both pairs in one differentiable pass. key: draws the dropout of training; None: no dropout."""
        self._check_frames(context_bchwc, self.config.context_frames)
        self._check_frames(future_bfhwc, None)
        encoder_key, decoder_key = (None, None) if key is None else jax.random.split(key)
        latents, encoder_maps = self.context_encoder(_flat(context_bchwc))
        context_latents = self.context_to_code(latents)
        context = self.context_quantizer(context_latents)
        decoded, decoder_maps = self.context_decoder(self.context_from_code(context.codes))
        decoded = decoded.reshape(context_bchwc.shape)
        if self.patch_pair is not None:
            frames, future_latents, future = self.patch_pair.reconstruct(future_bfhwc, context_bchwc[:, -1])
            return Reconstruction(decoded, frames, context_latents, future_latents, context, future)

        new = self._new_in(future_bfhwc, context_bchwc[:, -1])
        future_latents = self._future_latents(new, self.future_encoder.project(encoder_maps), encoder_key)
        future = self.future_quantizer(future_latents)
        decoder_keys = self.future_decoder.project(decoder_maps)
        frames = self._future_frames(future.codes, decoder_keys, context_bchwc[:, -1], decoder_key)
        return Reconstruction(decoded, frames, context_latents, future_latents, context, future)

    def _pixel_context(self, tokens_bcn: Array, last_frame_bhwc: Array) -> Context:
        """A context of a patch pair, which looks at pixels alone."""
        assert self.patch_pair is not None
        return Context(tokens_bcn, (), (), last_frame_bhwc, self.patch_pair.look(last_frame_bhwc))

    def _new_in(self, frames_bfhwc: Array, last_frame_bhwc: Array) -> Array:
        """What the future encoder is shown: with context_residual, the last context frame and the change from it.

        Shown whole frames alone, the codes learn where a patch is before they learn how it moves: on handle-press 51
        of 1000 came into use within 300 steps and predicted no better than repeating the frame, against 637 with the
        change.
        """
        if not self.config.context_residual:
            return frames_bfhwc
        last_bfhwc = jnp.broadcast_to(last_frame_bhwc[:, None], frames_bfhwc.shape)
        return jnp.concatenate([last_bfhwc, CHANGE_SCALE * (frames_bfhwc - last_bfhwc)], axis=-1)

    def _future_latents(self, frames_bfhwc: Array, keys: tuple[KeysValues, ...], key: Array | None) -> Array:
        """Latents [B * F, n, D] before quantization."""
        latents = self.future_encoder(_flat(frames_bfhwc), keys, key)
        patches = to_patches(latents, self.config.future_patch)
        return self.future_to_code(patches.reshape(len(patches), -1, patches.shape[-1]))

    def _future_frames(
        self, codes: Array, keys: tuple[KeysValues, ...], last_frame_bhwc: Array, key: Array | None
    ) -> Array:
        """Frames [B, F, H, W, 3] of codes [B * F, n, D]."""
        side = self.config.grid // self.config.future_patch
        patches = self.future_from_code(codes).reshape(len(codes), side, side, -1)
        painted = self.future_decoder(from_patches(patches, self.config.future_patch), keys, key)
        painted_bfhwc = painted.reshape(len(last_frame_bhwc), -1, *painted.shape[1:])
        return painted_over(last_frame_bhwc[:, None], painted_bfhwc) if self.config.context_residual else painted_bfhwc

    def _context_tokens(self, indices: Array) -> Array:
        return indices.reshape(-1, self.config.context_frames, self.config.tokens_per_context)

    def _check_frames(self, frames: Array, count: int | None) -> None:
        chex.assert_shape(frames, (None, count, self.config.resolution, self.config.resolution, 3))
        chex.assert_type(frames, float)


def painted_over(frames_bfhwc: Array, painted_bfhwc: Array) -> Array:
    """Frames [B, 1 or F, H, W, 3] with what the future decoder painted [B, F, H, W, 3 colours + opacity] over them.

    If it added colours instead, the decoder would have to know, to the pixel, what to take away: on plate-slide the
    error on moving pixels was 0.056 after 600 steps, against 0.029.
    """
    colours, opacity = painted_bfhwc[..., :3] + GREY, jax.nn.sigmoid(painted_bfhwc[..., 3:] - CLEAR)
    return frames_bfhwc + opacity * (colours - frames_bfhwc)


def _moving_codes(codes_bfpd: Array, moving_bfp: Array) -> Array:
    """The codes of patches and, last, whether each moves: all zeros for one that is still."""
    return jnp.concatenate([codes_bfpd, jnp.ones_like(moving_bfp)[..., None]], axis=-1) * moving_bfp[..., None]


def _flat(frames_bthwc: Array) -> Array:
    return frames_bthwc.reshape(-1, *frames_bthwc.shape[2:])
