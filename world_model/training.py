"""Training as pure functions of configuration, state, segments and key (paper sections 3.2 and 4.2)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array

import tokenizer
from tokenizer import CompressiveTokenizer, Context, TokenizerState, make_optimizer
from tokenizer.optimizer import apply_updates
from tokenizer.types import Params
from world_model import modules
from world_model.config import WorldModelConfig
from world_model.frames import to_float
from world_model.low_rank import low_rank
from world_model.params import WorldModelParams
from world_model.rewards import reward_loss
from world_model.scoring import future_hidden, hidden_of_frames, reward_features, score, tokens_of
from world_model.transformer import Transformer


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
    params = modules.init_params(config.transformer, config.layout, key)
    return TransformerState(params, optimizer_of(config).init(params), jnp.zeros((), jnp.int32))


def optimizer_of(config: WorldModelConfig) -> optax.GradientTransformation:
    """The transformer's."""
    if config.lora_rank is None:
        return make_optimizer(config.transformer_optimizer)
    return low_rank(config.lora_rank, config.lora_alpha, config.transformer_optimizer)


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
    part = tokenizer.merge(config.tokenizer, tokenizer_params)
    if config.transformer.decoding == "tokens":
        tokens_bl = tokens_of(config.layout, part, frames_bthwc)
        return token_train_step(config, state, tokens_bl, actions_bta, rewards_bt, key, constrain_gradients)
    of = frame_targets(config, part, frames_bthwc, draw_frames(config, frames_bthwc.shape, key))
    return _update(
        config,
        state,
        lambda params: frame_losses(config, params, part, of, actions_bta, rewards_bt),
        constrain_gradients,
    )


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
    if config.transformer.decoding == "frames":
        raise ValueError("a model that decodes frames learns from pixels, which tokens alone do not have")
    return _update(
        config,
        state,
        lambda params: losses(config, params, tokens_bl, actions_bta, rewards_bt, key),
        constrain_gradients,
    )


def _update(
    config: WorldModelConfig,
    state: TransformerState,
    measure: Callable[[Params], dict[str, Array]],
    constrain_gradients: Callable[[Params], Params] | None,
) -> tuple[TransformerState, dict[str, Array]]:
    """One step down the loss that `measure` returns with other metrics."""

    def objective(params: Params) -> tuple[Array, dict[str, Array]]:
        metrics = measure(params)
        return _total(config, metrics), metrics

    (loss, metrics), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
    gradients = gradients if constrain_gradients is None else constrain_gradients(gradients)
    updates, optimizer = optimizer_of(config).update(gradients, state.optimizer, state.params)
    metrics = {"loss": loss, **metrics, "gradient_norm": optax.tree.norm(gradients)}
    return TransformerState(apply_updates(state.params, updates), optimizer, state.step + 1), metrics


ENSEMBLE_WEIGHT = 0.01
"""Of the reward ensemble's loss. Adam takes the same steps whatever it is, and what is so small hardly counts in the
norm to which all gradients are clipped together: the rest learns as without an ensemble."""


def _total(config: WorldModelConfig, metrics: dict[str, Array]) -> Array:
    """The loss that metrics add up to."""
    rewards = config.reward_weight * metrics.get("reward_loss", 0.0)
    rewards += ENSEMBLE_WEIGHT * metrics.get("reward_ensemble_loss", 0.0)
    rewards += config.action_weight * metrics.get("action_loss", 0.0)
    return metrics["cross_entropy"] + rewards + config.pixel_weight * metrics.get("pixel_loss", 0.0)


def draw_frames(config: WorldModelConfig, shape: tuple[int, ...], key: Array) -> Array:
    """Numbers (from 0) of the future frames [B, S] that a step learns from, ascending, another choice per segment.

    shape: that of the segments, [B, T, ...].
    """
    b, future_frames = shape[0], shape[1] - config.layout.context_frames
    order = jnp.argsort(jax.random.uniform(key, (b, future_frames)), axis=1)
    return jnp.sort(order[:, : config.frame_sample or future_frames], axis=1)


class FrameTargets(NamedTuple):
    """What a frame predictor starts from and learns to predict: S of the future frames of each segment."""

    context_bchwc: Array  # float32 in [0, 1]
    context: Context
    frames_bs: Array  # int32: the numbers of the frames, from 0
    future_bshwc: Array  # float32 in [0, 1]
    codes_bsn: Array  # int32


def frame_targets(
    config: WorldModelConfig, part: CompressiveTokenizer, frames_bthwc: Array, frames_bs: Array
) -> FrameTargets:
    """Of segments uint8 [B, T, H, W, 3]: the context, and the future frames with the numbers `frames_bs`."""
    count = config.layout.context_frames
    context_bchwc = to_float(frames_bthwc[:, :count])
    future = jnp.take_along_axis(frames_bthwc[:, count:], frames_bs[:, :, None, None, None], axis=1)
    context, future_bshwc = part.encode_context(context_bchwc), to_float(future)
    return FrameTargets(context_bchwc, context, frames_bs, future_bshwc, part.encode_future(future_bshwc, context))


def frame_losses(
    config: WorldModelConfig,
    params: Params,
    part: CompressiveTokenizer,
    of: FrameTargets,
    actions_bta: Array | None,
    rewards_bt: Array | None,
) -> dict[str, Array]:
    """As `losses`, of a frame predictor. With a pixel_weight also `pixel_loss`: the squared error of the frames that
    the tokenizer, which does not learn here, paints with the mean of the predicted codes."""
    layout = config.layout
    model = modules.merge_predictor(config.transformer, layout, params)
    hidden = hidden_of_frames(layout, model, of.context_bchwc, actions_bta, of.frames_bs)
    logits = model.logits(hidden)
    chosen = jnp.take_along_axis(logits, of.codes_bsn[..., None], axis=-1)[..., 0]
    metrics = {
        "cross_entropy": jnp.mean(jax.nn.logsumexp(logits, axis=-1) - chosen),
        "token_accuracy": jnp.mean(chosen >= logits.max(-1)),
    }
    if config.pixel_weight:
        painted = part.decode_mean(jax.nn.softmax(logits, axis=-1), of.context)
        metrics["pixel_loss"] = jnp.mean(jnp.square(painted - of.future_bshwc))
    if config.transformer.reward_head:
        assert rewards_bt is not None
        rewards_bs = jnp.take_along_axis(layout.future_rewards(rewards_bt), of.frames_bs, axis=1)
        metrics["reward_loss"] = reward_loss(model.reward_outputs(hidden), rewards_bs)
        if config.transformer.reward_networks:
            features = model.reward_features(hidden)
            metrics["reward_ensemble_loss"] = model.reward_ensemble.loss(features, rewards_bs)
    return metrics


def segment_metrics(
    config: WorldModelConfig,
    params: WorldModelParams,
    frames_bthwc: Array,
    actions_bta: Array | None,
    rewards_bt: Array | None,
    top_k: int,
) -> dict[str, Array]:
    """What `losses` or `frame_losses` measure of whole segments, the loss itself, and how often the right token is
    among the `top_k` likeliest. Nothing is drawn."""
    layout, part = config.layout, tokenizer.merge(config.tokenizer, params.tokenizer)
    tokens_bl = tokens_of(layout, part, frames_bthwc)
    context_bchwc = to_float(layout.arrange(frames_bthwc)[:, : layout.context_frames])
    if config.transformer.decoding == "frames":
        shape = len(frames_bthwc), layout.future_frames(tokens_bl.shape[1])
        of = frame_targets(config, part, frames_bthwc, jnp.broadcast_to(jnp.arange(shape[1]), shape))
        metrics = frame_losses(config, params.transformer, part, of, actions_bta, rewards_bt)
    else:
        metrics = losses(config, params.transformer, tokens_bl, actions_bta, rewards_bt, None)
    logits, _ = score(config, params, tokens_bl, actions_bta, context_bchwc)
    labels = layout.labels(tokens_bl)[:, layout.context_length + 1 :]
    chosen = jnp.take_along_axis(logits[:, :-1], labels[..., None], axis=-1)
    above = (logits[:, :-1] > chosen).sum(-1)
    among = jnp.mean(above < top_k, where=labels != layout.future_slot)
    return {"loss": _total(config, metrics), **metrics, f"token_accuracy_top_{top_k}": among}


def losses(
    config: WorldModelConfig,
    params: Params,
    tokens_bl: Array,
    actions_bta: Array | None,
    rewards_bt: Array | None,
    key: Array | None,
) -> dict[str, Array]:
    """Scalars: `cross_entropy` over everything after the first [S2], `token_accuracy` over the frames' own tokens.

    With a reward head also `reward_loss`, by default the squared error of symlog rewards (paper equation 7), and with
    an ensemble `reward_ensemble_loss`. A key turns dropout on.
    """
    layout = config.layout
    model = modules.merge_transformer(config.transformer, layout, params)
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
    if config.transformer.action_head:
        metrics["action_loss"] = _action_loss(config, model, hidden_bld, actions_bta)
    if config.transformer.reward_head:
        assert rewards_bt is not None  # a reward head learns from data with rewards
        features, rewards_bf = reward_features(layout, hidden_bld), layout.future_rewards(rewards_bt)
        chex.assert_equal_shape_prefix([features, rewards_bf], 2)
        metrics["reward_loss"] = reward_loss(model.reward_outputs(features), rewards_bf)
        if config.transformer.reward_networks:
            metrics["reward_ensemble_loss"] = model.reward_ensemble.loss(features, rewards_bf)
    return metrics


def _action_loss(config: WorldModelConfig, model: Transformer, hidden_bld: Array, actions_bta: Array | None) -> Array:
    """Squared error of the actions read back from the slot and every token of the frame that each led to."""
    layout = config.layout
    assert actions_bta is not None  # an action head belongs to a model with actions
    future_frames = hidden_bld.shape[1] // layout.frame_length
    read_bfna = model.actions(hidden_bld).reshape(len(hidden_bld), future_frames, layout.frame_length, -1)
    return jnp.mean(jnp.square(read_bfna - layout.future_actions(actions_bta, future_frames)[:, :, None]))


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
