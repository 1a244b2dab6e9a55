"""Augmentation: one draw per sequence, within its ranges, and nothing at all where the ranges are empty."""

import dataclasses

import numpy as np
import pytest

from experiments.data.augment import GREY, Augmentation, augment, centre_square, crop_and_colour, draw_box, draw_colours

NONE = Augmentation((1.0, 1.0), (1.0, 1.0), 0, 0, 0, 0)


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(256, size=(5, 24, 24, 3), dtype=np.uint8)


def test_empty_ranges_change_nothing(frames):
    np.testing.assert_array_equal(augment(frames, 24, NONE, np.random.default_rng(0)), frames)


def test_equal_frames_stay_equal_and_draws_differ(frames):
    still = np.broadcast_to(frames[:1], frames.shape)
    one = augment(still, 16, Augmentation(), np.random.default_rng(1))
    assert one.shape == (5, 16, 16, 3) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, np.broadcast_to(one[:1], one.shape))
    other = augment(still, 16, Augmentation(), np.random.default_rng(2))
    assert np.abs(one.astype(int) - other).mean() > 2


def test_a_crop_lies_in_the_picture_and_has_the_area_and_ratio_asked_for():
    rng = np.random.default_rng(0)
    for _ in range(500):
        left, upper, right, lower = draw_box(48, 64, Augmentation(), rng)
        assert 0 <= left < right <= 64 and 0 <= upper < lower <= 48
        area, ratio = (right - left) * (lower - upper) / 48**2, (right - left) / (lower - upper)
        assert 0.76 < area < 1 + 1e-6
        assert 0.9 - 1e-6 < ratio < 1.16


def test_a_crop_shows_its_part_of_the_picture():
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[:, :4, :4] = 200
    assert (crop_and_colour(picture, 4, (0, 0, 4, 4)) == 200).all()
    assert (crop_and_colour(picture, 4, (4, 4, 8, 8)) == 0).all()
    np.testing.assert_array_equal(centre_square(picture, 8), picture)
    assert centre_square(picture, 4)[0, 0, 0, 0] == 200 and centre_square(picture, 4)[0, 3, 3, 0] == 0


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        ({"brightness": 0.5}, lambda old, new: np.allclose(new / old, (new / old).mean(), atol=0.02)),
        ({"contrast": 0.5}, lambda old, new: abs((new @ GREY).mean() - (old @ GREY).mean()) < 0.5),
        ({"saturation": 0.5}, lambda old, new: np.allclose(new @ GREY, old @ GREY, atol=1)),
        ({"hue": 0.5}, lambda old, new: np.allclose(new @ GREY, old @ GREY, atol=1)),
    ],
)
def test_a_change_of_colours_keeps_what_it_should(kind, law):
    frames = np.random.default_rng(0).integers(100, 120, size=(3, 8, 8, 3), dtype=np.uint8)
    drawn = dataclasses.replace(NONE, **kind)
    new = crop_and_colour(frames, 8, (0, 0, 8, 8), draw_colours(frames, drawn, np.random.default_rng(3)))
    assert np.abs(new.astype(int) - frames).max() > 1
    assert law(frames.astype(np.float32), new.astype(np.float32))
