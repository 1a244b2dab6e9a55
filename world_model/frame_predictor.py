"""All tokens of a future frame at once, from the context's pixels and the actions since then.

An alternative to the published token after token (`TransformerConfig.decoding`). Each patch of a frame is a query that
begins with the pixels under its patch in the context frames, the place of the patch, the action, the sum of all actions
since the last context frame, and the number of the frame. It sees the context and the other queries of its frame, and
no other frame: a frame cannot be copied from the one before, and what has moved has to be worked out from the actions.
"""

from __future__ import annotations

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from tokenizer.layers import to_patches
from world_model.attention import attend, linear_without_bias, merge_heads, split_heads
from world_model.config import TransformerConfig
from world_model.layout import SequenceLayout
from world_model.reward_ensemble import RewardEnsemble
from world_model.transformer import FeedForward

ACTION_WIDTH = 128
"""Hidden units between the actions and the queries."""
SUM_SCALE, STEP_SCALE = 1 / 3, 1 / 10
"""Bring sums of actions and the number of a frame to about the size of an action."""
CHANGE_SCALE = 4.0
"""Changes between context frames are mostly small: enlarged, they weigh as much as the picture does."""


class FrameContext(flax.struct.PyTreeNode):
    """All that future frames need of the context; made once."""

    keys: tuple[Array, ...]  # one per layer: [B, heads, M, head size]
    values: tuple[Array, ...]
    pixels_bpd: Array  # float32 [B, patches, D]: the pixels under each patch


class Moved(flax.struct.PyTreeNode):
    """What has been done since the last context frame."""

    actions_bha: Array  # float32 [B, H, A]; zeros from the number of steps on
    steps: Array  # int32 []

    @classmethod
    def nothing(cls, batch: int, horizon: int, action_size: int) -> Moved:
        return cls(jnp.zeros((batch, horizon, action_size)), jnp.int32(0))

    def by(self, action_ba: Array) -> Moved:
        """And one action more."""
        return Moved(self.actions_bha.at[:, self.steps].set(action_ba), self.steps + 1)


class FrameAttention(nnx.Module):
    """Attention of a frame's queries to the context and to each other; of the context, to itself."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        linear = linear_without_bias(config, rngs)
        self.heads = config.heads
        self.qkv = linear(config.width, 3 * config.width)
        self.output = linear(config.width, config.width)

    def project(self, x_bld: Array) -> tuple[Array, Array, Array]:
        """Queries, keys and values [B, heads, L, head size]."""
        queries, keys, values = (split_heads(x, self.heads) for x in jnp.split(self.qkv(x_bld), 3, axis=-1))
        return queries, keys, values

    def __call__(self, x_bfnd: Array, context_keys: Array, context_values: Array) -> Array:
        """The mixed queries [B, F, n, D] of F frames that do not see each other."""
        b, f, n, d = x_bfnd.shape
        queries, keys, values = (x.reshape(b, f, self.heads, n, -1) for x in self.project(x_bfnd.reshape(b * f, n, d)))
        scale = queries.shape[-1] ** -0.5
        of_context = jnp.einsum("bfhqd,bhkd->bfhqk", queries, context_keys, preferred_element_type=jnp.float32)
        of_frame = jnp.einsum("bfhqd,bfhkd->bfhqk", queries, keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scale * jnp.concatenate([of_context, of_frame], axis=-1), axis=-1)
        to_context, to_frame = jnp.split(weights.astype(values.dtype), [context_keys.shape[2]], axis=-1)
        mixed = jnp.einsum("bfhqk,bhkd->bfhqd", to_context, context_values)
        mixed = mixed + jnp.einsum("bfhqk,bfhkd->bfhqd", to_frame, values)
        return self.output(merge_heads(mixed.reshape(b * f, self.heads, n, -1))).reshape(b, f, n, d)

    def within(self, x_bmd: Array) -> tuple[Array, Array, Array]:
        """The context's own mixture [B, M, D], and its keys and values."""
        queries, keys, values = self.project(x_bmd)
        mixed = attend(queries, keys, values, np.True_, 0.0, None)
        return self.output(merge_heads(mixed)), keys, values


class FrameBlock(nnx.Module):
    """Attention and feed-forward, each behind an RMSNorm and added to the stream."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.config = config
        if config.action_modulation:
            zeros = nnx.initializers.zeros_init()
            self.modulation = nnx.Linear(ACTION_WIDTH, 4 * config.width, kernel_init=zeros, rngs=rngs)
        self.attention_norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.attention = FrameAttention(config, rngs=rngs)
        self.feed_forward_norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.feed_forward = FeedForward(config, rngs=rngs)

    def __call__(self, x_bfnd: Array, keys: Array, values: Array, asked_bfd: Array) -> Array:
        """asked_bfd: the hidden units of the actions, which modulate what is read where the config says so."""
        changes = (None, None)
        if self.config.action_modulation:
            changes = jnp.split(self.modulation(asked_bfd)[:, :, None], 2, axis=-1)
        x_bfnd = x_bfnd + self.attention(_modulated(self.attention_norm(x_bfnd), changes[0]), keys, values)
        return x_bfnd + self.feed_forward(_modulated(self.feed_forward_norm(x_bfnd), changes[1]))

    def within(self, x_bmd: Array) -> tuple[Array, Array, Array]:
        """The context's stream [B, M, D], and the keys and values that frames attend to."""
        mixed, keys, values = self.attention.within(self.attention_norm(x_bmd))
        x_bmd = x_bmd + mixed
        return x_bmd + self.feed_forward(self.feed_forward_norm(x_bmd)), keys, values


def _modulated(x_bfnd: Array, change_bfnd: Array | None) -> Array:
    """Scaled by one half of the change and shifted by the other; as it is without any."""
    if change_bfnd is None:
        return x_bfnd
    scale, shift = jnp.split(change_bfnd, 2, axis=-1)
    return x_bfnd * (1 + scale) + shift


class FramePredictor(nnx.Module):
    """Context frames and actions to the tokens and the reward of each future frame."""

    def __init__(self, config: TransformerConfig, layout: SequenceLayout, *, rngs: nnx.Rngs):
        normal, zeros = nnx.initializers.normal(config.initial_std), nnx.initializers.zeros_init()
        self.config, self.layout = config, layout
        linear = functools.partial(nnx.Linear, kernel_init=normal, rngs=rngs)
        colours = 3 * (2 * layout.context_frames - 1)
        if config.context_tokens:
            self.context_pixels = linear(colours * layout.context_patch**2, config.width)
            self.context_place = nnx.Embed(layout.tokens_per_context, config.width, embedding_init=normal, rngs=rngs)
        self.token_pixels = linear(colours * layout.future_patch**2, config.width)
        self.token_place = nnx.Embed(layout.patches, config.width, embedding_init=normal, rngs=rngs)
        self.step = nnx.Linear(1, ACTION_WIDTH, kernel_init=nnx.initializers.normal(0.3), rngs=rngs)
        if config.action_size:
            spread = nnx.initializers.normal(0.3)
            unbiased = functools.partial(nnx.Linear, use_bias=False, kernel_init=spread, rngs=rngs)
            self.action = unbiased(config.action_size, ACTION_WIDTH)
            self.displacement = unbiased(config.action_size, ACTION_WIDTH)
            if config.action_history:
                self.history = unbiased(config.action_size * config.action_history, ACTION_WIDTH)
        self.action_output = nnx.Linear(ACTION_WIDTH, config.width, kernel_init=zeros, rngs=rngs)
        self.blocks = nnx.List([FrameBlock(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.head = nnx.Linear(
            config.width,
            layout.future_groups * layout.future_codes,
            use_bias=False,
            kernel_init=normal,
            dtype=config.compute_dtype,
            preferred_element_type=jnp.float32,
            rngs=rngs,
        )
        if config.reward_head:
            self.reward = nnx.Linear(config.width, config.reward_outputs, kernel_init=normal, rngs=rngs)
        if config.reward_networks:
            self.reward_ensemble = RewardEnsemble(config, rngs=rngs)

    def begin(self, frames_bchwc: Array) -> FrameContext:
        """What F frames need of the context, float32 [B, C, H, W, 3] in [0, 1]."""
        changes = CHANGE_SCALE * (frames_bchwc[:, -1:] - frames_bchwc[:, :-1])
        stacked = jnp.concatenate([frames_bchwc - 0.5, changes], axis=1)
        b, s, h, w, c = stacked.shape
        picture_bhwk = stacked.transpose(0, 2, 3, 1, 4).reshape(b, h, w, s * c)
        keys, values = self._context_keys(picture_bhwk)
        pixels = self.token_pixels(_patches(picture_bhwk, self.layout.future_patch))
        return FrameContext(keys, values, pixels + self.token_place.embedding[...])

    def _context_keys(self, picture_bhwk: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Keys and values of the context's patches in each block; of none, where these are not to be seen."""
        if not self.config.context_tokens:
            none = jnp.zeros((len(picture_bhwk), self.config.heads, 0, self.config.head_size))
            return (none,) * len(self.blocks), (none,) * len(self.blocks)
        x = self.context_pixels(_patches(picture_bhwk, self.layout.context_patch))
        x = x + self.context_place.embedding[...]
        keys: list[Array] = []
        values: list[Array] = []
        for block in self.blocks:
            x, layer_keys, layer_values = block.within(x)
            keys.append(layer_keys)
            values.append(layer_values)
        return tuple(keys), tuple(values)

    def __call__(self, context: FrameContext, actions_bfha: Array, steps_bf: Array) -> Array:
        """Hidden states [B, F, patches, D] of F frames, each `steps_bf` frames (from 1) after the last context frame.

        actions_bfha: all actions since the context that lead to each frame, zeros after its own.
        """
        hidden = nnx.silu(self._asked(actions_bfha, steps_bf))
        x = context.pixels_bpd[:, None] + self.action_output(hidden)[:, :, None]
        for block, keys, values in zip(self.blocks, context.keys, context.values, strict=True):
            x = block(x, keys, values, hidden)
        return self.norm(x)

    def _asked(self, actions_bfha: Array, steps_bf: Array) -> Array:
        """What is done and when, [B, F, ACTION_WIDTH]."""
        asked = self.step(STEP_SCALE * steps_bf[..., None].astype(jnp.float32))
        if not self.config.action_size:
            return asked
        own_bfa = jnp.take_along_axis(actions_bfha, steps_bf[..., None, None] - 1, axis=2)[:, :, 0]
        asked = asked + self.action(own_bfa) + self.displacement(SUM_SCALE * actions_bfha.sum(axis=2))
        if not self.config.action_history:
            return asked
        # Number by number of an action, so that more of them are new rows behind the others.
        seen = actions_bfha[:, :, : self.config.action_history].swapaxes(-1, -2)
        missing = self.config.action_history - seen.shape[-1]
        seen = jnp.pad(seen, ((0, 0), (0, 0), (0, 0), (0, missing)))
        return asked + self.history(seen.reshape(*steps_bf.shape, -1))

    def logits(self, hidden_bfpd: Array) -> Array:
        """Of the codes of each token: [B, F, n, K]; the tokens of a patch follow each other."""
        b, f = hidden_bfpd.shape[:2]
        return self.head(hidden_bfpd).reshape(b, f, self.layout.tokens_per_future, self.layout.future_codes)

    def reward_outputs(self, hidden_bfpd: Array) -> Array:
        """What the reward head says of each frame, [B, F, 1 or bins]: see world_model.rewards."""
        return self.reward(self.reward_features(hidden_bfpd))

    def reward_features(self, hidden_bfpd: Array) -> Array:
        """What rewards are read from: [B, F, D]."""
        return hidden_bfpd.mean(axis=2)

    def reward_spread(self, hidden_bfpd: Array) -> Array | None:
        """How unsure these rewards are, [B, F] in their own units; None without an ensemble."""
        if not self.config.reward_networks:
            return None
        return self.reward_ensemble.spread(self.reward_features(hidden_bfpd))


def _patches(picture_bhwk: Array, side: int) -> Array:
    """[B, patches, D]: flattened square patches, row by row."""
    patches = to_patches(picture_bhwk, side)
    return patches.reshape(len(patches), -1, patches.shape[-1])
