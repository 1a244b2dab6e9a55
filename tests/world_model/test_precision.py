"""bfloat16: where the transformer computes with it, and where it does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_model import TransformerConfig, WorldModel, WorldModelConfig, imagination
from world_model.params import for_decoding, transformer_of
from world_model.training import losses

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def half(config) -> WorldModelConfig:
    return dataclasses.replace(
        config,
        tokenizer=dataclasses.replace(config.tokenizer, compute_dtype="bfloat16"),
        transformer=dataclasses.replace(config.transformer, compute_dtype="bfloat16"),
    )


@pytest.fixture(scope="module")
def tokens(model, frames):
    return model.tokenize(frames)[0]


def test_the_loss_is_nearly_the_same_and_its_gradients_are_finite_and_float32(config, half, model, tokens, actions):
    def total(params, config):
        found = losses(config, params, tokens, jnp.asarray(actions), jnp.ones((2, 5)), None)
        return found["cross_entropy"] + found["reward_loss"]

    gradients_of = jax.jit(jax.value_and_grad(total), static_argnums=1)
    full, _ = gradients_of(model.params.transformer, config)
    rounded, gradients = gradients_of(model.params.transformer, half)
    assert float(rounded) == pytest.approx(float(full), rel=0.03)
    assert float(rounded) != float(full)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gradients)} == {"float32"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_cached_decoding_equals_scoring_to_the_precision_of_bfloat16(half, model, tokens):
    layout = half.layout
    first = layout.context_length

    @jax.jit
    def both_ways(params):
        transformer = transformer_of(half, params)
        embeddings = transformer.embed(tokens)
        cache = transformer.prefill(embeddings[:, :first], layout.length(1))
        hidden, cache = transformer.step(embeddings[:, first], cache)
        scored = transformer.head(transformer(embeddings[:, : first + 1], first))[:, 0]
        return scored, transformer.head(hidden), transformer.head_of(layout.future_ids)(hidden), cache

    scored, decoded, future, cache = both_ways(model.params)
    assert {side.dtype.name for side in (*cache.keys, *cache.values)} == {"bfloat16"}
    assert scored.dtype == decoded.dtype == future.dtype == jnp.float32
    np.testing.assert_allclose(decoded, scored, atol=0.05 * float(jnp.std(scored)))
    np.testing.assert_allclose(future, decoded[:, layout.future_ids], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_matrices_rounded_before_a_loop_give_what_those_rounded_inside_give(half, model, frames, actions):
    dream = imagination.reset(half, model.params, frames[:, :2], 1)
    decoding = for_decoding(half, model.params)
    rounded = {leaf.dtype.name for leaf in jax.tree.leaves(decoding.transformer["blocks"][0]["attention"])}
    assert rounded == {"bfloat16"}
    found = [
        jax.jit(lambda p: imagination.next_frame(half, p, dream, actions[:, 1], KEY, 0.0, None)[1])(params)
        for params in (model.params, decoding)
    ]
    np.testing.assert_array_equal(found[0].tokens_bn, found[1].tokens_bn)
    np.testing.assert_allclose(found[0].reward_b, found[1].reward_b, rtol=1e-5)


def test_in_float32_the_parameters_are_left_as_they_are(config, model):
    assert for_decoding(config, model.params).transformer is model.params.transformer


def test_norms_softmax_and_losses_are_float32(half, model, tokens, actions, dtypes_in):
    def everything(params):
        return losses(half, params, tokens, jnp.asarray(actions), jnp.ones((2, 5)), None)

    traced = jax.jit(everything).trace(model.params.transformer)
    assert dtypes_in(traced, "rsqrt") == dtypes_in(traced, "exp") == dtypes_in(traced, "log") == {"float32"}
    # The reward and the action layer, two small matrices, are float32 as well.
    assert dtypes_in(traced, "dot_general") == {"bfloat16", "float32"}


def test_a_rollout_in_bfloat16_is_one_of_valid_frames(half, model, frames, actions):
    imagined = WorldModel(half, model.params).rollout(frames[:, :2], actions[:, 1:3], KEY)
    ids = half.layout.future_ids
    assert ((imagined.tokens >= ids.start) & (imagined.tokens < ids.stop)).all()
    assert imagined.frames.dtype == jnp.uint8
    assert imagined.rewards.dtype == jnp.float32
    assert np.isfinite(imagined.rewards).all()


def test_another_dtype_is_refused():
    with pytest.raises(ValueError, match="compute_dtype must be 'float32' or 'bfloat16', found 'float16'"):
        TransformerConfig(compute_dtype="float16")
