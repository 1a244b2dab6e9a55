"""The patch pair: still patches are copied, others are coded where they are, and painted ones leave no seams."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_tokenizer_model import PATCHES, frames, params_of, run

from tokenizer import OptimizerConfig, TokenizerConfig, abstract_params, init, merge, train_step
from tokenizer.adversary import adaptive_weight
from tokenizer.patches import OVERLAP, fading, neighbourhoods, overlapped, still_patches
from tokenizer.published import export_params, import_params
from tokenizer.quantize import PatchQuantizer

LARGE = dataclasses.replace(PATCHES, resolution=32)  # four patches per side


def made(config, context, future):
    return run(config, params_of(config), context, future)


def one_patch_changes(config):
    """A context, and a future frame in which only the patch of row 1, column 2 differs, in its middle."""
    context = frames(config, 2)
    side = config.patch_side
    rows, columns = slice(side + 3, 2 * side - 3), slice(2 * side + 3, 3 * side - 3)
    return context, context[:, -1:].at[:, :, rows, columns].set(frames(config, 1, seed=9)[:, :, rows, columns])


def test_a_patch_in_which_nothing_moves_has_the_code_of_rest_and_is_copied_exactly():
    context, future = one_patch_changes(LARGE)
    out = made(LARGE, context, future)
    tokens = np.asarray(out["tokens"]).reshape(2, 4, 4, LARGE.future_groups)
    moving = tokens != LARGE.future_codes - 1
    assert moving[:, 1, 2].all() and moving.sum() == moving[:, 1, 2].sum()
    changed = np.asarray(out["decoded"] != context[:, -1:]).any(-1)[:, 0]
    assert changed[:, 8:16, 16:24].any()
    changed[:, 8:16, 16:24] = False
    assert not changed.any()


def test_noise_below_the_threshold_is_rest():
    context = frames(LARGE, 2)
    noise = 0.039 * np.sign(np.random.default_rng(0).normal(size=context[:, -1:].shape)).astype(np.float32)
    assert still_patches(LARGE, context[:, -1:] + noise, context[:, -1]).all()
    assert not still_patches(LARGE, context[:, -1:] + 1.03 * noise, context[:, -1]).any()


def test_a_change_reaches_the_latents_of_the_patches_that_overlap_it_alone():
    context, future = frames(LARGE, 2), frames(LARGE, 1, seed=1)
    rows, columns = slice(8 + OVERLAP, 16 - OVERLAP), slice(16 + OVERLAP, 24 - OVERLAP)
    inside = future.at[:, :, rows, columns].add(-0.5)
    latents = (made(LARGE, context, x)["together"].future_latents for x in (future, inside))
    before, after = (np.asarray(x).reshape(2, 4, 4, -1) for x in latents)
    differs = (before != after).any(-1)
    assert differs[:, 1, 2].all() and differs.sum() == 2


def test_patches_laid_over_each_other_are_the_picture_they_were_cut_from():
    picture = np.random.default_rng(0).random((2, 32, 32, 3)).astype(np.float32)
    whole = neighbourhoods(picture, 8, 0).reshape(2, 4, 4, 8, 8, 3)
    np.testing.assert_array_equal(overlapped(whole, 8), picture)
    reach = 8 + 2 * OVERLAP
    wide = np.asarray(neighbourhoods(picture, 8, OVERLAP)).reshape(2, 4, 4, reach, reach, 3)
    weights = np.broadcast_to(fading(8)[..., None], (*wide.shape[:-1], 1))
    shares = overlapped(jnp.asarray(np.concatenate([weights * wide, weights], -1)), 8)
    np.testing.assert_allclose(shares[..., :3] / shares[..., 3:], picture, rtol=1e-5)


def test_a_seam_between_moving_patches_is_no_steeper_than_what_they_paint():
    """Each patch paints one flat colour: across an edge the picture fades over the overlap, pixel by pixel."""
    config = dataclasses.replace(LARGE, patch_width=4)
    pair = merge(config, params_of(config)).patch_pair
    colours = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 16, 1, 3)).astype(np.float32)
    flat = np.broadcast_to(colours, (1, 1, 16, (8 + 2 * OVERLAP) ** 2, 3))
    painted = np.concatenate([flat, np.full((*flat.shape[:-1], 1), 50.0, np.float32)], axis=-1).reshape(1, 1, 16, -1)
    picture = np.asarray(pair._blended(jnp.asarray(painted), jnp.ones((1, 1, 16)), jnp.zeros((1, 32, 32, 3))))[0, 0]
    steps = np.abs(np.diff(picture[4], axis=0)).max()
    edges = np.abs(np.diff(colours.reshape(4, 4, 3)[0], axis=0)).max()
    assert steps < 0.4 * edges


def test_every_code_of_a_patch_can_be_reached_and_is_found_again():
    quantizer = PatchQuantizer((4, 2), 3)
    tokens = np.random.default_rng(0).integers(0, 8, (50, 3))
    codes, moving = quantizer.lookup(jnp.asarray(tokens))
    assert codes.shape == (50, 6) and (np.asarray(moving) == 1).all()
    share_of_range = np.tile([3 / 4, 1 / 2], 3)  # the outermost of 4 levels lies at 3/4 of what tanh reaches
    latents = jnp.arctanh(codes * share_of_range)
    again = quantizer(latents, jnp.zeros(50, bool))
    np.testing.assert_array_equal(again.indices, tokens)
    np.testing.assert_allclose(again.codes, codes, atol=1e-6)
    still = quantizer(latents, jnp.ones(50, bool)).indices
    assert (np.asarray(still) == quantizer.rest).all()
    assert (np.asarray(quantizer.lookup(still)[1]) == 0).all()


def test_the_mean_of_certain_codes_is_those_codes():
    context, future = one_patch_changes(LARGE)
    model = merge(LARGE, params_of(LARGE))
    coded = model.encode_context(context)
    tokens = model.encode_future(future, coded)
    certain = jax.nn.one_hot(tokens, LARGE.future_codes)
    np.testing.assert_allclose(model.decode_mean(certain, coded), model.decode_future(tokens, coded), atol=1e-5)


@pytest.mark.parametrize("moving", [0.0, 0.25, 1.0])
def test_the_mean_of_two_codes_lies_between_them(moving):
    quantizer = PatchQuantizer((2,), 1)
    codes, moves = quantizer.mean(jnp.asarray([[[0.3 * moving, 0.7 * moving, 1 - moving]]]))
    np.testing.assert_allclose(moves, [moving], atol=1e-6)
    np.testing.assert_allclose(codes, [[0.4 if moving else 0.0]], atol=1e-5)


def test_it_learns_and_the_published_layout_holds_its_weights_bit_for_bit():
    config = dataclasses.replace(PATCHES, motion_floor=None, l1_weight=0.0, l2_weight=10.0, perceptual_weight=0.0)
    rate = OptimizerConfig(learning_rate=3e-3, warmup_steps=0)
    state = init(config, rate, jax.random.key(0))
    segments = jax.random.randint(jax.random.key(1), (2, 4, 16, 16, 3), 0, 255).astype(jnp.uint8)
    errors = []
    for step in range(60):
        state, metrics = train_step(config, rate, state, segments, jax.random.key(step))
        errors.append(float(metrics["future_reconstruction"]))
    assert errors[-1] < 0.6 * errors[0]
    again = import_params(config, export_params(config, state.params))
    jax.tree.map(np.testing.assert_array_equal, again, state.params)


def test_the_adaptive_weight_is_over_the_layer_that_paints():
    params = abstract_params(PATCHES)
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
    twos = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0), params)
    twos["context_decoder"]["out"]["kernel"][...] = jnp.ones(ones["context_decoder"]["out"]["kernel"].shape)
    assert 0.5 < adaptive_weight(ones, twos) < 1


def test_its_weights_are_half_of_what_a_vqgan_pair_has_names_for():
    names = {path[0] for path, _ in nnx.to_flat_state(abstract_params(PATCHES))}
    assert "patch_pair" in names and not any(name.startswith("future_") for name in names)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"quantizer": "vq", "future_levels": None}, "set quantizer to 'fsq'"),
        ({"context_residual": False}, "context_residual to True"),
        ({"still_weight": 1.0}, "still_weight to 0"),
        ({"future_codes": 8}, "9 codes with the one of a still patch, but future_codes is 8"),
        ({"future_patch": 1}, "patches of 4 pixels: expected an even number from 8 on"),
        ({"future_pair": "other"}, "'vqgan' or 'patches', found 'other'"),
        ({"future_pair": "vqgan", "future_codes": 8}, "future_groups is for future_pair patches"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(PATCHES, **settings)
    with pytest.raises(ValueError, match="future_levels is for fsq"):
        TokenizerConfig(future_levels=(4, 4))
