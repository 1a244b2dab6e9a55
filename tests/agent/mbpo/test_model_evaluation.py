"""The comparison that says whether a world model is real."""

import numpy as np

from agent.mbpo.model_evaluation import compare


def _frames(value: float, b: int = 2, f: int = 3) -> np.ndarray:
    return np.full((b, f, 4, 4, 3), round(value), np.uint8)


def test_errors_are_mean_squares_of_frames_in_zero_to_one_by_horizon():
    real = np.concatenate([_frames(51, f=1), _frames(102, f=1)], axis=1)
    comparison = compare(_frames(0, f=2), real, real, _frames(0, f=2), np.ones((2, 2)), np.zeros((2, 2)))
    np.testing.assert_allclose(comparison.mse_copy_last_f, [0.04, 0.16], rtol=1e-5)
    np.testing.assert_allclose(comparison.mse_imagined_f, 0)
    assert comparison.beats_copy_last
    assert comparison.beats_shuffled_actions
    assert comparison.reward_mae == 1


def test_a_model_that_ignores_actions_does_not_win_over_swapped_ones():
    imagined = _frames(60)
    comparison = compare(_frames(0, f=2), _frames(51), imagined, imagined, np.zeros((2, 3)), np.zeros((2, 3)))
    assert not comparison.beats_shuffled_actions


def test_moving_pixels_are_those_that_left_the_last_context_frame():
    real = _frames(0)
    real[:, :, 0, 0] = 255
    comparison = compare(_frames(0, f=2), real, _frames(0), _frames(0), np.zeros((2, 3)), np.zeros((2, 3)))
    assert comparison.moving_mse_copy_last == 1
    np.testing.assert_allclose(comparison.mse_copy_last, 1 / 16)


def test_segments_with_the_most_motion_are_shown_first():
    real = _frames(0, b=4)
    real[2] = 255
    comparison = compare(_frames(0, b=4), real, real, real, np.zeros((4, 3)), np.zeros((4, 3)), shown=1)
    assert comparison.real_frames.shape[0] == 1
    assert comparison.real_frames.max() == 255
