"""A training step: what it changes, what it leaves alone, what it reports."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer import OptimizerConfig, TokenizerConfig, codebooks, init, make_optimizer, train_step
from tokenizer.losses import motion_weights, pixel_loss, still_loss
from tokenizer.optimizer import decay_mask
from tokenizer.train import draw

CONFIG = TokenizerConfig(
    resolution=8,
    context_frames=1,
    channels=(8,),
    norm_groups=2,
    layers_per_block=1,
    mid_layers=0,
    future_mid_attention=False,
    latent_channels=4,
    stem_patch=2,
    future_patch=2,
    context_codes=12,
    future_codes=10,
    attention_heads=2,
    future_sample=2,
    perceptual_weight=0.0,
)
FAST = OptimizerConfig(learning_rate=1e-2, warmup_steps=0)


def segments(seed=0, frames=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (3, frames, 8, 8, 3), dtype=np.uint8)


def codebook_values(params):
    return [np.asarray(params[name]["codebook"][...]) for name in ("context_quantizer", "future_quantizer")]


@functools.cache
def trained():
    """The state after some steps on the same segments, its first and its last metrics."""
    state, all_metrics = init(CONFIG, FAST, jax.random.key(0)), []
    for step in range(40):
        state, metrics = train_step(CONFIG, FAST, state, segments(), jax.random.key(step))
        all_metrics.append(metrics)
    return state, all_metrics[0], all_metrics[-1]


def test_training_on_the_same_segments_lowers_the_loss_and_reports_every_term():
    state, first, last = trained()
    assert last["context_reconstruction"] < 0.9 * first["context_reconstruction"]
    assert last["future_reconstruction"] < 0.9 * first["future_reconstruction"]
    assert int(state.step) == 40 and state.idle == {}
    terms = {"context_reconstruction", "future_reconstruction", "context_commitment", "future_commitment"}
    codebooks = {"context_codes_used", "context_perplexity", "future_codes_used", "future_perplexity"}
    assert set(last) == {"loss", "gradient_norm"} | terms | codebooks
    np.testing.assert_allclose(last["loss"], sum(last[term] for term in terms), rtol=1e-5)


def test_the_same_key_gives_the_same_step_and_another_key_another_draw():
    one, same, other = (
        train_step(CONFIG, FAST, init(CONFIG, FAST, jax.random.key(0)), segments(), jax.random.key(seed))[1]["loss"]
        for seed in (1, 1, 2)
    )
    assert one == same != other


@pytest.mark.slow
def test_frozen_codebooks_stay_bit_for_bit_while_the_rest_learns_even_with_moments_from_before():
    state = jax.tree.map(jnp.copy, trained()[0])
    before, weights = codebook_values(state.params), np.asarray(state.params["context_to_code"]["kernel"][...])
    frozen = dataclasses.replace(CONFIG, freeze_codebooks=True)
    state, _ = train_step(frozen, FAST, state, segments(), jax.random.key(9))
    for ours, theirs in zip(codebook_values(state.params), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.any(np.asarray(state.params["context_to_code"]["kernel"][...]) != weights)


def test_a_code_unused_for_long_restarts_at_a_latent_of_the_batch_and_no_other_code_moves():
    config = dataclasses.replace(CONFIG, dead_code_steps=3)
    params, idle = init(config, FAST, jax.random.key(0)).params, codebooks.never_idle(config)
    before = codebook_values(params)
    counts = {"context": np.ones(12, np.int32), "future": np.ones(10, np.int32)}
    counts["context"][5] = 0
    latents = {name: 7 + jnp.arange(8.0).reshape(2, 4) for name in counts}
    for step in range(3):
        params, idle = codebooks.restart(config, params, idle, counts, latents, jax.random.key(step))
        after = codebook_values(params)
        assert np.any(after[0][5] != before[0][5]) == (step == 2)
        assert int(idle["context"][5]) == (step + 1) % 3
    assert after[0][5].tolist() in latents["context"].tolist()
    np.testing.assert_array_equal(np.delete(after[0], 5, axis=0), np.delete(before[0], 5, axis=0))
    np.testing.assert_array_equal(after[1], before[1])


def test_the_drawn_future_frames_are_frames_of_their_own_segment_in_order():
    frames = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None, None], (3, 6, 8, 8, 3)).copy()
    context, future = draw(CONFIG, jnp.asarray(frames), jax.random.key(0))
    assert context.shape == (3, 1, 8, 8, 3) and future.shape == (3, 2, 8, 8, 3)
    numbers = np.asarray(future[:, :, 0, 0, 0] * 255).round()
    assert np.all(numbers[:, 0] < numbers[:, 1]) and numbers.min() >= 1


def test_motion_weights_are_one_where_most_moves_and_the_floor_where_nothing_does():
    config = dataclasses.replace(CONFIG, motion_floor=0.05)
    last, future = jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 1, 4, 4, 3)).at[0, 0, 0, 0].set(0.8).at[0, 0, 1, 1].set(0.4)
    weights = np.asarray(motion_weights(config, future, last))[0, 0, :, :, 0]
    assert weights[0, 0] == 1 and weights[3, 3] == np.float32(0.05)
    np.testing.assert_allclose(weights[1, 1], 0.5, rtol=1e-6)
    assert motion_weights(CONFIG, future, last) is None


STILL_KINDS = {"quantizer": "fsq", "fsq_levels": (4, 4), "context_codes": 16, "future_codes": 16}


def test_only_the_codes_of_still_patches_are_drawn_to_rest():
    """Two frames of four patches of 4 pixels; one pixel of a patch of the second changes: that code does not count."""
    config = dataclasses.replace(CONFIG, **STILL_KINDS, still_weight=1.0)
    last, future = jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 2, 8, 8, 3)).at[0, 1, 5, 2, 0].set(0.5)
    codes = jnp.stack([jnp.ones((4, 2)), jnp.array([[1, 0], [1, 1], [-1, -1], [1, 1]])]).astype(jnp.float32)
    np.testing.assert_allclose(still_loss(config, codes, future, last), 0.5 / 7, rtol=1e-6)
    assert still_loss(config, codes, future.at[:].add(1), last) == 0  # nothing is still


@pytest.mark.slow
def test_still_patches_learn_one_code():
    config = dataclasses.replace(CONFIG, **STILL_KINDS)
    frames = jnp.repeat(jax.random.randint(jax.random.key(3), (4, 1, 8, 8, 3), 0, 255).astype(jnp.uint8), 4, axis=1)
    perplexities = []
    for weight in (0.0, 1.0):
        weighted = dataclasses.replace(config, still_weight=weight)
        state = init(weighted, FAST, jax.random.key(0))
        for step in range(40):
            state, metrics = train_step(weighted, FAST, state, frames, jax.random.key(step))
        perplexities.append(float(metrics["future_perplexity"]))
    assert perplexities[1] == 1 < perplexities[0]
    with pytest.raises(ValueError, match="still_weight is for fsq"):
        dataclasses.replace(CONFIG, still_weight=1.0)


def test_equal_weights_do_not_change_the_pixel_loss():
    config = dataclasses.replace(CONFIG, l1_weight=0.5, l2_weight=2.0)
    predicted, real = jnp.full((1, 1, 4, 4, 3), 0.3), jnp.zeros((1, 1, 4, 4, 3))
    expected = 0.5 * 0.3 + 2 * 0.09
    for weights in (None, jnp.full((1, 1, 4, 4, 1), 0.2)):
        np.testing.assert_allclose(pixel_loss(config, predicted, real, weights), expected, rtol=1e-6)


def test_segments_without_a_future_frame_are_refused():
    state = init(CONFIG, FAST, jax.random.key(0))
    with pytest.raises(ValueError, match="no future after 1 context"):
        train_step(CONFIG, FAST, state, segments(frames=1), jax.random.key(0))


def test_weight_decay_spares_embeddings_norms_and_biases():
    params = init(CONFIG, FAST, jax.random.key(0)).params
    for path, decays in jax.tree_util.tree_leaves_with_path(decay_mask(params)):
        name = jax.tree_util.keystr(path)
        assert decays == ("'kernel'" in name), name


def test_the_learning_rate_rises_over_the_warm_up():
    optimizer = make_optimizer(OptimizerConfig(learning_rate=1.0, warmup_steps=4, clip_norm=1e9))
    params = {"kernel": jnp.zeros((2, 2))}
    state, sizes = optimizer.init(params), []
    for _ in range(6):
        updates, state = optimizer.update({"kernel": jnp.ones((2, 2))}, state, params)
        sizes.append(-float(updates["kernel"][0, 0]))
    np.testing.assert_allclose(sizes, [0.25, 0.4375, 0.625, 0.8125, 1.0, 1.0], rtol=1e-3)
