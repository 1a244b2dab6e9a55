"""The field's metrics against scikit-image, on real frames."""

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from experiments.envs import rendering

rendering.choose_backend()

from experiments.envs.metaworld import MetaWorld  # noqa: E402
from experiments.evaluation import metrics  # noqa: E402


@pytest.fixture(scope="module")
def frames():
    """float32 [6, 64, 64, 3], of one episode."""
    env = MetaWorld("plate-slide")
    found = [env.reset(seed=0)[0], *(env.step(np.array([0.5, 1, np.sin(t), 1]))[0] for t in range(5))]
    env.close()
    return np.stack(found).astype(np.float32) / 255


@pytest.fixture(scope="module")
def others(frames):
    """A later frame, one with noise, one that is darker, and so on: of each frame something like it."""
    noise = np.random.default_rng(0).normal(0, 0.05, frames.shape).astype(np.float32)
    return np.stack([frames[3], frames[1] + noise[1], 0.8 * frames[2], frames[3], frames[0], 1 - frames[5]])


def test_psnr_is_scikit_images(frames, others):
    expected = [
        peak_signal_noise_ratio(a, b, data_range=1) if (a != b).any() else 100
        for a, b in zip(frames, others, strict=True)
    ]
    np.testing.assert_allclose(metrics.psnr(frames, others), expected, rtol=1e-4)


def test_ssim_is_scikit_images_where_the_window_fits(frames, others):
    expected = [
        structural_similarity(
            a.astype(np.float64), b.astype(np.float64), data_range=1, channel_axis=-1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(frames, others, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(metrics.ssim(frames, others), expected, atol=2e-4)
    assert min(expected) < 0.3 and max(expected) > 0.99


def test_mse_is_scikit_images(frames, others):
    expected = [mean_squared_error(a, b) for a, b in zip(frames, others, strict=True)]
    np.testing.assert_allclose(metrics.mse(frames, others), expected, rtol=1e-5)


def test_a_repeated_frame_is_one_that_equals_the_one_before_in_every_pixel():
    before = np.zeros((2, 4, 4, 3), np.uint8)
    frames = np.zeros((2, 3, 4, 4, 3), np.uint8)
    frames[0, 1, 2, 2, 0] = 1  # differs, and so does the next
    frames[1] += 5  # moves once
    np.testing.assert_array_equal(metrics.repeats(before, frames), [[True, False, False], [False, True, True]])


def test_frames_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="window is 11 pixels wide"):
        metrics.ssim(np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 3), np.float32))
