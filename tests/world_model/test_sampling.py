"""Drawing tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_model.sampling import draw, entropy, kth_largest, kth_largest_by_bisection, sample

LOGITS = jax.random.normal(jax.random.key(0), (64, 37))


def test_temperature_zero_takes_the_first_largest_logit():
    logits = jnp.array([[0.0, 3.0, 3.0], [5.0, -1.0, 2.0]])
    assert sample(logits, jax.random.key(0), 0.0, None).tolist() == [1, 0]


def test_top_k_of_one_is_greedy():
    for seed in range(5):
        drawn = sample(LOGITS, jax.random.key(seed), 1.0, 1)
        np.testing.assert_array_equal(drawn, LOGITS.argmax(-1))


def test_one_key_draws_the_same_and_another_key_another():
    first, again, other = (sample(LOGITS, jax.random.key(seed), 1.0, 10) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_only_the_k_largest_are_drawn():
    rank = jnp.argsort(jnp.argsort(-LOGITS, axis=-1), axis=-1)
    for seed in range(8):
        drawn = sample(LOGITS, jax.random.key(seed), 2.0, 5)
        assert jnp.take_along_axis(rank, drawn[:, None], axis=-1).max() < 5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax_at_the_temperature(temperature):
    row = jnp.array([0.0, 1.0, -1.0, 2.0, 0.5])
    drawn = sample(jnp.broadcast_to(row, (40_000, 5)), jax.random.key(1), temperature, None)
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 40_000, jax.nn.softmax(row / temperature), atol=0.01)


def test_what_is_left_out_is_never_drawn_even_at_the_ends():
    logits = jnp.zeros((20_000, 4))
    kept = jnp.array([False, True, True, False])
    drawn = draw(logits, jnp.broadcast_to(kept, logits.shape), jax.random.key(2))
    assert set(np.unique(drawn).tolist()) == {1, 2}


def test_entropy_is_the_logarithm_of_how_many_are_equally_likely():
    none = -np.inf
    logits = jnp.array([[0.0, 0, 0, 0], [5.0, 5.0, none, none], [1.0, none, none, none]])
    np.testing.assert_allclose(entropy(logits), [np.log(4), np.log(2), 0], atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 17, 37])
def test_bisection_finds_the_same_entry_as_sorting(k):
    rows = jnp.concatenate([LOGITS, -jnp.abs(LOGITS), jnp.zeros_like(LOGITS), 1e30 * LOGITS, jnp.round(LOGITS)])
    expected = jnp.sort(rows, axis=-1)[:, -k]
    np.testing.assert_array_equal(kth_largest_by_bisection(rows, k), expected)
    np.testing.assert_array_equal(kth_largest(rows, k), expected)
    np.testing.assert_array_equal(jax.lax.top_k(rows, k)[0][:, -1], expected)


@pytest.mark.parametrize(("temperature", "top_k"), [(-1.0, 10), (1.0, 0)])
def test_impossible_settings_are_refused(temperature, top_k):
    with pytest.raises(ValueError, match="temperature"):
        sample(LOGITS, jax.random.key(0), temperature, top_k)
