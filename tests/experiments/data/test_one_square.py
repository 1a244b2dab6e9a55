"""From a stored picture to the model's square there is one way: training, validation, evaluate and predict see the
same."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from PIL import Image

import world_model
from experiments.data.augment import Augmentation, augment
from experiments.data.converters.source import shrink
from experiments.data.loader import DatasetSpec, Loader
from experiments.data.recording import make_recording
from experiments.data.store import Store
from experiments.data.writer import StoreWriter
from experiments.errors import UsageError
from experiments.evaluation import command, protocol
from experiments.pretraining import presets, validation
from experiments.pretraining.loop import Trainer
from world_model import WorldModel

FRAMES, HEIGHT, WIDTH = 6, 96, 160
DEBUG = presets.get("debug")
SIDE = DEBUG.world_model.tokenizer.resolution


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A set of pictures that are wider than high; every frame of every recording is another one."""
    folder = tmp_path_factory.mktemp("wide") / "set"
    with StoreWriter(folder, {}) as writer:
        for number in range(4):
            rng = np.random.default_rng(number)
            frames = rng.integers(256, size=(FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
            writer.add(f"{number}", make_recording(frames, rng.uniform(-1, 1, (FRAMES, 4)), np.zeros(FRAMES)))
        writer.finish()
    return folder


def middle(frames):
    """The largest square of the middle, made once more: cut, then shrunk."""
    left = (WIDTH - HEIGHT) // 2
    squares = (Image.fromarray(frame[:, left : left + HEIGHT]) for frame in frames)
    return np.stack([np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for square in squares])


def test_a_picture_that_is_not_square_is_the_same_in_training_validation_evaluate_and_predict(
    wide, tmp_path, ivideogpt, monkeypatch
):
    """Fault 10: training cropped it, all others squashed it."""
    store, spec = Store(wide), DatasetSpec(wide)
    expected = {name: middle(store.read(index).frames) for index, name in enumerate(store.names)}
    known = {frames.tobytes() for frames in expected.values()}
    config = dataclasses.replace(DEBUG, data=(spec,), augmentation=False)
    for split in ("train", "validation"):
        with_batches = Loader(config.loader(2), config.data, split)
        seen = {frames.tobytes() for batch in itertools.islice(with_batches, 2) for frames in batch.frames_bthwc}
        with_batches.close()
        assert seen and seen <= known, split
    params = world_model.init(config.world_model, jax.random.key(0)).params
    held_out = Trainer(config, params)._held_out
    assert {frames.tobytes() for frames_bthwc, *_ in held_out for frames in frames_bthwc} <= known
    judged = validation._episode(store.read(0), config.world_model)
    np.testing.assert_array_equal(judged.frames, expected[store.names[0]])
    WorldModel(config.world_model, params).save(tmp_path / "model")
    typed = ("--split", "all", "--data", wide, "--horizon", FRAMES - 2, "--videos", 4)
    evaluated = []

    def measured(model, segments, *_):
        evaluated.extend(segments.frames_vthwc)
        raise UsageError("seen")

    monkeypatch.setattr(command, "measure", measured)
    assert ivideogpt("evaluate", tmp_path / "model", *typed, "--out", tmp_path / "e").sentence.endswith("seen")
    assert {frames.tobytes() for frames in evaluated} == known
    monkeypatch.setattr(protocol, "predict_futures", lambda model, segments, *_: segments.frames_vthwc[:, 2:])
    assert ivideogpt("predict", tmp_path / "model", *typed, "--out", tmp_path / "out").code == 0
    with np.load(tmp_path / "out" / "predicted.npz") as file:
        assert {frames.tobytes() for frames in file["real"]} == known


def test_a_crop_of_all_of_a_square_picture_is_the_picture_that_is_tested_on():
    frames = np.random.default_rng(0).integers(256, size=(2, 96, 96, 3), dtype=np.uint8)
    whole = Augmentation((1.0, 1.0), (1.0, 1.0), 0, 0, 0, 0)
    square = augment(frames, 64, whole, np.random.default_rng(0))
    np.testing.assert_array_equal(square, np.stack([shrink(frame, 64) for frame in frames]))


def test_a_conversion_keeps_the_whole_picture_from_which_a_crop_is_cut_and_shrunk_once():
    """A crop of 57 pixels of a picture that was shrunk to 64 first was enlarged: blurrier than what is tested on."""
    stripes = np.zeros((1, 256, 256, 3), np.uint8)
    stripes[:, :, ::8] = stripes[:, :, 1::8] = stripes[:, :, 2::8] = stripes[:, :, 3::8] = 255
    crop = Augmentation((0.8, 0.8), (1.0, 1.0), 0, 0, 0, 0)
    sharp, blurred = (
        augment(np.stack([shrink(stripes[0], kept)]), 64, crop, np.random.default_rng(1)) for kept in (None, 64)
    )
    contrast, softer = (np.abs(np.diff(made[0, :, :, 0].astype(float), axis=1)).mean() for made in (sharp, blurred))
    assert contrast > 1.1 * softer
