"""Training as pure functions of configuration, state, segments and key (paper sections 3.2 and 4.2)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

import tokenizer
from tokenizer import TokenizerState, make_optimizer
from tokenizer.optimizer import apply_updates
from tokenizer.types import Params
from world_model import transformer
from world_model.config import WorldModelConfig
from world_model.params import WorldModelParams
from world_model.scoring import future_hidden, reward_of, tokens_of
from world_model.symlog import symlog


class TransformerState(flax.struct.PyTreeNode):
    """Everything that training the transformer changes."""

    params: Params
    optimizer: optax.OptState
    step: Array  # int32: updates done


class WorldModelState(flax.struct.PyTreeNode):
    """Both parts; each is trained by its own step."""

    tokenizer: TokenizerState
    transformer: TransformerState

    @property
    def params(self) -> WorldModelParams:
        return WorldModelParams(self.tokenizer.params, self.transformer.params)

    def with_params(self, params: WorldModelParams) -> WorldModelState:
        """Other weights, copied since training donates its state; optimizers and counters stay."""
        copied = jax.tree.map(jnp.copy, params)
        return WorldModelState(
            self.tokenizer.replace(params=copied.tokenizer), self.transformer.replace(params=copied.transformer)
        )


def init(config: WorldModelConfig, key: Array) -> WorldModelState:
    """A new world model, from a random key."""
    tokenizer_key, transformer_key = jax.random.split(key)
    return WorldModelState(
        tokenizer.init(config.tokenizer, config.tokenizer_optimizer, tokenizer_key),
        init_transformer(config, transformer_key),
    )


@functools.partial(jax.jit, static_argnames="config")
def init_transformer(config: WorldModelConfig, key: Array) -> TransformerState:
    """A new transformer and its optimizer."""
    params = transformer.init_params(config.transformer, config.layout, key)
    return TransformerState(params, make_optimizer(config.transformer_optimizer).init(params), jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, static_argnames=("config", "constrain_gradients"), donate_argnames="state")
def transformer_train_step(
    config: WorldModelConfig,
    state: TransformerState,
    tokenizer_params: Params,
    frames_bthwc: Array,
    actions_bta: Array | None,
    rewards_bt: Array | None,
    key: Array,
    constrain_gradients: Callable[[Params], Params] | None = None,
) -> tuple[TransformerState, dict[str, Array]]:
    """One update on segments; the state is donated, the tokenizer stays as it is.

    frames_bthwc: uint8 [B, T, H, W, 3] in the order of time, also with a goal, which is the last.
    actions_bta: [B, T or T - 1, A] in [-1, 1], unused without an action layer.
    rewards_bt: [B, T] of arriving at each frame, in their own units, unused without a reward head.
    constrain_gradients: applied to the gradients, to say on which devices they lie where there are several.
    Returns the new state and scalar metrics: those of `losses`, the loss and the gradient norm before clipping.
    """
    config.check_horizon(frames_bthwc.shape[1] - config.layout.context_frames)
    tokens_bl = tokens_of(config.layout, tokenizer.merge(config.tokenizer, tokenizer_params), frames_bthwc)
    return token_train_step(config, state, tokens_bl, actions_bta, rewards_bt, key, constrain_gradients)


@functools.partial(jax.jit, static_argnames=("config", "constrain_gradients"), donate_argnames="state")
def token_train_step(
    config: WorldModelConfig,
    state: TransformerState,
    tokens_bl: Array,
    actions_bta: Array | None,
    rewards_bt: Array | None,
    key: Array,
    constrain_gradients: Callable[[Params], Params] | None = None,
) -> tuple[TransformerState, dict[str, Array]]:
    """`transformer_train_step` on segments that are tokenized already: int32 [B, L], as `tokenize` gives them."""
    config.check_horizon(config.layout.future_frames(tokens_bl.shape[1]))

    def objective(params: Params) -> tuple[Array, dict[str, Array]]:
        metrics = losses(config, params, tokens_bl, actions_bta, rewards_bt, key)
        return metrics["cross_entropy"] + config.reward_weight * metrics.get("reward_loss", 0.0), metrics

    (loss, metrics), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
    gradients = gradients if constrain_gradients is None else constrain_gradients(gradients)
    updates, optimizer = make_optimizer(config.transformer_optimizer).update(gradients, state.optimizer, state.params)
    metrics = {"loss": loss, **metrics, "gradient_norm": optax.tree.norm(gradients)}
    return TransformerState(apply_updates(state.params, updates), optimizer, state.step + 1), metrics


def losses(
    config: WorldModelConfig,
    params: Params,
    tokens_bl: Array,
    actions_bta: Array | None,
    rewards_bt: Array | None,
    key: Array | None,
) -> dict[str, Array]:
    """Scalars: `cross_entropy` over everything after the first [S2], `token_accuracy` over the frames' own tokens.

    With a reward head also `reward_loss`, the squared error of symlog rewards (paper equation 7). A key turns dropout
    on.
    """
    layout = config.layout
    model = transformer.merge(config.transformer, layout, params)
    seen_bl = tokens_bl if key is None else _with_masked_frames(config, tokens_bl, jax.random.fold_in(key, 1))
    hidden_bld = future_hidden(layout, model, seen_bl, actions_bta, key)
    # Each hidden state predicts the next token; the last one of the segment has none to predict.
    labels = layout.labels(tokens_bl)[:, layout.context_length + 1 :]
    logits = model.head(hidden_bld[:, :-1])
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    frame_tokens = labels != layout.future_slot
    metrics = {
        "cross_entropy": jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen),
        "token_accuracy": jnp.mean(chosen >= logits.max(-1), where=frame_tokens),
    }
    if config.transformer.reward_head:
        assert rewards_bt is not None  # a reward head learns from data with rewards
        predicted = reward_of(layout, model, hidden_bld)
        target = symlog(layout.future_rewards(rewards_bt))
        chex.assert_equal_shape([predicted, target])
        metrics["reward_loss"] = jnp.mean(jnp.square(predicted - target))
    return metrics


def _with_masked_frames(config: WorldModelConfig, tokens_bl: Array, key: Array) -> Array:
    """What the transformer sees of a batch: some segments lack some future frames, from none to all of them.

    A step moves the arm by about a pixel, so that repeating the last frame's codes is nearly right, and a young model
    settles there and ignores the actions. What it cannot repeat, it has to work out from all actions so far.
    """
    if not config.frame_masking:
        return tokens_bl
    rate_key, frame_key = jax.random.split(key)
    shape = (len(tokens_bl), config.layout.future_frames(tokens_bl.shape[1]))
    rate_b1 = config.frame_masking * jax.random.uniform(rate_key, (shape[0], 1))
    return config.layout.hide_frames(tokens_bl, jax.random.uniform(frame_key, shape) < rate_b1)
