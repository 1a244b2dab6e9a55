import jax
import numpy as np
import pytest

from experiments.runs.fingerprint import fingerprint


def state(**changes) -> dict:
    return {"w": np.zeros((2, 3), np.float32), "key": jax.random.key(1), "count": 3, "on": True} | changes


def flipped() -> np.ndarray:
    bits = np.zeros((2, 3), np.uint32)
    bits[1, 2] = 1 << 31  # minus zero, which equals zero
    return bits.view(np.float32)


def test_equal_states_have_one_fingerprint_whatever_holds_the_arrays():
    assert fingerprint(state()) == fingerprint(state(w=jax.numpy.zeros((2, 3))))
    assert len(fingerprint(state())) == 64
    assert fingerprint(dict(reversed(state().items()))) == fingerprint(state())


@pytest.mark.parametrize(
    "change",
    [
        {"w": flipped()},
        {"w": np.zeros((3, 2), np.float32)},
        {"w": np.zeros((2, 3), np.int32)},
        {"key": jax.random.key(2)},
        {"count": 4},
        {"on": False},
        {"more": 0},
    ],
)
def test_a_single_bit_a_shape_a_dtype_a_key_a_number_or_a_name_changes_it(change):
    assert fingerprint(state(**change)) != fingerprint(state())
