"""Our discriminator, and when it plays a part in training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer import OptimizerConfig, TokenizerConfig, init, train_step
from tokenizer.adversary import LARGEST_WEIGHT, adaptive_weight
from tokenizer.discriminator import discriminator_loss, generator_loss, init_discriminator, logits_of

FAST = OptimizerConfig(learning_rate=1e-3, warmup_steps=0)
WITHOUT = TokenizerConfig(
    resolution=24,  # the fewest pixels that a discriminator evaluates
    context_frames=1,
    channels=(8,),
    norm_groups=2,
    layers_per_block=1,
    mid_layers=0,
    future_mid_attention=False,
    latent_channels=4,
    stem_patch=4,
    future_patch=2,
    context_codes=12,
    future_codes=10,
    attention_heads=2,
    future_sample=1,
    perceptual_weight=0.0,
)
START, STEPS = 2, 12
WITH = dataclasses.replace(WITHOUT, discriminator="patchgan", adversarial_weight=0.5, adversarial_start_step=START)
ADVERSARIAL = {"adversarial", "adaptive_weight", "discriminator_loss", "discriminator_real", "discriminator_fake"}


def test_the_hinge_losses_are_what_they_are_by_hand():
    real, fake = jnp.array([[2.0, 0.5], [-1.0, 1.0]]), jnp.array([[-2.0, 0.0], [0.5, -1.0]])
    # real patches lose 0, 0.5, 2, 0; reconstructed ones 0, 1, 1.5, 0
    np.testing.assert_allclose(discriminator_loss(real, fake), (2.5 / 4 + 2.5 / 4) / 2)
    np.testing.assert_allclose(generator_loss(fake), 2.5 / 4)


@pytest.mark.parametrize("side, logits", [(64, 6), (32, 2), (24, 1)])
def test_one_logit_per_patch(side, logits):
    params = jax.eval_shape(lambda: init_discriminator(FAST, jax.random.key(0))).params
    shape = jax.eval_shape(logits_of, params, jax.ShapeDtypeStruct((5, side, side, 3), jnp.float32)).shape
    assert shape == (5, logits, logits)


def test_a_frame_is_judged_by_itself():
    params = init_discriminator(FAST, jax.random.key(0)).params
    frames = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3))
    together, alone = logits_of(params, frames), logits_of(params, frames[:1])
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4


def test_frames_too_small_to_be_judged_are_refused():
    with pytest.raises(ValueError, match="at least 24 pixels per side, found 16"):
        dataclasses.replace(WITH, resolution=16)


def test_the_adaptive_weight_is_the_ratio_of_lengths_at_both_output_layers_and_bounded():
    def gradients(context, future, elsewhere=0.0):
        parts = {"context_decoder": context, "future_decoder": future}
        return {n: {"out": {"kernel": jnp.array(v)}, "stem": jnp.array(elsewhere)} for n, v in parts.items()}

    ratio = adaptive_weight(gradients([6.0, 0.0], [8.0], 99.0), gradients([0.3, 0.0], [0.4]))
    np.testing.assert_allclose(ratio, 10 / (0.5 + 1e-4), rtol=1e-6)
    assert adaptive_weight(gradients([6.0], [8.0]), gradients([0.0], [0.0])) == LARGEST_WEIGHT
    assert adaptive_weight(gradients([0.0], [0.0]), gradients([1.0], [0.0])) == 0


def step(config, state, number):
    """One step from a copy of a state (a step donates its own)."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 2, 24, 24, 3), dtype=np.uint8)
    return train_step(config, FAST, jax.tree.map(jnp.copy, state), frames, jax.random.key(number))


@functools.cache
def run(config, count):
    """States before the first step and after each, and the metrics of each."""
    states, all_metrics = [init(config, FAST, jax.random.key(0))], []
    for number in range(count):
        state, metrics = step(config, states[-1], number)
        states.append(state)
        all_metrics.append(metrics)
    return states, all_metrics


def moved(before, after) -> float:
    differences = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before, after)
    return max(jax.tree.leaves(differences))


@pytest.mark.slow
def test_before_its_first_step_the_discriminator_rests_and_has_no_say_bit_for_bit():
    states, metrics = run(WITH, STEPS)
    state = states[0]
    broken = state.replace(
        discriminator=state.discriminator.replace(
            params=jax.tree.map(lambda x: x * jnp.nan, state.discriminator.params)
        )
    )
    for number in range(START):
        broken, broken_metrics = step(WITH, broken, number)
        assert moved(states[number + 1].params, broken.params) == 0
        assert moved(states[number + 1].optimizer, broken.optimizer) == 0
        assert broken_metrics["loss"] == metrics[number]["loss"]
        assert moved(states[0].discriminator, states[number + 1].discriminator) == 0
        assert all(metrics[number][name] == 0 for name in ADVERSARIAL)


def test_training_is_the_same_as_without_a_discriminator_until_it_joins_and_then_both_move():
    (plain, plain_metrics), (states, metrics) = run(WITHOUT, START + 1), run(WITH, STEPS)
    assert jax.tree.structure(plain[0].params) == jax.tree.structure(states[0].params)
    assert set(metrics[0]) - set(plain_metrics[0]) == ADVERSARIAL
    rounding = 1e-3 * FAST.learning_rate  # the two are different programs
    assert max(moved(plain[number].params, states[number].params) for number in range(START + 1)) < rounding
    assert moved(plain[START + 1].params, states[START + 1].params) > 10 * rounding
    assert moved(states[START].discriminator.params, states[START + 1].discriminator.params) > 10 * rounding
    first = metrics[START]
    expected = -WITH.adversarial_weight * first["adaptive_weight"] * first["discriminator_fake"]
    np.testing.assert_allclose(first["adversarial"], expected, rtol=1e-4)
    np.testing.assert_allclose(first["loss"], plain_metrics[START]["loss"] + first["adversarial"], rtol=1e-3)


def test_the_discriminator_learns_to_tell_what_is_painted_from_what_is_real():
    metrics = run(WITH, STEPS)[1]
    assert metrics[-1]["discriminator_loss"] < 0.7 * metrics[START]["discriminator_loss"]
    assert metrics[-1]["discriminator_real"] > metrics[-1]["discriminator_fake"]


def test_without_a_discriminator_the_state_has_the_arrays_it_always_had():
    state = jax.eval_shape(lambda: init(WITHOUT, FAST, jax.random.key(0)))
    assert state.discriminator is None
    assert not any("discriminator" in jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(state))
