"""Folders of videos, Something-Something v2 among them."""

import json

import numpy as np
import pytest

from experiments.data.converters.something import CLASSES, SPLITS, open_something
from experiments.data.converters.source import ConvertOptions, shrink
from experiments.data.converters.video import video_frames
from experiments.data.recording import DataError
from experiments.data.segments import members


def test_every_video_of_a_folder_becomes_an_episode_and_a_broken_one_is_named(converted, film, numbers_of, tmp_path):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "b.webm").write_bytes(film(range(5), container="webm", codec="libvpx-vp9"))
    (folder / "a.mp4").write_bytes(film(range(12)))
    (folder / "c.mp4").write_bytes(film(range(12))[:400])
    (folder / "notes.txt").write_text("no video")
    store = converted("videos", folder, resolution=16)
    assert store.names == ["a.mp4", "deep/b.webm"]
    assert numbers_of(store.read(0).frames) == list(range(12))
    assert numbers_of(store.read(1).frames) == list(range(5))
    assert store.read(0).frames.shape[1:] == (16, 24, 3)
    assert store.signals.action_size == 0
    ((name, reason),) = store.skipped
    assert name == "c.mp4" and "Invalid" in reason


def test_a_folder_without_videos_is_refused(converted, tmp_path):
    with pytest.raises(DataError, match="holds no files ending in"):
        converted("videos", tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        converted("videos", tmp_path / "nowhere")


@pytest.mark.parametrize("start", [0, 3, 8, 11])
def test_a_part_of_a_video_starts_at_its_own_frame_whatever_the_key_frames(film, numbers_of, start):
    frames = video_frames(film(range(20)), 16, start / 10, 6)
    assert numbers_of(frames) == list(range(start, start + 6))


def test_a_video_that_is_too_short_for_its_part_is_refused(film):
    with pytest.raises(DataError, match=r"4 frames from 0\.6 s on, 6 are expected"):
        video_frames(film(range(10)), 16, 0.6, 6)


@pytest.mark.parametrize(("size", "result"), [((480, 640), (64, 85)), ((64, 64), (64, 64)), ((48, 64), (48, 64))])
def test_pictures_keep_their_shape_and_are_never_enlarged(size, result):
    assert shrink(np.zeros((*size, 3), np.uint8), 64).shape == (*result, 3)


@pytest.fixture
def something(tmp_path, film):
    """Four labelled videos, of which the last is not there, and one of a class that is not taken."""
    folder = tmp_path / "something"
    (folder / "videos").mkdir(parents=True)
    labels = {"Closing something": "5", "Holding something": "16", "Tearing something into two pieces": "149"}
    (folder / "something-something-v2-labels.json").write_text(json.dumps(labels))
    train = [
        {"id": "12", "template": "Closing [something]"},
        {"id": "7", "template": "Holding [something]"},
        {"id": "8", "template": "Tearing [something] into two pieces"},
    ]
    (folder / "something-something-v2-train.json").write_text(json.dumps(train))
    held = [{"id": "99", "template": "Holding [something]"}, {"id": "13", "template": "Closing [something]"}]
    (folder / "something-something-v2-validation.json").write_text(json.dumps(held))
    for number in (7, 8, 12, 13):
        film_of = film([number] * 16, container="webm", codec="libvpx-vp9")
        (folder / "videos" / f"{number}.webm").write_bytes(film_of)
    return folder


def test_of_something_something_the_chosen_classes_are_taken_and_a_missing_video_is_named(
    converted, something, numbers_of
):
    store = converted("something", something, resolution=16)
    assert store.names == ["7", "12", "13"]
    assert numbers_of(store.read(1).frames) == [12] * 16
    assert [name for name, _ in store.skipped] == ["99"]


def test_the_validation_videos_of_something_something_are_held_out(something):
    source = open_something(something, ConvertOptions())
    names = [episode.name for episode in source.episodes]
    splits = {split: [names[i] for i in members(names, split, held_out=source.held_out)] for split in SPLITS}
    assert splits == {"train": ["7", "12"], "validation": ["13", "99"]}


def test_95_classes_are_taken_and_a_missing_list_or_label_is_named(something):
    assert len(CLASSES) == 95
    labels = something / "something-something-v2-labels.json"
    labels.write_text(labels.read_text().replace("Holding", "Beholding"))
    with pytest.raises(DataError, match="table of labels lacks 'Holding something'"):
        open_something(something, ConvertOptions())
    (something / "something-something-v2-labels.json").unlink()
    with pytest.raises(DataError, match="lacks the set's list labels"):
        open_something(something, ConvertOptions())
