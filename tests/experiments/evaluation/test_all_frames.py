"""What the published code measures, over all frames with the reconstructed context, stands beside what is predicted."""

import dataclasses

import numpy as np
import pytest
from small import CONFIG, small_model

from experiments.data.recording import make_recording
from experiments.evaluation import output
from experiments.evaluation.command import PAPER
from experiments.evaluation.protocol import BETTER, Protocol, compare_metrics, measure
from experiments.evaluation.segments import Footage, RecordingSet, cut_segments

PROTOCOL = Protocol(videos=3, samples=1, horizon=2, batch=6, all_frames=True)


@pytest.fixture(scope="module")
def segments():
    rng = np.random.default_rng(0)
    made = [make_recording(rng.integers(256, size=(5, 16, 16, 3), dtype=np.uint8), np.zeros((5, 3))) for _ in range(3)]
    footage = tuple(Footage.of(f"{number}", recording) for number, recording in enumerate(made))
    return cut_segments([RecordingSet("here", footage)], CONFIG, 2, 3)


@pytest.fixture(scope="module")
def measured(segments):
    *_, found = measure(small_model(), segments, PROTOCOL, None)
    return found


def test_a_metric_as_published_is_the_mean_over_all_frames_of_a_video_its_context_tokenized_and_back(
    measured, segments
):
    model = small_model()
    context = CONFIG.tokenizer.context_frames
    remade = np.clip(np.asarray(model.detokenize(model.tokenize(segments.frames_vthwc)[0])[:, :context]), 0, 1)
    whole = np.concatenate([np.rint(remade * 255).astype(np.uint8), measured.futures_vfhwc], axis=1)
    for name, values in compare_metrics(segments.frames_vthwc, whole, None).items():
        assert measured.best_of_all_frames(name) == pytest.approx(float(values.mean()), rel=1e-4)
        assert measured.best(name) == pytest.approx(float(values[:, context:].mean()), rel=1e-4)


def test_the_best_sample_is_chosen_by_its_mean_over_all_frames(measured):
    sampled = {name: np.array([[[0.2, 0.4], [0.1, 0.1]]]) for name in BETTER}
    several = dataclasses.replace(
        measured, sampled=sampled, reconstructed={name: np.array([[0.6, 0.8]]) for name in BETTER}
    )
    assert several.best_of_all_frames("mse") == pytest.approx((0.6 + 0.8 + 0.1 + 0.1) / 4)
    assert several.best_of_all_frames("psnr") == pytest.approx((0.6 + 0.8 + 0.2 + 0.4) / 4)
    assert several.mean_of_all_frames("ssim") == pytest.approx((1.6 + 2.0) / 8)


def test_both_figures_stand_under_their_own_names(measured):
    found = output.summary(measured, PROTOCOL, {}, {"model": "m", "data": ["d"]})
    assert {"best_of_1", "all_frames_best_of_1", "all_frames_mean"} <= found["metrics"]["psnr"].keys()
    said = output.as_text(found)
    assert "as published, over all frames with the reconstructed context: best mse " in said
    without = output.summary(
        measured, dataclasses.replace(PROTOCOL, all_frames=False), {}, {"model": "m", "data": ["d"]}
    )
    assert "all_frames_mean" not in without["metrics"]["psnr"]
    assert PAPER.all_frames and not Protocol().all_frames
