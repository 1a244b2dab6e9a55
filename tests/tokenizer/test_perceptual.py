"""LPIPS against the same formula written out in numpy, and its place in training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer import OptimizerConfig, PerceptualWeights, TokenizerConfig, init, lpips, train_step
from tokenizer.losses import perceptual_loss
from tokenizer.perceptual import features

FAST = OptimizerConfig(learning_rate=1e-2, warmup_steps=0)
CONFIG = TokenizerConfig(
    resolution=16,
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
    dropout=0.0,
    perceptual_weight=0.5,
)


WIDTHS = ((3, 4), (4, 5), (5, 5, 4), (4, 6, 5), (5, 4, 6))


def made_up() -> PerceptualWeights:
    """Weights in the shape of VGG16 with LPIPS heads, only narrower."""
    rng = np.random.default_rng(0)
    blocks, heads, inputs = [], [], 3
    for row in WIDTHS:
        block = []
        for width in row:
            kernel = rng.normal(0, np.sqrt(2 / (9 * inputs)), (3, 3, inputs, width))
            block.append((kernel.astype(np.float32), rng.normal(0, 0.1, width).astype(np.float32)))
            inputs = width
        blocks.append(tuple(block))
        heads.append(rng.uniform(0, 1, inputs).astype(np.float32))
    return PerceptualWeights(tuple(blocks), tuple(heads))


def pictures(seed=0, side=16, count=2):
    return np.random.default_rng(seed).random((count, side, side, 3), dtype=np.float32)


def convolved(x, kernel, bias):
    """A picture [H, W, X], pixel by pixel."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out = np.empty((*x.shape[:2], len(bias)))
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            window = padded[row : row + 3, column : column + 3]
            out[row, column] = np.tensordot(window, kernel, axes=3) + bias
    return out


def numpy_features(weights, picture):
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    x, found = ((picture.astype(np.float64) * 2 - 1) - shift) / scale, []
    for number, block in enumerate(weights.blocks):
        if number > 0:
            h, w = x.shape[0] // 2, x.shape[1] // 2
            x = np.array([[x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((0, 1)) for j in range(w)] for i in range(h)])
        for kernel, bias in block:
            x = np.maximum(convolved(x, kernel, bias), 0)
        found.append(x)
    return found


def numpy_lpips(weights, a, b):
    total = 0.0
    for feature_a, feature_b, head in zip(
        numpy_features(weights, a), numpy_features(weights, b), weights.heads, strict=True
    ):
        unit_a, unit_b = (f / (np.sqrt((f**2).sum(-1, keepdims=True)) + 1e-10) for f in (feature_a, feature_b))
        total += ((unit_a - unit_b) ** 2 * head).sum(-1).mean()
    return total


@pytest.mark.parametrize("side", [16, 19])
def test_lpips_is_the_formula_written_out_in_numpy(side):
    weights, a, b = made_up(), pictures(1, side), pictures(2, side)
    for number, ours in enumerate(features(weights, jnp.asarray(a))):
        np.testing.assert_allclose(ours[0], numpy_features(weights, a[0])[number], rtol=1e-4, atol=1e-5)
    expected = [numpy_lpips(weights, *pair) for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(lpips(weights, jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-4)
    assert min(expected) > 0


def test_a_picture_is_at_distance_zero_from_itself_and_farther_from_a_noisier_one():
    weights, a = made_up(), jnp.asarray(pictures())
    noise = jax.random.normal(jax.random.key(0), a.shape)
    assert np.all(lpips(weights, a, a) == 0)
    near, far = lpips(weights, a, a + 0.02 * noise), lpips(weights, a, a + 0.2 * noise)
    assert np.all(near > 0) and np.all(far > near)
    np.testing.assert_array_equal(lpips(weights, a, a + 0.2 * noise), lpips(weights, a + 0.2 * noise, a))


def test_the_gradient_is_finite_at_equal_frames_and_where_no_feature_is_active():
    weights = made_up()
    silent = jax.tree.map(jnp.zeros_like, weights)
    a, b = jnp.asarray(pictures(1)), jnp.asarray(pictures(2))
    differentiated = jax.jit(jax.value_and_grad(lambda x, weights, other: lpips(weights, x, other).sum()))
    for case in ((weights, a), (silent, a), (silent, b)):
        value, gradient = differentiated(a, *case)
        assert value < 1e-12 and np.abs(gradient).max() < 1e-6  # rounding: both sides are compiled, not in the same way
    assert np.any(differentiated(a, weights, b)[1] != 0)


def test_frames_that_do_not_match_are_refused():
    with pytest.raises(AssertionError):
        lpips(made_up(), jnp.zeros((1, 16, 16, 3)), jnp.zeros((2, 16, 16, 3)))


# --- in training ------------------------------------------------------------------------------------------------------


def step(config: TokenizerConfig, perceptual: PerceptualWeights | None):
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    return train_step(config, FAST, init(config, FAST, jax.random.key(0)), frames, jax.random.key(1), perceptual)


def test_the_terms_belong_to_the_loss_and_reach_the_parameters():
    weights = made_up()
    state, metrics = step(CONFIG, weights)
    blind, without = step(CONFIG, weights.replace(heads=tuple(0 * head for head in weights.heads)))
    for name in ("context_perceptual", "future_perceptual"):
        assert metrics[name] > 0 and without[name] == 0
    terms = [metrics[f"{part}_{term}"] for part in ("context", "future") for term in TERMS]
    np.testing.assert_allclose(metrics["loss"], sum(terms), rtol=1e-5)
    changes = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, blind.params)
    assert max(jax.tree.leaves(changes)) > 1e-4


TERMS = ("reconstruction", "commitment", "perceptual")


def test_a_term_is_the_weighted_mean_over_frames_also_where_it_is_recomputed():
    weights, a, b = made_up(), jnp.asarray(pictures(1)), jnp.asarray(pictures(2))
    expected = 0.5 * lpips(weights, a, b).mean()
    for config in (CONFIG, dataclasses.replace(CONFIG, recompute=True)):
        np.testing.assert_allclose(perceptual_loss(config, weights, a[:, None], b[:, None]), expected, rtol=1e-5)


def test_a_weight_without_weights_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="no LPIPS weights were given: pass them as `perceptual`, or set"):
        step(CONFIG, None)
