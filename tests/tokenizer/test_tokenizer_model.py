"""The compressive tokenizer: shapes, who sees whom, published sizes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tokenizer import CompressiveTokenizer, TokenizerConfig, abstract_params, merge
from tokenizer.blocks import Residual
from tokenizer.cross_attention import CrossAttention
from tokenizer.initial import DeferredInit

PUBLISHED = TokenizerConfig(
    resolution=16,
    channels=(8, 16),
    norm_groups=4,
    layers_per_block=1,
    latent_channels=6,
    future_patch=4,
    max_attention_resolution=8,
    context_codes=20,
    future_codes=30,
    attention_heads=2,
)
LAPTOP = dataclasses.replace(
    PUBLISHED,
    channels=(16,),
    stem_patch=4,
    mid_layers=0,
    future_mid_attention=False,
    future_patch=2,
    quantizer="fsq",
    context_codes=60,
    future_codes=60,
    fsq_levels=(5, 4, 3),
    context_residual=True,
)
PATCHES = dataclasses.replace(
    LAPTOP, future_pair="patches", patch_width=24, future_levels=(4, 2), future_groups=2, future_codes=9
)
both = pytest.mark.parametrize("config", [PUBLISHED, LAPTOP], ids=["published", "laptop"])
every = pytest.mark.parametrize("config", [PUBLISHED, LAPTOP, PATCHES], ids=["published", "laptop", "patches"])


@functools.cache
def params_of(config):
    """Parameters that all matter: none zero, none one, codebooks as large as latents."""
    params, rng = abstract_params(config), np.random.default_rng(0)
    return nnx.from_flat_state(
        (path, variable.replace(jnp.asarray(_values(rng, path[-1], variable.shape))))
        for path, variable in nnx.to_flat_state(params)
    )


def _values(rng, name, shape):
    if name == "scale":
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    spread = np.prod(shape[:-1]) ** -0.5 if name == "kernel" else 0.3
    return (spread * rng.normal(size=shape)).astype(np.float32)


@functools.partial(jax.jit, static_argnames="config")
def run(config, params, context_frames, future_frames):
    """Everything a tokenizer computes on three future frames, in one program."""
    model = merge(config, params)
    context = model.encode_context(context_frames)
    tokens = model.encode_future(future_frames, context)
    decoded_context, from_tokens = model.decode_context(context.tokens_bcn)
    last_decoded = dataclasses.replace(context, last_frame_bhwc=from_tokens.last_frame_bhwc)
    return {
        "context": context,
        "tokens": tokens,
        "decoded": model.decode_future(tokens, context),
        "decoded_context": decoded_context,
        "from_tokens": model.decode_future(tokens, from_tokens),
        "from_features": model.decode_future(tokens, last_decoded),
        "together": model.reconstruct(context_frames, future_frames, None),
        "fixed_tokens": model.decode_future(tokens * 0 + 3, context),
    }


def everything(config, context_frames, future_frames):
    return run(config, params_of(config), context_frames, future_frames)


def frames(config, count, seed=0, batch=2):
    shape = (batch, count, config.resolution, config.resolution, 3)
    return jnp.asarray(np.random.default_rng(seed).random(shape, np.float32))


@every
def test_frames_become_tokens_in_range_and_tokens_become_frames(config):
    out = everything(config, frames(config, 2), frames(config, 3, seed=1))
    context_tokens, tokens = out["context"].tokens_bcn, out["tokens"]
    assert context_tokens.shape == (2, 2, config.tokens_per_context)
    assert tokens.shape == (2, 3, config.tokens_per_future)
    assert context_tokens.dtype == tokens.dtype == jnp.int32
    assert 0 <= context_tokens.min() and context_tokens.max() < config.context_codes
    assert 0 <= tokens.min() and tokens.max() < config.future_codes
    assert len(np.unique(context_tokens)) > 1 and len(np.unique(tokens)) > 1
    assert out["decoded"].shape == (2, 3, 16, 16, 3) and out["decoded"].dtype == jnp.float32


@every
def test_the_training_path_computes_what_encoding_and_decoding_compute(config):
    out = everything(config, frames(config, 2), frames(config, 3, seed=1))
    together, context_tokens = out["together"], out["context"].tokens_bcn
    np.testing.assert_array_equal(together.context.indices.reshape(context_tokens.shape), context_tokens)
    np.testing.assert_array_equal(together.future.indices.reshape(out["tokens"].shape), out["tokens"])
    np.testing.assert_allclose(together.context_bchwc, out["decoded_context"], atol=1e-4)
    np.testing.assert_allclose(together.future_bfhwc, out["decoded"], atol=1e-4)


@both
def test_decoding_from_tokens_alone_is_decoding_with_features_but_for_the_last_frame_painted_over(config):
    out = everything(config, frames(config, 2), frames(config, 3, seed=1))
    np.testing.assert_allclose(out["from_tokens"], out["from_features"], atol=1e-4)
    assert np.allclose(out["from_tokens"], out["decoded"], atol=1e-4) != config.context_residual


@every
def test_a_future_frame_never_influences_another(config):
    context, future = frames(config, 2), frames(config, 3, seed=1)
    changed_future = future.at[:, 1].set(frames(config, 1, seed=5)[:, 0])
    before, after = everything(config, context, future), everything(config, context, changed_future)
    np.testing.assert_array_equal(after["tokens"][:, [0, 2]], before["tokens"][:, [0, 2]])
    np.testing.assert_allclose(after["decoded"][:, [0, 2]], before["decoded"][:, [0, 2]], atol=1e-5)
    assert np.any(after["tokens"][:, 1] != before["tokens"][:, 1])
    moved = everything(config, context, future[:, ::-1])
    np.testing.assert_array_equal(moved["tokens"], before["tokens"][:, ::-1])


@every
def test_a_context_frame_is_encoded_on_its_own(config):
    context, future = frames(config, 2), frames(config, 3, seed=1)
    tokens = everything(config, context, future)["context"].tokens_bcn
    swapped = everything(config, context[:, ::-1], future)["context"].tokens_bcn
    np.testing.assert_array_equal(swapped, tokens[:, ::-1])


@both
def test_the_context_changes_how_future_frames_are_encoded_and_decoded(config):
    context, future = frames(config, 2), frames(config, 3, seed=1)
    # The last frame stays: with context_residual it is seen by itself as well.
    elsewhere = context.at[:, 0].set(frames(config, 1, seed=3)[:, 0])
    one, other = (everything(config, frames_bchwc, future) for frames_bchwc in (context, elsewhere))
    assert np.abs(one["together"].future_latents - other["together"].future_latents).max() > 1e-4
    assert np.abs(one["fixed_tokens"] - other["fixed_tokens"]).max() > 1e-4


def test_with_context_residual_an_untrained_decoder_repeats_the_last_frame():
    params = nnx.split(nnx.jit(lambda: CompressiveTokenizer(LAPTOP, rngs=nnx.Rngs(0)))())[1]
    context = frames(LAPTOP, 2)
    decoded = run(LAPTOP, params, context, frames(LAPTOP, 3, seed=1))["decoded"]
    assert np.abs(decoded - context[:, -1:]).mean() < 0.05


def test_recomputing_changes_memory_only():
    x = frames(PUBLISHED, 1)[:, 0, :4, :4].repeat(8, axis=-1)[..., :16]

    def gradient(config):
        deferred = DeferredInit()
        attention, block = CrossAttention(16, 4, config, deferred=deferred), Residual(16, 8, config, deferred=deferred)
        deferred.fill(jax.random.key(0))

        def objective(x):
            attended = attention(x, attention.project(jnp.concatenate([x, x])), jax.random.key(1))
            return jnp.square(block(attended)).sum()

        return jax.jit(jax.grad(objective))(x)

    held = gradient(dataclasses.replace(PUBLISHED, recompute=True))
    np.testing.assert_allclose(gradient(PUBLISHED), held, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config, millions",
    [
        (TokenizerConfig(), 114),
        (TokenizerConfig(resolution=256, channels=(128, 256, 256, 512, 768), max_attention_resolution=32), 310),
    ],
    ids=["64 px", "256 px"],
)
def test_the_published_sizes(config, millions):
    assert (config.grid, config.tokens_per_context, config.tokens_per_future) == (16, 256, 16)
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract_params(config)))
    assert round(count / 1e6) == millions


def test_the_published_256_px_model_looks_at_the_context_on_maps_of_32_and_less():
    config = TokenizerConfig(resolution=256, channels=(128, 256, 256, 512, 768), max_attention_resolution=32)
    shape = jax.ShapeDtypeStruct((1, 2, 256, 256, 3), jnp.float32)
    context = jax.eval_shape(lambda params, x: merge(config, params).encode_context(x), abstract_params(config), shape)
    sides = [
        [(keys.keys_blhd.shape[1] // 2) ** 0.5 for keys in part]
        for part in (context.encoder_keys, context.decoder_keys)
    ]
    assert sides == [[32, 16, 16], [16, 32]]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"resolution": 66}, "resolution 66"),
        ({"future_patch": 3}, "future_patch 3"),
        ({"channels": (100,)}, "norm_groups 32"),
        ({"quantizer": "fsq"}, "1000 codes"),
        ({"mid_layers": 0}, "mid attention"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_their_numbers(settings, words):
    with pytest.raises(ValueError, match=words):
        TokenizerConfig(**settings)


def test_frames_of_another_resolution_or_type_are_refused():
    model = merge(LAPTOP, params_of(LAPTOP))
    for wrong in (jnp.zeros((1, 2, 8, 8, 3)), jnp.zeros((1, 3, 16, 16, 3)), jnp.zeros((1, 2, 16, 16, 3), jnp.uint8)):
        with pytest.raises(AssertionError):
            model.encode_context(wrong)


def test_with_norms_of_each_place_alone_motion_in_one_corner_leaves_the_other_corners_code():
    together = dataclasses.replace(LAPTOP, resolution=64, norm_per_position=False)
    alone = dataclasses.replace(together, norm_per_position=True)
    context, still = frames(alone, 2), frames(alone, 1, seed=1)
    moved = still.at[:, :, :8, :8].set(0.0)

    def far_corner(config):
        latents = everything(config, context, jnp.concatenate([still, moved], axis=1))["together"].future_latents
        return latents.reshape(len(context), 2, *latents.shape[1:])[:, :, -1]

    np.testing.assert_array_equal(*far_corner(alone).swapaxes(0, 1))
    spanning = far_corner(together)
    assert np.abs(spanning[:, 0] - spanning[:, 1]).max() > 1e-3
