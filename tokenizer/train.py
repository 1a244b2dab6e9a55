"""Training as a pure function of configuration, state, frames and key."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from tokenizer import codebooks
from tokenizer.adversary import play_round
from tokenizer.config import TokenizerConfig
from tokenizer.discriminator import DiscriminatorState, init_discriminator
from tokenizer.losses import Outputs, all_frames, losses, mean_lpips
from tokenizer.model import CompressiveTokenizer, Reconstruction
from tokenizer.optimizer import OptimizerConfig, apply_updates, make_optimizer
from tokenizer.perceptual import PerceptualWeights
from tokenizer.published_discriminator import init_published
from tokenizer.quantize import perplexity, usage
from tokenizer.turns import learn_to_tell, own_optimizer, play_term
from tokenizer.types import Params


class TokenizerState(flax.struct.PyTreeNode):
    """Everything that training changes."""

    params: Params
    optimizer: optax.OptState
    step: Array  # int32: training steps done, each a piece of an update where gradients are accumulated
    idle: dict[str, Array]  # int32 [K] per codebook: training steps since each code was used; empty without restarts
    discriminator: DiscriminatorState | None = None  # None without adversarial_weight


@functools.cache
def _structure(config: TokenizerConfig) -> tuple[nnx.GraphDef[CompressiveTokenizer], Params]:
    model = nnx.eval_shape(lambda: CompressiveTokenizer(config, rngs=nnx.Rngs(0)))
    return nnx.split(model)


def abstract_params(config: TokenizerConfig) -> Params:
    """Shapes and dtypes of the parameters; allocates nothing."""
    return _structure(config)[1]


def merge(config: TokenizerConfig, params: Params) -> CompressiveTokenizer:
    """The tokenizer with these parameters. Cheap, also under jit: its structure is built once per config."""
    return nnx.merge(_structure(config)[0], params)


@functools.partial(jax.jit, static_argnames=("config", "optimizer"))
def init(config: TokenizerConfig, optimizer: OptimizerConfig, key: Array) -> TokenizerState:
    """A new tokenizer and its optimizer, from a random key."""
    params = nnx.split(CompressiveTokenizer(config, rngs=nnx.Rngs(key)))[1]
    return TokenizerState(
        params=params,
        optimizer=make_optimizer(optimizer).init(params),
        step=jnp.zeros((), jnp.int32),
        idle=codebooks.never_idle(config),
        discriminator=_discriminator(config, optimizer, jax.random.fold_in(key, 1)),
    )


def _discriminator(config: TokenizerConfig, optimizer: OptimizerConfig, key: Array) -> DiscriminatorState | None:
    if config.adversarial_weight == 0:
        return None
    return (
        init_published(own_optimizer(config, optimizer), key)
        if config.has_turns
        else init_discriminator(optimizer, key)
    )


@functools.partial(jax.jit, static_argnames=("config", "optimizer", "constrain_gradients"), donate_argnames="state")
def train_step(
    config: TokenizerConfig,
    optimizer: OptimizerConfig,
    state: TokenizerState,
    frames_bthwc: Array,
    key: Array,
    perceptual: PerceptualWeights | None = None,
    constrain_gradients: Callable[[Params], Params] | None = None,
) -> tuple[TokenizerState, dict[str, Array]]:
    """One update on segments, uint8 [B, T, H, W, 3] with T > C. The state is donated.

    perceptual: the weights of LPIPS; they never change. Raises ValueError if perceptual_weight is set without them.
    constrain_gradients: applied to the gradients, to say on which devices they lie where there are several.
    Returns the new state and scalar metrics: the loss, its terms, the gradient norm before clipping, and for both
    codebooks the number of codes used in this batch and their perplexity; with a discriminator also its loss, its mean
    logits of real and reconstructed frames and the adaptive weight (zeros before its first step).
    """
    _check(config, frames_bthwc, perceptual)
    sample_key, dropout_key, restart_key = jax.random.split(key, 3)
    context_bchwc, future_bfhwc = draw(config, frames_bthwc, sample_key)

    def reconstruct(params: Params) -> tuple[Outputs, dict[str, dict[str, Array]]]:
        reconstruction = merge(config, params).reconstruct(context_bchwc, future_bfhwc, dropout_key)
        return Outputs.of(reconstruction), _quantization(reconstruction)

    def objective(outputs: Outputs) -> tuple[Array, dict[str, Array]]:
        terms = losses(config, outputs, context_bchwc, future_bfhwc, perceptual)
        return cast(Array, sum(terms.values())), terms

    # Differentiated in two halves, so that the adversarial gradient can join, at its own weight, where they meet.
    outputs, pull_back, quantization = jax.vjp(reconstruct, state.params, has_aux=True)
    (loss, terms), by_outputs = jax.value_and_grad(objective, has_aux=True)(outputs)
    discriminator, adversarial = state.discriminator, {}
    if config.adversarial_weight > 0:
        assert discriminator is not None  # `init` makes one for such a config
        begun = state.step // optimizer.accumulate >= config.adversarial_start_step
        if config.has_turns:
            assert perceptual is not None  # checked above
            of_future = functools.partial(mean_lpips, config, perceptual, real_bthwc=future_bfhwc)
            played = play_term(config, discriminator, begun, outputs, of_future, pull_back)
        else:
            real_nhwc = all_frames(context_bchwc, future_bfhwc)
            played = play_round(config, optimizer, discriminator, begun, outputs, real_nhwc, by_outputs, pull_back)
        loss, by_outputs = loss + played.loss, jax.tree.map(jnp.add, by_outputs, played.gradient)
        discriminator, adversarial = played.state, {"adversarial": played.loss, **played.metrics}
    (gradients,) = pull_back(by_outputs)
    gradients = gradients if constrain_gradients is None else constrain_gradients(gradients)
    updates, optimizer_state = make_optimizer(optimizer).update(gradients, state.optimizer, state.params)
    params = apply_updates(state.params, updates)
    counts = {name: usage(part["indices"], codebooks.size(config, name)) for name, part in quantization.items()}
    if config.freeze_codebooks:
        # The gradient is zero, but moments from before the freeze are not.
        params = codebooks.copied(state.params, params)
    latents = {name: part["latents"] for name, part in quantization.items()}
    pieces = optimizer.accumulate
    params, idle = codebooks.restart(config, params, state.idle, counts, latents, restart_key, pieces)
    metrics = {"loss": loss, **terms, **adversarial, "gradient_norm": optax.tree.norm(gradients)}
    for name, counts_k in counts.items():
        metrics |= {f"{name}_codes_used": (counts_k > 0).sum(), f"{name}_perplexity": perplexity(counts_k)}
    return TokenizerState(params, optimizer_state, state.step + 1, idle, discriminator), metrics


@functools.partial(jax.jit, static_argnames=("config", "optimizer"), donate_argnames="state")
def discriminator_step(
    config: TokenizerConfig, optimizer: OptimizerConfig, state: TokenizerState, frames_bthwc: Array, key: Array
) -> tuple[TokenizerState, dict[str, Array]]:
    """The published discriminator's own turn on segments, uint8 [B, T, H, W, 3]; the tokenizer stays as it is.

    The state is donated. Returns also the loss and the mean logits of real and reconstructed frames.
    """
    assert state.discriminator is not None  # a config that has turns
    sample_key, dropout_key = jax.random.split(key)
    context_bchwc, future_bfhwc = draw(config, frames_bthwc, sample_key)
    made = merge(config, state.params).reconstruct(context_bchwc, future_bfhwc, dropout_key)
    fake_nhwc = jax.lax.stop_gradient(Outputs.of(made).frames())
    real_nhwc = all_frames(context_bchwc, future_bfhwc)
    discriminator, metrics = learn_to_tell(config, optimizer, state.discriminator, real_nhwc, fake_nhwc)
    return state.replace(discriminator=discriminator), metrics


def _quantization(reconstruction: Reconstruction) -> dict[str, dict[str, Array]]:
    return {
        "context": {"indices": reconstruction.context.indices, "latents": reconstruction.context_latents},
        "future": {"indices": reconstruction.future.indices, "latents": reconstruction.future_latents},
    }


def draw(config: TokenizerConfig, frames_bthwc: Array, key: Array) -> tuple[Array, Array]:
    """The context frames, and `future_sample` of the others in their order, chosen anew for each segment; float32.

    With shuffle_frames the context is any frames of the segment, and the others come in any order.
    """
    if config.shuffle_frames:
        shuffle_key, key = jax.random.split(key)
        order_bt = jnp.argsort(jax.random.uniform(shuffle_key, frames_bthwc.shape[:2]), axis=1)
        frames_bthwc = jnp.take_along_axis(frames_bthwc, order_bt[:, :, None, None, None], axis=1)
    context, future = jnp.split(frames_bthwc, [config.context_frames], axis=1)
    b, f = future.shape[:2]
    if config.future_sample is not None and config.future_sample < f:
        order_bf = jnp.argsort(jax.random.uniform(key, (b, f)), axis=1)
        chosen_bf = jnp.sort(order_bf[:, : config.future_sample], axis=1)
        future = jnp.take_along_axis(future, chosen_bf[:, :, None, None, None], axis=1)
    return to_float(context), to_float(future)


def to_float(frames: Array) -> Array:
    """Frames uint8 [0, 255] to float32 [0, 1]."""
    chex.assert_type(frames, jnp.uint8)
    return frames.astype(jnp.float32) / 255


def _check(config: TokenizerConfig, frames_bthwc: Array, perceptual: PerceptualWeights | None) -> None:
    if config.perceptual_weight > 0 and perceptual is None:
        raise ValueError(
            f"perceptual_weight is {config.perceptual_weight}, but no LPIPS weights were given: "
            "pass them as `perceptual`, or set perceptual_weight to 0"
        )
    chex.assert_shape(frames_bthwc, (None, None, config.resolution, config.resolution, 3))
    if frames_bthwc.shape[1] <= config.context_frames:
        raise ValueError(
            f"segments of {frames_bthwc.shape[1]} frames leave no future after {config.context_frames} context frames"
        )
