"""The published discriminator against its definition, and what else of the published training is an option."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer import (
    OptimizerConfig,
    PerceptualWeights,
    TokenizerConfig,
    codebooks,
    discriminator_step,
    init,
    train_step,
)
from tokenizer.initial import DeferredInit
from tokenizer.losses import Outputs, losses
from tokenizer.optimizer import make_optimizer
from tokenizer.published_discriminator import (
    SpectralConvolution,
    init_published,
    instance_norm,
    published_logits,
    published_loss,
)
from tokenizer.train import draw
from tokenizer.turns import own_optimizer, play_term

CONFIG = TokenizerConfig(
    resolution=24, context_frames=1, channels=(8,), norm_groups=2, layers_per_block=1, mid_layers=0,
    future_mid_attention=False, latent_channels=4, stem_patch=4, future_patch=2, context_codes=12, future_codes=10,
    attention_heads=2, future_sample=1, adversarial_weight=0.8, adversarial_start_step=1, discriminator_rate=3e-3,
)  # fmt: skip
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, accumulate=2)


def narrow_perceptual():
    """Weights in LPIPS's structure, narrow and random."""
    rng, blocks, inputs = np.random.default_rng(0), [], 3
    for _ in range(5):
        blocks.append(((jnp.asarray(rng.normal(size=(3, 3, inputs, 4)), jnp.float32), jnp.zeros(4)),))
        inputs = 4
    return PerceptualWeights(tuple(blocks), tuple(jnp.ones(4) for _ in blocks))


def test_it_has_a_logit_for_every_16_by_16_pixels_and_judges_a_frame_by_itself():
    state = init_published(OPTIMIZER, jax.random.key(0))
    frames = jax.random.uniform(jax.random.key(1), (2, 64, 64, 3))
    logits_of = jax.jit(published_logits)
    logits, _ = logits_of(state.params, state.directions, frames)
    alone, _ = logits_of(state.params, state.directions, frames[1:])
    assert logits.shape == (2, 4, 4)
    np.testing.assert_allclose(logits[1:], alone, atol=1e-4)
    assert len(state.directions) == 4


def test_spectral_norm_divides_a_kernel_by_its_largest_singular_value():
    deferred = DeferredInit()
    convolution = SpectralConvolution(2, 3, deferred=deferred)
    deferred.fill(jax.random.key(0))
    kernel, frames = np.asarray(convolution.kernel[...]), jax.random.normal(jax.random.key(1), (1, 4, 4, 2))
    once_more = jax.jit(lambda direction: convolution(frames, direction))
    direction = jnp.array([1.0, 0.0, 0.0])
    for _ in range(60):
        made, direction = once_more(direction)
    largest = np.linalg.svd(kernel.reshape(18, 3), compute_uv=False)[0]
    numbers = ("NHWC", "HWIO", "NHWC")
    plain = jax.lax.conv_general_dilated(frames, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=numbers)
    np.testing.assert_allclose(made, plain / largest, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(kernel.reshape(18, 3) @ direction), largest, rtol=1e-3)


def test_instance_norm_is_that_of_each_channel_of_each_frame():
    x = np.random.default_rng(0).normal(3, 2, (2, 5, 4, 3)).astype(np.float32)
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    np.testing.assert_allclose(instance_norm(jnp.asarray(x)), (x - mean) / np.sqrt(variance + 1e-5), atol=1e-5)


def test_the_hinge_loss_is_not_halved():
    real, fake = jnp.array([[2.0, 0.5], [-1.0, 1.0]]), jnp.array([[-2.0, 0.0], [0.5, -1.0]])
    np.testing.assert_allclose(published_loss(real, fake), 2.5 / 4 + 2.5 / 4)


def outputs_of(value=0.5):
    frames = jnp.full((1, 1, 32, 32, 3), value)
    return Outputs(frames, frames, jnp.zeros(()), jnp.zeros(()), jnp.zeros((1, 1, 4)))


def test_the_adaptive_weight_compares_the_future_decoder_s_output_layer_alone():
    state = init_published(OPTIMIZER, jax.random.key(0))
    perceptual = jnp.full((1, 1, 32, 32, 3), 0.25)

    def pull_back(gradient):
        """As if the layer painted the future frames itself, and another one the context."""
        layers = {"future_decoder": gradient.future_bfhwc, "context_decoder": gradient.context_bchwc}
        return ({part: {"out": {"kernel": _Leaf(array)}} for part, array in layers.items()},)

    def perceptual_loss(future_bfhwc):
        """Whose gradient is `perceptual`."""
        return (perceptual * future_bfhwc).sum()

    play = jax.jit(lambda begun: play_term(CONFIG, state, begun, outputs_of(), perceptual_loss, pull_back))
    played = play(jnp.array(True))

    def fooled(frames):
        return -published_logits(state.params, state.directions, frames)[0].mean()

    both = jnp.full((2, 32, 32, 3), 0.5)
    value, own = jax.jit(jax.value_and_grad(fooled))(both)
    own = own[1]
    expected = float(jnp.linalg.norm(perceptual) / jnp.maximum(jnp.linalg.norm(own), 1e-8))
    assert float(played.metrics["adaptive_weight"]) == pytest.approx(min(expected, 1e4), rel=1e-3)
    weight = 0.8 * float(played.metrics["adaptive_weight"])
    assert float(played.loss) == pytest.approx(weight * float(value), rel=1e-3)
    waited = play(jnp.array(False))
    assert float(waited.loss) == 0 and float(jnp.abs(waited.gradient.future_bfhwc).max()) == 0


class _Leaf:
    """An array that is read like a parameter."""

    def __init__(self, array):
        self.array = array

    def __getitem__(self, _):
        return self.array


def changed(before, after) -> bool:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return any(not np.array_equal(a, b) for a, b in pairs)


def test_turns_are_taken_apart_and_accumulated_pieces_count_as_one_step():
    """Fault 9: with two pieces an update the discriminator joined after half as many updates."""
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(2, 3, 24, 24, 3), dtype=np.uint8)
    state, weights, joined = init(CONFIG, OPTIMIZER, jax.random.key(0)), narrow_perceptual(), []
    for piece in range(3):
        told = jax.tree.map(jnp.copy, state.discriminator.params)
        state, metrics = train_step(CONFIG, OPTIMIZER, state, frames, jax.random.key(piece), weights)
        joined.append(float(metrics["adaptive_weight"]) > 0)
        assert not changed(told, state.discriminator.params)
    assert joined == [False, False, True]  # pieces 0 and 1 are update 0
    painted, told = (jax.tree.map(jnp.copy, part) for part in (state.params, state.discriminator.params))
    for piece in range(2):
        state, metrics = discriminator_step(CONFIG, OPTIMIZER, state, frames, jax.random.key(piece))
    assert not changed(painted, state.params) and changed(told, state.discriminator.params)
    assert metrics["discriminator_loss"] > 0
    assert own_optimizer(CONFIG, OPTIMIZER) == dataclasses.replace(OPTIMIZER, learning_rate=3e-3)


def test_a_dead_code_restarts_after_so_many_updates_whatever_their_pieces():
    config = dataclasses.replace(CONFIG, dead_code_steps=2, adversarial_weight=0.0)
    unused = {"context": jnp.zeros(12, jnp.int32), "future": jnp.zeros(10, jnp.int32)}
    latents = {name: jnp.ones((3, 4)) for name in unused}
    idle, restarts = codebooks.never_idle(config), []
    params = init(config, OPTIMIZER, jax.random.key(0)).params
    for piece in range(4):
        before = np.asarray(params["context_quantizer"]["codebook"][...])
        params, idle = codebooks.restart(config, params, idle, unused, latents, jax.random.key(piece), pieces=2)
        restarts.append(not np.array_equal(before, params["context_quantizer"]["codebook"][...]))
    assert restarts == [False, False, False, True]


def test_a_balanced_loss_weighs_context_and_future_by_their_numbers_of_frames():
    rng = np.random.default_rng(0)
    made = [jnp.asarray(rng.uniform(size=(1, count, 24, 24, 3)), jnp.float32) for count in (1, 3)]
    real = [jnp.asarray(rng.uniform(size=x.shape), jnp.float32) for x in made]
    outputs = Outputs(*made, jnp.float32(0.3), jnp.float32(0.4), jnp.zeros((3, 1, 4)))
    measured = jax.jit(losses, static_argnums=0)
    plain, balanced = (
        measured(dataclasses.replace(CONFIG, balanced_loss=flag), outputs, *real, narrow_perceptual())
        for flag in (False, True)
    )
    shares = {"context_reconstruction": 1 / 4, "context_perceptual": 1 / 4,
              "future_reconstruction": 3 / 4, "future_perceptual": 3 / 4}  # fmt: skip
    for name, value in plain.items():
        np.testing.assert_allclose(balanced[name], shares.get(name, 1.0) * value, rtol=1e-5)


def test_shuffled_frames_are_any_of_the_segment_each_once():
    config = dataclasses.replace(CONFIG, context_frames=2, future_sample=6, shuffle_frames=True)
    numbers = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None, None, None], (4, 16, 1, 1, 3))
    context, future = draw(config, numbers, jax.random.key(0))
    drawn = np.rint(255 * np.concatenate([context, future], axis=1)[:, :, 0, 0, 0]).astype(int)
    assert drawn.shape == (4, 8) and all(len(set(row)) == 8 for row in drawn)
    assert any((np.diff(row) < 0).any() for row in drawn) and len({tuple(row) for row in drawn}) == 4


def test_without_a_clip_a_gradient_of_any_length_goes_on():
    gradients = {"kernel": jnp.full((2, 2), 100.0)}
    clipped, whole = (make_optimizer(OptimizerConfig(warmup_steps=0, clip_norm=norm)) for norm in (1.0, None))
    for optimizer, expected in ((clipped, 0.5), (whole, 100.0)):
        _, moments = optimizer.update(gradients, optimizer.init(gradients), gradients)
        first = jax.tree.leaves(moments)[1]
        np.testing.assert_allclose(first, 0.1 * expected, rtol=1e-5)


def test_a_published_discriminator_needs_the_perceptual_loss():
    with pytest.raises(ValueError, match="weighed against the perceptual loss: set perceptual_weight"):
        dataclasses.replace(CONFIG, perceptual_weight=0.0)
