"""Attention in pieces is attention; dropout drops what it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_model.attention import PIECE, attend, attend_causally, drop


@pytest.mark.slow
@pytest.mark.parametrize("asked", [2 * PIECE + 9, PIECE + 1, PIECE, 3])
def test_a_long_sequence_in_pieces_is_attended_as_if_it_were_one(asked):
    length = 2 * PIECE + 9
    keys, values, queries = jax.random.normal(jax.random.key(0), (3, 2, 2, length, 4))
    queries = queries[:, :, length - asked :]
    allowed = np.arange(length - asked, length)[:, None] >= np.arange(length)

    def squares(attention):
        return lambda *arrays: jnp.sum(jnp.square(attention(*arrays)))

    whole, pieces = (
        jax.value_and_grad(squares(attention), argnums=(0, 1, 2))(queries, keys, values)
        for attention in (
            lambda q, k, v: attend(q, k, v, allowed, 0.0, None),
            lambda q, k, v: attend_causally(q, k, v, 0.0, None),
        )
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), whole, pieces)


def test_every_piece_drops_weights_of_its_own():
    queries = jnp.zeros((1, 1, 2 * PIECE, 1))
    values = jnp.ones((1, 1, 2 * PIECE, 1))
    mixed = attend_causally(queries, queries, values, 0.5, jax.random.key(0))[0, 0, :, 0]
    assert not np.array_equal(mixed[:PIECE], mixed[PIECE:])
    np.testing.assert_allclose(mixed[PIECE:].mean(), 1, atol=0.05)  # what is dropped is made up for on average


@pytest.mark.parametrize("width", [64, 65])
def test_dropout_zeroes_its_share_and_scales_the_rest(width):
    dropped = np.asarray(drop(jnp.ones((500, width)), 0.2, jax.random.key(0)))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1.25)}
    np.testing.assert_allclose((dropped == 0).mean(0), 0.2, atol=0.08)  # 500 draws of each place: four deviations
    np.testing.assert_allclose((dropped == 0).mean(), 0.2, atol=0.01)
