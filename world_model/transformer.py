"""The autoregressive transformer over frame tokens: a LLaMA with action slots and a reward head (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from world_model.attention import Cache, SelfAttention, linear_without_bias, rotary_table
from world_model.config import TransformerConfig
from world_model.layout import SequenceLayout
from world_model.reward_ensemble import RewardEnsemble


class FeedForward(nnx.Module):
    """SwiGLU. The gate and the value are one matrix [D, 2 feed_forward], in this order."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        linear = linear_without_bias(config, rngs)
        self.gate_and_up = linear(config.width, 2 * config.feed_forward)
        self.down = linear(config.feed_forward, config.width)

    def __call__(self, x_bld: Array) -> Array:
        gate, up = jnp.split(self.gate_and_up(x_bld), 2, axis=-1)
        return self.down(nnx.silu(gate) * up)


class Block(nnx.Module):
    """Self-attention and feed-forward, each behind an RMSNorm and added to the stream."""

    def __init__(self, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.attention_norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.attention = SelfAttention(config, rngs=rngs)
        self.feed_forward_norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.feed_forward = FeedForward(config, rngs=rngs)

    def __call__(
        self, x_bld: Array, table_2ld: Array, first: int = 0, key: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """The stream from position `first` on, and the keys and values of all positions."""
        mixed, keys, values = self.attention(self.attention_norm(x_bld), table_2ld, first, key)
        x_bld = x_bld[:, first:] + mixed
        return x_bld + self.feed_forward(self.feed_forward_norm(x_bld)), keys, values

    def step(
        self, x_b1d: Array, table_21d: Array, keys_bhkd: Array, values_bhkd: Array, position: Array
    ) -> tuple[Array, Array, Array]:
        """One token against the cache: the stream [B, 1, D] and the updated keys and values."""
        normed = self.attention_norm(x_b1d)
        mixed, keys, values = self.attention.step(normed, table_21d, keys_bhkd, values_bhkd, position)
        x_b1d = x_b1d + mixed
        return x_b1d + self.feed_forward(self.feed_forward_norm(x_b1d)), keys, values


class Transformer(nnx.Module):
    """Works on embeddings, so that an action can be added to the slot that opens a frame.

    What is not needed is not computed: the last layer's output only from a given position on, and of the context that
    fills a cache, only its keys and values.
    """

    def __init__(self, config: TransformerConfig, layout: SequenceLayout, *, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(config.initial_std)
        self.config, self.layout = config, layout
        self.embedding = nnx.Embed(layout.vocabulary, config.width, embedding_init=normal, rngs=rngs)
        self.blocks = nnx.List([Block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = nnx.RMSNorm(config.width, epsilon=config.norm_epsilon, rngs=rngs)
        self.head = nnx.Linear(
            config.width,
            layout.vocabulary,
            use_bias=False,
            kernel_init=normal,
            dtype=config.compute_dtype,
            preferred_element_type=jnp.float32,
            rngs=rngs,
        )
        zeros = nnx.initializers.zeros_init()
        if config.place_embedding:
            self.place = nnx.Embed(layout.places, config.width, embedding_init=zeros, rngs=rngs)
        if config.action_size:
            self.action = nnx.Linear(config.action_size, config.width, kernel_init=zeros, rngs=rngs)
        if config.action_head:
            self.action_recon = nnx.Linear(config.width, config.action_size, kernel_init=normal, rngs=rngs)
        if config.reward_head:
            self.reward = nnx.Linear(config.width, config.reward_outputs, kernel_init=normal, rngs=rngs)
        if config.reward_networks:
            self.reward_ensemble = RewardEnsemble(config, rngs=rngs)

    def embed(self, tokens_bl: Array) -> Array:
        """Embeddings [B, L, D] of vocabulary ids."""
        return self.embedding(tokens_bl)

    def act(self, slots_bfd: Array, actions_bfa: Array | None) -> Array:
        """Add the actions that lead to the frames to the embeddings of the slots that open them, both [B, F, .].

        Without an action layer the slots stay as they are, whatever the actions.
        """
        if not self.config.action_size:
            return slots_bfd
        assert actions_bfa is not None
        chex.assert_shape(actions_bfa, (*slots_bfd.shape[:2], self.config.action_size))
        return slots_bfd + self.action(actions_bfa)

    def __call__(self, embeddings_bld: Array, first: int = 0, key: Array | None = None) -> Array:
        """The last hidden states [B, L - first, D] from position `first` on. A key turns dropout on."""
        table = jnp.asarray(rotary_table(self.config, embeddings_bld.shape[1]))
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        x = self._add_place(embeddings_bld, jnp.arange(embeddings_bld.shape[1]))
        for index, (block, block_key) in enumerate(zip(self.blocks, keys, strict=True)):
            call = jax.checkpoint(block, static_argnums=2) if self.config.recompute else block
            x, _, _ = call(x, table, first if index == len(self.blocks) - 1 else 0, block_key)
        return self.norm(x)

    def prefill(self, embeddings_bld: Array, positions: int) -> Cache:
        """A cache with room for `positions` tokens, filled with the given ones."""
        length = embeddings_bld.shape[1]
        table = jnp.asarray(rotary_table(self.config, length))
        x, cached = self._add_place(embeddings_bld, jnp.arange(length)), []
        for block in self.blocks[:-1]:
            x, keys, values = block(x, table)
            cached.append((keys, values))
        last = self.blocks[-1]
        cached.append(last.attention.keys_and_values(last.attention_norm(x), table))
        room = ((0, 0), (0, 0), (0, positions - length), (0, 0))
        keys, values = (tuple(jnp.pad(layer, room) for layer in side) for side in zip(*cached, strict=True))
        return Cache(keys, values, jnp.int32(length))

    def step(self, embedding_bd: Array, cache: Cache) -> tuple[Array, Cache]:
        """The last hidden state [B, D] of one more token, and the cache with it."""
        table = jnp.asarray(rotary_table(self.config, cache.positions))
        here = jax.lax.dynamic_slice_in_dim(table, cache.length, 1, axis=1)
        x, keys, values = self._add_place(embedding_bd[:, None], cache.length[None]), [], []
        for block, layer_keys, layer_values in zip(self.blocks, cache.keys, cache.values, strict=True):
            x, layer_keys, layer_values = block.step(x, here, layer_keys, layer_values, cache.length)
            keys.append(layer_keys)
            values.append(layer_values)
        return self.norm(x)[:, 0], Cache(tuple(keys), tuple(values), cache.length + 1)

    def _add_place(self, embeddings_bld: Array, positions_l: Array) -> Array:
        return (
            embeddings_bld + self.place(self.layout.place(positions_l))
            if self.config.place_embedding
            else embeddings_bld
        )

    def head_of(self, ids: slice) -> Callable[[Array], Array]:
        """`head` for some of the vocabulary only: hidden states [..., D] to logits [..., ids], float32."""
        kernel = self.head.kernel[:, ids].astype(self.head.dtype)
        return lambda hidden: jnp.matmul(hidden.astype(kernel.dtype), kernel, preferred_element_type=jnp.float32)

    def actions(self, hidden_bld: Array) -> Array:
        """The actions [B, L, A] that an action head reads back from hidden states."""
        return self.action_recon(hidden_bld)

    def reward_outputs(self, hidden_bfd: Array) -> Array:
        """What the reward head says of frames, [B, F, 1 or bins] (see world_model.rewards), from the hidden states of
        their last tokens."""
        return self.reward(hidden_bfd)

    def reward_spread(self, hidden_bfd: Array) -> Array | None:
        """How unsure these rewards are, [B, F] in their own units; None without an ensemble."""
        return self.reward_ensemble.spread(hidden_bfd) if self.config.reward_networks else None
