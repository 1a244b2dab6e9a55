"""Frames and actions of another kind are refused with what was found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_model.checks import check_actions, check_frames

PICTURES = np.arange(2 * 3 * 4 * 4 * 3).reshape(2, 3, 4, 4, 3) % 256


@pytest.mark.parametrize(
    "frames",
    [
        PICTURES.astype(np.uint8),
        jnp.asarray(PICTURES, jnp.uint8),
        PICTURES / 255,
        (PICTURES / 255).astype(np.float32),
        jnp.asarray(PICTURES / 255, jnp.bfloat16),
        np.zeros((0, 4, 4, 3), np.float32),
    ],
)
def test_pictures_and_floats_from_0_to_1_are_frames(frames):
    check_frames(frames)


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        (PICTURES, "int64 from 0 to 255"),
        (PICTURES.astype(np.int32), "int32 from 0 to 255"),
        (PICTURES.astype(np.float32), "float32 from 0 to 255"),
        (PICTURES / 127.5 - 1, "float64 from -1 to 1"),
        (np.full((1, 2, 2, 3), np.nan, np.float32), "float32 from nan to nan"),
        (np.full((1, 2, 2, 3), np.inf, np.float32), "float32 from inf to inf"),
        (PICTURES > 100, "bool from 0 to 1"),
    ],
)
def test_frames_of_another_kind_are_refused_with_what_was_found(frames, found):
    """Fault 5: int64 frames and floats up to 255 gave a white video."""
    with pytest.raises(ValueError, match=rf"^the goal are {found}: expected uint8 from 0 to 255, or floats"):
        check_frames(frames, "the goal")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_actions_that_are_no_numbers_are_refused_with_their_place(bad):
    """Fault 5: they gave rewards of NaN."""
    actions = np.zeros((2, 3, 4), np.float32)
    check_actions(actions)
    actions[1, 2, 0] = actions[1, 2, 3] = bad
    for array in (actions, jnp.asarray(actions)):
        with pytest.raises(ValueError, match=r"that are not finite \(2 of them, the first at \[1, 2, 0\]\)"):
            check_actions(array)


def test_within_a_program_the_kind_alone_is_checked():
    def program(frames, actions):
        check_frames(frames)
        check_actions(actions)
        return frames.sum() + actions.sum()

    jax.jit(program)(jnp.full((1, 2, 2, 3), 7.0), jnp.full((1, 2), jnp.nan))
    with pytest.raises(ValueError, match="frames are int32"):
        jax.jit(program)(jnp.zeros((1, 2, 2, 3), int), jnp.zeros((1, 2)))
