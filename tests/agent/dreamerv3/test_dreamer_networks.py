"""Layers against plain matrices, and sizes against the published code's."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.special import expit

from agent.dreamerv3 import pictures
from agent.dreamerv3.config import SIZES, ModelConfig
from agent.dreamerv3.layers import BlockLinear, RMSNorm
from agent.dreamerv3.networks import count, init_parameters, make_networks
from agent.dreamerv3.recurrence import recurrence
from world_model.twohot import decode

DEBUG = SIZES["debug"]


@pytest.fixture
def parameters(fresh):
    return fresh.parameters


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "published"),
    [
        ("1M", 686_458),
        ("12M", 10_492_618),
        ("25M", 23_487_018),
        ("50M", 41_646_986),
        ("100M", 93_463_626),
        ("200M", 165_942_538),
        ("400M", 372_887_178),
    ],
)
def test_a_size_has_as_many_parameters_as_the_published_code_makes(size, published):
    """Counted in the published code for 64 pixels and four action components; its names round upwards."""
    shapes = jax.eval_shape(functools.partial(init_parameters, SIZES[size]), jax.random.key(0))
    assert count(shapes) == published


def test_a_block_linear_map_is_a_dense_one_with_a_block_diagonal_kernel():
    map_ = hk.without_apply_rng(hk.transform(lambda x: BlockLinear(6, 3)(x)))
    x = normal(4, 12)
    made = map_.init(jax.random.key(0), x)
    (leaves,) = made.values()
    dense = block_diag(*np.asarray(leaves["kernel"]))
    assert dense.shape == (12, 6)
    made = jax.tree.map(lambda leaf: leaf + (leaf.ndim == 1), made)
    np.testing.assert_allclose(map_.apply(made, x), x @ dense + 1, rtol=1e-4, atol=1e-5)


def dense_layer(x, made, name, kernel):
    """A linear map, RMSNorm and SiLU in numpy."""
    y = x @ kernel + made[name]["bias"]
    y = y / np.sqrt(np.square(y).mean(-1, keepdims=True) + 1e-4) * made[f"{name}_norm"]["scale"]
    return y * expit(y)


def test_the_block_gru_is_a_dense_one_with_masked_kernels(parameters):
    config, made = DEBUG, jax.tree.map(np.asarray, parameters.recurrence)
    deter, stoch, action = np.tanh(normal(3, config.deter)), normal(3, config.stoch, config.classes), normal(3, 4) / 9
    inputs = {"deter": deter, "stoch": stoch.reshape(3, -1), "action": action}
    shared = np.concatenate([dense_layer(x, made, name, made[name]["kernel"]) for name, x in inputs.items()], -1)

    # Dense inputs are (state, shared): each block's kernel has rows for its own part of the state and for all shared.
    own, kernel = config.deter // config.blocks, made["block"]["kernel"]
    dense = np.concatenate([block_diag(*kernel[:, :own]), np.concatenate(list(kernel[:, own:]), -1)])
    hidden = dense_layer(np.concatenate([deter, shared], -1), made, "block", dense)
    gates = hidden @ block_diag(*made["gates"]["kernel"]) + made["gates"]["bias"]
    reset, candidate, update = (gates.reshape(3, config.blocks, 3, own)[:, :, i].reshape(3, -1) for i in range(3))
    update = expit(update - 1)
    expected = update * np.tanh(expit(reset) * candidate) + (1 - update) * deter
    found = make_networks(config).recurrence.apply(parameters.recurrence, deter, stoch, action)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_actions_beyond_their_range_count_as_its_border(parameters):
    step = hk.without_apply_rng(hk.transform(functools.partial(recurrence, DEBUG)))
    deter, stoch = normal(1, DEBUG.deter), normal(1, DEBUG.stoch, DEBUG.classes)
    wild, border = (step.apply(parameters.recurrence, deter, stoch, jnp.full((1, 4), a)) for a in (3.0, 1.0))
    np.testing.assert_array_equal(wild, border)


def test_rms_norm_leaves_a_root_mean_square_of_one_at_any_scale():
    norm = hk.without_apply_rng(hk.transform(lambda x: RMSNorm()(x)))
    x = normal(5, 64) * np.array([[1.0], [10.0], [100.0], [1.0], [3.0]], np.float32)
    y = norm.apply(norm.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(np.square(y).mean(-1), 1, rtol=1e-3)


def test_reward_and_value_are_zero_at_the_start(parameters):
    networks, features = make_networks(DEBUG), normal(3, DEBUG.features)
    for logits in (
        networks.reward.apply(parameters.reward, features),
        networks.critic.apply(parameters.critic, features),
    ):
        assert logits.shape == (3, DEBUG.bins)
        np.testing.assert_array_equal(decode(logits), 0)


def test_the_actor_starts_near_the_middle_and_wide(parameters):
    actions = make_networks(DEBUG).actor.apply(parameters.actor, normal(50, DEBUG.features))
    assert float(jnp.abs(actions.mean).max()) < 0.1
    np.testing.assert_allclose(actions.std, 0.1 + 0.9 * expit(2.0), atol=0.02)


def test_pictures_go_in_as_bytes_and_come_out_in_their_own_shape(parameters):
    networks, config = make_networks(DEBUG), DEBUG
    frames = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    tokens = networks.encoder.apply(parameters.encoder, frames)
    assert tokens.shape == (3, config.smallest**2 * config.depth * config.multipliers[-1])
    decoded = networks.decoder.apply(
        parameters.decoder, normal(3, config.deter), normal(3, config.stoch, config.classes)
    )
    assert decoded.shape == frames.shape and decoded.dtype == jnp.float32
    assert 0 <= float(decoded.min()) and float(decoded.max()) <= 1


def test_patches_keep_every_pixel_in_its_place():
    pixels = normal(2, 8, 12, 3)
    patches = pictures._as_patches(pixels, 4)
    np.testing.assert_array_equal(patches[1, 1, 2], pixels[1, 4:8, 8:12].ravel())
    np.testing.assert_array_equal(pictures._as_pixels(patches, 4), pixels)


def test_pictures_in_patches_come_out_in_their_own_shape():
    config = dataclasses.replace(DEBUG, patch=2, multipliers=(2, 4))

    def there_and_back(key):
        networks, parameters = make_networks(config), init_parameters(config, key)
        tokens = networks.encoder.apply(parameters.encoder, jnp.zeros((2, 16, 16, 3), jnp.uint8))
        state = jnp.zeros((2, config.deter)), jnp.zeros((2, config.stoch, config.classes))
        return tokens, networks.decoder.apply(parameters.decoder, *state)

    tokens, frames = jax.eval_shape(there_and_back, jax.random.key(0))
    assert tokens.shape == (2, 4 * 4 * 2 * 4)
    assert frames.shape == (2, 16, 16, 3)


@pytest.mark.parametrize(
    "wrong", [dict(blocks=7), dict(bins=40), dict(resolution=18), dict(patch=3), dict(depth=1, multipliers=(1, 1))]
)
def test_sizes_that_do_not_fit_each_other_are_refused(wrong):
    with pytest.raises(ValueError):
        dataclasses.replace(DEBUG, **wrong)


def test_the_default_is_the_published_size_for_visual_control():
    assert SIZES["200M"] == ModelConfig()
