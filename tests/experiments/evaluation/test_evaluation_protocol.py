"""What is measured of a small model, and what the commands leave behind."""

import dataclasses
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
from small import CONFIG, small_model

from experiments import cli
from experiments.data.recording import DataError, recording
from experiments.data.writer import StoreWriter
from experiments.evaluation.protocol import Measured, Protocol, compared, measure
from experiments.evaluation.segments import cut_segments, named_recordings
from world_model import WorldModel

PROTOCOL = Protocol(videos=3, samples=4, horizon=2, batch=6)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def recordings():
    rng = np.random.default_rng(0)
    lengths = (8, 4, 3)
    return [
        (f"r{i}", recording(rng.integers(256, size=(t, 16, 16, 3), dtype=np.uint8), rng.uniform(-1, 1, (t, 3))))
        for i, t in enumerate(lengths)
    ]


@pytest.fixture(scope="module")
def segments(recordings):
    return cut_segments(recordings, CONFIG, 2, 3)


def result(*arguments) -> Measured:
    *progress, found = measure(*arguments)
    assert [event.done for event in progress] == [6, 12]
    return found


@pytest.fixture(scope="module")
def measured(model, segments):
    return result(model, segments, PROTOCOL, None)


def test_segments_are_spread_over_recordings_and_over_their_time(recordings, segments):
    assert segments.names == ("r0 from 0", "r0 from 4", "r1 from 0")  # r2 is too short
    np.testing.assert_array_equal(segments.frames_vthwc[1], recordings[0][1].frames[4:8])
    np.testing.assert_array_equal(segments.actions_vta[1], recordings[0][1].actions[4:8])


def test_the_best_sample_counts_for_each_metric_and_the_mean_over_all(measured):
    for name, best in (("mse", np.min), ("psnr", np.max), ("ssim", np.max)):
        of_videos = measured.sampled[name].mean(-1)
        assert of_videos.shape == (3, 4)
        assert len(np.unique(of_videos)) > 6  # samples differ
        assert measured.best(name) == pytest.approx(best(of_videos, axis=1).mean())
    np.testing.assert_allclose(measured.by_horizon("mse"), measured.sampled["mse"].mean((0, 1)))


def test_kept_futures_are_those_of_the_lowest_error(measured, segments):
    errors = compared(segments.frames_vthwc[:, 2:], measured.futures_vfhwc, None)["mse"].mean(-1)
    np.testing.assert_allclose(errors, measured.sampled["mse"].mean(-1).min(1), rtol=1e-5)


def test_repeating_is_the_last_context_frame(measured, segments):
    frames = segments.frames_vthwc.astype(np.float64) / 255
    expected = ((frames[:, 2:] - frames[:, 1:2]) ** 2).mean((2, 3, 4))
    np.testing.assert_allclose(measured.repeat["mse"], expected, rtol=1e-5)


def test_figures_depend_on_the_seed_alone(model, segments, measured):
    again = result(model, segments, PROTOCOL, None)
    np.testing.assert_array_equal(again.sampled["mse"], measured.sampled["mse"])
    other = result(model, segments, dataclasses.replace(PROTOCOL, seed=1), None)
    assert (other.sampled["mse"] != measured.sampled["mse"]).any()
    np.testing.assert_array_equal(other.greedy["mse"], measured.greedy["mse"])


def test_without_temperature_every_sample_is_the_most_likely_future(model, segments):
    cold = result(model, segments, dataclasses.replace(PROTOCOL, temperature=0.0), None)
    np.testing.assert_array_equal(cold.sampled["mse"], np.repeat(cold.greedy["mse"][:, None], 4, 1))
    assert (cold.swapped["mse"] != cold.greedy["mse"]).any()


def test_a_model_without_actions_has_no_answer_to_them(segments):
    plain = dataclasses.replace(CONFIG, transformer=dataclasses.replace(CONFIG.transformer, action_size=0))
    blind = cut_segments([("r", recording(np.zeros((4, 16, 16, 3), np.uint8)))], plain, 2, 1)
    *_, found = measure(WorldModel.init(plain, jax.random.key(0)), blind, dataclasses.replace(PROTOCOL, samples=1), None)
    assert found.swapped is None


def test_recordings_that_do_not_fit_are_refused_with_what_is_wrong(recordings):
    with pytest.raises(DataError, match="the longest has 8"):
        cut_segments(recordings, CONFIG, 20, 3)
    wide = [("wide", recording(np.zeros((4, 16, 16, 3), np.uint8), np.zeros((4, 5))))]
    with pytest.raises(DataError, match="'wide': actions of 5 numbers"):
        cut_segments(wide, CONFIG, 2, 1)
    with pytest.raises(DataError, match="'still' has no actions"):
        cut_segments([("still", recording(np.zeros((4, 16, 16, 3), np.uint8)))], CONFIG, 2, 1)
    with pytest.raises(DataError, match="no such data set"):
        named_recordings([pathlib.Path("nowhere")], "validation")


def command(monkeypatch, capsys, *typed) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ivideogpt", *map(str, typed)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, *capsys.readouterr()


def test_commands_write_figures_videos_and_a_page(model, recordings, tmp_path, monkeypatch, capsys):
    model.save(tmp_path / "model")
    with StoreWriter(tmp_path / "set", {}) as writer:
        for name, each in recordings:
            writer.add(name, each)
        writer.finish()
    on = [tmp_path / "model", "--data", tmp_path / "set", "--validation-share", "0.6", "--horizon", "2", "--videos", "2"]
    code, said, _ = command(monkeypatch, capsys, "evaluate", *on, "--samples", "2", "--without", "lpips", "--out", tmp_path / "out")
    assert code == 0 and "best" in said
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["protocol"]["samples"] == 2 and found["protocol"]["videos"] == 2
    assert set(found["metrics"]) >= {"mse", "psnr", "ssim"}
    assert found["not_measured"]["lpips"] == "left out by --without" and "lpips" not in found["metrics"]
    assert found["beyond"]["action_response"] > 0
    assert found["fvd"] is None and "at least 9 frames" in found["not_measured"]["fvd"]
    table = (tmp_path / "out" / "evaluation.csv").read_text().splitlines()
    assert len(table) == 3 and table[0].startswith("video,mse_best")
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert page.count("<video") == 2 and "http" not in page.replace("http://www.w3.org", "")
    code, said, _ = command(monkeypatch, capsys, "predict", *on, "--out", tmp_path / "predicted")
    assert code == 0 and "2 videos" in said
    with np.load(tmp_path / "predicted" / "predicted.npz") as file:
        assert file["predicted"].shape == (2, 2, 16, 16, 3)
    code, _, error = command(monkeypatch, capsys, "evaluate", tmp_path / "model", "--horizon", "2", "--out", tmp_path / "x")
    assert code == 2 and "say what to predict with --data" in error
