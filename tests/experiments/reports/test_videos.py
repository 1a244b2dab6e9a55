import types

import av
import numpy as np
import pytest
from PIL import Image

from experiments.reports import videos


def frames(*shape: int, seed: int = 0) -> np.ndarray:
    """Smooth moving pictures uint8 [..., 3], as a codec likes them."""
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(shape[-2]), np.arange(shape[-1]))[..., None] * rng.uniform(1, 4, 3)
    phase = np.arange(np.prod(shape[:-2], dtype=int)).reshape(*shape[:-2], 1, 1, 1) * 7
    return (ramp + phase).clip(0, 255).astype(np.uint8)


def comparison(segments: int = 2, context: int = 2, future: int = 4) -> types.SimpleNamespace:
    real = frames(segments, future, 16, 16)
    return types.SimpleNamespace(
        context_frames=frames(segments, context, 16, 16),
        real_frames=real,
        imagined_frames=real.copy(),
        shuffled_actions_frames=frames(segments, future, 16, 16, seed=1),
    )


def test_an_mp4_shows_the_frames_it_was_given(tmp_path):
    given = frames(6, 32, 48)
    videos.write_mp4(tmp_path / "a.mp4", given, fps=7)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 7)
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert read.shape == given.shape
    assert np.abs(read.astype(float) - given).mean() < 4


def test_an_odd_side_gains_a_pixel_and_scaling_repeats_pixels(tmp_path):
    videos.write_mp4(tmp_path / "a.mp4", frames(2, 9, 11), scale=3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert (container.streams.video[0].height, container.streams.video[0].width) == (28, 34)
    small = frames(2, 5, 4)
    np.testing.assert_array_equal(videos.enlarge(small, 3)[:, ::3, 2::3], small)


def test_a_gif_repeats_for_ever_and_holds_every_frame(tmp_path):
    videos.write_gif(tmp_path / "a.gif", frames(5, 8, 8), fps=10, scale=2)
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.n_frames, image.size, image.info["loop"], image.info["duration"]) == (5, (16, 16), 0, 100)


def test_a_successful_episode_is_framed_in_another_colour_than_a_failed_one():
    dark = np.zeros((3, 4, 16, 16, 3), np.uint8)
    video = videos.evaluation_video(dark, [True, False, True], columns=2)
    good = (video == videos.GOOD).all(-1).sum(axis=(1, 2))
    bad = (video == videos.BAD).all(-1).sum(axis=(1, 2))
    assert len(video) == 4 and video.dtype == np.uint8
    assert (good > 0).all() and (bad > 0).all() and (good > 1.8 * bad).all()


def test_imagination_is_shown_from_the_first_given_frame_to_the_last_imagined_one():
    pair = comparison(segments=2, context=2, future=4)
    video = videos.imagination_video(pair)
    one = videos.imagination_video(comparison(segments=1, context=2, future=4))
    assert len(video) == 6 and video.shape[2] == one.shape[2] and video.shape[1] > 1.9 * one.shape[1]
    pair.imagined_frames = 255 - pair.imagined_frames
    changed = (videos.imagination_video(pair) != video).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, [False, False, True, True, True, True])


def test_the_error_map_is_black_where_nothing_differs_and_brighter_for_more():
    real = np.zeros((1, 2, 3, 3), np.uint8)
    imagined = real.copy()
    imagined[0, 0] = [[10] * 3, [40] * 3, [255] * 3]
    brightness = videos.error_map(imagined, real).astype(int).sum(-1)
    assert brightness[0, 1].max() < 10
    assert (np.diff(brightness[0, 0]) > 0).all()


def test_a_filmstrip_shows_the_steps_it_is_asked_for():
    narrow, wide = (videos.filmstrip(comparison(), steps=steps) for steps in ([1, 4], [1, 2, 4]))
    assert narrow.shape[0] == wide.shape[0] and narrow.shape[1] < wide.shape[1]
    assert videos.filmstrip(comparison(future=10)).shape[1] > wide.shape[1]
    with pytest.raises(ValueError, match="steps"):
        videos.filmstrip(comparison(), steps=[5])


def test_wrong_frames_are_refused_before_anything_is_written(tmp_path):
    for wrong in (
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 1), np.uint8),
    ):
        with pytest.raises(ValueError, match="expected uint8"):
            videos.write_mp4(tmp_path / "a.mp4", wrong)
    assert not list(tmp_path.iterdir())
