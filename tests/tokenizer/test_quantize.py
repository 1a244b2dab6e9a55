"""Codes and latents: what passes the gradient on, what the losses are, which indices there are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tokenizer import TokenizerConfig
from tokenizer.initial import DeferredInit
from tokenizer.quantize import FiniteScalarQuantizer, VectorQuantizer, nearest_code, perplexity, straight_through, usage


def _quantizer(codes=7, **settings):
    config = TokenizerConfig(latent_channels=4, **settings)
    quantizer, rng = VectorQuantizer(codes, config, deferred=DeferredInit()), np.random.default_rng(0)
    quantizer.codebook.set_value(jnp.asarray(rng.normal(size=(codes, 4)), jnp.float32))
    return quantizer, jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)


def test_the_gradient_goes_straight_through_to_the_latents():
    quantizer, latents = _quantizer()
    weights = jnp.arange(24.0).reshape(2, 3, 4)
    gradient = jax.grad(lambda latents: (quantizer(latents).codes * weights).sum())(latents)
    np.testing.assert_array_equal(gradient, weights)
    rounded = jax.grad(lambda x: straight_through(x, jnp.round(x)) * 3)(0.3)
    assert rounded == 3


def test_each_latent_takes_the_code_of_least_distance():
    quantizer, latents = _quantizer()
    found = quantizer(latents)
    distances = np.square(np.asarray(latents)[:, :, None] - np.asarray(quantizer.codebook[...])).sum(-1)
    np.testing.assert_array_equal(found.indices, distances.argmin(-1))
    np.testing.assert_allclose(found.codes, quantizer.lookup(found.indices), rtol=1e-6, atol=1e-6)
    assert found.indices.dtype == jnp.int32


def test_of_two_equal_codes_the_first_is_taken():
    codebook = jnp.asarray([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert nearest_code(jnp.asarray([[1.0, 0.1]]), codebook).tolist() == [1]


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_the_commitment_weight_is_on_the_term_that_moves_the_latents(weight):
    quantizer, latents = _quantizer(commitment_weight=weight)
    found = quantizer(latents)
    error = np.square(np.asarray(latents) - np.asarray(quantizer.lookup(found.indices))).mean()
    np.testing.assert_allclose(found.loss, (1 + weight) * error, rtol=1e-6)
    gradient = jax.grad(lambda latents: quantizer(latents).loss)(latents)
    expected = weight * 2 * (latents - quantizer.lookup(found.indices)) / latents.size
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_codebook_gets_a_gradient_unless_it_is_frozen(frozen):
    quantizer, latents = _quantizer(freeze_codebooks=frozen)
    graph, params = nnx.split(quantizer)
    gradient = jax.grad(lambda params: nnx.merge(graph, params)(latents).loss)(params)
    assert bool(jnp.any(gradient["codebook"][...] != 0)) != frozen


def test_every_fsq_index_stands_for_its_own_code_and_all_levels_can_be_reached():
    quantizer = FiniteScalarQuantizer((4, 3))
    codes = np.asarray(quantizer.lookup(jnp.arange(12)))
    assert len(np.unique(codes, axis=0)) == 12
    assert codes.min() == -1 and codes.max() == 1
    # Latents of a fixed size lie on a circle: its outside codes are reached, each from where it stands.
    circle = jnp.stack([jnp.cos(jnp.linspace(0, 2 * jnp.pi, 721)), jnp.sin(jnp.linspace(0, 2 * jnp.pi, 721))], -1)
    found = quantizer(circle)
    np.testing.assert_allclose(found.codes, quantizer.lookup(found.indices), atol=1e-6)
    assert set(np.asarray(found.codes)[:, 1].round(3)) == {-1.0, 0.0, 1.0}


def test_fsq_does_not_depend_on_the_size_of_its_latents():
    quantizer = FiniteScalarQuantizer((8, 5, 5, 5))
    latents = jax.random.normal(jax.random.key(0), (50, 4))
    np.testing.assert_array_equal(quantizer(latents).indices, quantizer(0.125 * latents).indices)
    assert len(np.unique(quantizer(latents).indices)) > 20


def test_the_gradient_of_fsq_is_that_of_the_latents_before_rounding():
    quantizer = FiniteScalarQuantizer((5, 5))
    latents = jnp.asarray([0.3, -0.7])
    gradient = jax.jacobian(lambda x: quantizer(x).codes)(latents)
    assert jnp.all(jnp.isfinite(gradient)) and jnp.any(gradient != 0)


def test_usage_counts_each_code_and_perplexity_is_the_number_of_equally_used_codes():
    counts = usage(jnp.asarray([[3, 1], [3, 1]]), 5)
    assert counts.tolist() == [0, 2, 0, 2, 0]
    np.testing.assert_allclose(perplexity(counts), 2.0, rtol=1e-6)
    for used, codes in itertools.product((1, 4), (4, 9)):
        np.testing.assert_allclose(perplexity(usage(jnp.arange(8) % used, codes)), used, rtol=1e-5)
