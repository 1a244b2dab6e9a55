"""`predict` writes as many futures of a clip as are asked for, as MP4 or GIF."""

import numpy as np
import pytest
from PIL import Image
from small import CONFIG, small_model

from agent.replay import save_episode
from experiments.evaluation import protocol


@pytest.fixture
def predict(make_episode, tmp_path, ivideogpt, monkeypatch):
    """Run the command on two episodes; a future is all of one grey, which its seed says."""

    def grey(model, segments, actions, settings, temperature):
        assert actions is segments.actions_vta and temperature == settings.temperature
        return np.full((len(segments.names), settings.horizon, 16, 16, 3), 10 * (settings.seed + 1), np.uint8)

    monkeypatch.setattr(protocol, "predict_futures", grey)
    small_model().save(tmp_path / "model")
    for index in range(2):
        episode = make_episode(8, side=16)
        save_episode(tmp_path / "episodes" / f"{index}.npz", episode.__class__(
            episode.frames, episode.actions[:, : CONFIG.transformer.action_size], episode.rewards, episode.successes
        ))  # fmt: skip

    def run(*typed):
        words = ("--data", tmp_path / "episodes", "--horizon", 2, "--videos", 2, "--out", tmp_path / "out")
        found = ivideogpt("predict", tmp_path / "model", *words, *typed)
        assert found.code == 0, found.err
        with np.load(tmp_path / "out" / "predicted.npz") as file:
            return file["predicted"], sorted(path.name for path in (tmp_path / "out" / "videos").iterdir())

    return run


def test_samples_are_rows_of_a_clip_and_the_first_is_the_same_however_many(predict, tmp_path):
    predicted, names = predict("--samples", 3, "--format", "gif", "--seed", 4)
    assert names == ["000.gif", "001.gif"] and predicted.shape == (2, 3, 2, 16, 16, 3)
    assert [int(sample[0, 0, 0, 0]) for sample in predicted[0]] == [50, 60, 70]
    with Image.open(tmp_path / "out" / "videos" / "000.gif") as clip:
        assert clip.n_frames == 4 and clip.height > 1.5 * clip.width * 0.5
        height = clip.height
    one, names = predict("--seed", 4)
    assert {"000.mp4", "001.mp4"} < set(names) and one.shape == (2, 2, 16, 16, 3) and (one == 50).all()
    predict("--format", "gif")
    with Image.open(tmp_path / "out" / "videos" / "000.gif") as clip:
        assert 2 * clip.height < height
