"""bfloat16: where it is computed with, and where it is not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer import OptimizerConfig, TokenizerConfig, init, merge, train_step
from tokenizer.layers import GroupNorm
from tokenizer.losses import Outputs, losses
from tokenizer.train import draw

FULL = TokenizerConfig(
    resolution=16,
    channels=(8,),
    norm_groups=2,
    layers_per_block=1,
    mid_layers=1,
    latent_channels=4,
    stem_patch=4,
    future_patch=2,
    context_codes=12,
    future_codes=10,
    attention_heads=2,
    dropout=0.0,
    perceptual_weight=0.0,
    future_sample=None,
)
HALF = dataclasses.replace(FULL, compute_dtype="bfloat16")
OPTIMIZER = OptimizerConfig(warmup_steps=0)
KEY = jax.random.key(0)


def segments() -> np.ndarray:
    """uint8 [B, T, H, W, 3]"""
    return np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)


@pytest.mark.slow
def test_a_step_in_bfloat16_has_nearly_the_same_loss_and_leaves_everything_float32():
    state = init(HALF, OPTIMIZER, KEY)

    @jax.jit
    def full_loss(params):
        context_bchwc, future_bfhwc = draw(FULL, segments(), KEY)
        reconstruction = merge(FULL, params).reconstruct(context_bchwc, future_bfhwc, None)
        return sum(losses(FULL, Outputs.of(reconstruction), context_bchwc, future_bfhwc, None).values())

    full = float(full_loss(state.params))
    state, metrics = train_step(HALF, OPTIMIZER, state, segments(), KEY)
    assert float(metrics["loss"]) == pytest.approx(full, rel=0.03)
    assert float(metrics["loss"]) != full
    assert np.isfinite(metrics["gradient_norm"])
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype.name for leaf in floats} == {"float32"}
    assert all(np.isfinite(leaf).all() for leaf in floats)


@pytest.mark.parametrize("config", [FULL, HALF])
def test_only_convolutions_and_matmuls_between_frames_and_codes_are_in_the_compute_dtype(config, dtypes_in):
    def everything(params, frames_bthwc):
        model = merge(config, params)
        context = model.encode_context(frames_bthwc[:, :2])
        tokens = model.encode_future(frames_bthwc[:, 2:], context)
        return context, model.decode_future(tokens, context), model.decode_context(context.tokens_bcn)[0]

    params = jax.eval_shape(lambda: init(config, OPTIMIZER, KEY)).params
    frames = jax.ShapeDtypeStruct(segments().shape, jnp.float32)
    traced = jax.jit(everything).trace(params, frames)
    context, future_frames, context_frames = traced.out_info
    for keys in (*context.encoder_keys, *context.decoder_keys):
        assert {keys.keys_blhd.dtype.name, keys.values_blhd.dtype.name} == {config.compute_dtype}
    assert future_frames.dtype == context_frames.dtype == jnp.float32
    assert dtypes_in(traced, "conv_general_dilated") == {config.compute_dtype}
    assert dtypes_in(traced, "dot_general") == {"float32", config.compute_dtype}
    # Norms, softmax, the choice of a code.
    assert dtypes_in(traced, "rsqrt") == dtypes_in(traced, "exp") == dtypes_in(traced, "argmin") == {"float32"}


def test_a_norm_is_computed_in_float32_and_rounded_once():
    norm = GroupNorm(8, 2, 1e-6)
    half = (3 + jax.random.normal(KEY, (2, 4, 4, 8))).astype(jnp.bfloat16)
    assert norm(half).dtype == jnp.bfloat16
    np.testing.assert_array_equal(norm(half), norm(half.astype(jnp.float32)).astype(jnp.bfloat16))


def test_another_dtype_is_refused():
    with pytest.raises(ValueError, match="compute_dtype must be 'float32' or 'bfloat16', found 'float16'"):
        dataclasses.replace(FULL, compute_dtype="float16")
