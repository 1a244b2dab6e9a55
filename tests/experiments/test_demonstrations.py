"""Scripted demonstrations: only successes, only valid actions, the same ones for a seed."""

import numpy as np
import pytest

from experiments import rendering

rendering.choose_backend()

from agent.replay import EpisodeError, load_episode  # noqa: E402
from experiments.demonstrations import collect, load_folder  # noqa: E402
from experiments.metaworld import MetaWorld  # noqa: E402


@pytest.fixture(scope="module")
def env():
    env = MetaWorld("handle-press")
    yield env
    env.close()


@pytest.fixture(scope="module")
def collected(env, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    return folder, list(collect(env, folder, count=2, seed=3))


def test_collected_episodes_succeed_and_their_actions_are_in_range(collected):
    folder, progress = collected
    assert (progress[-1].done, progress[-1].total) == (2, 2)
    episodes = load_folder(folder)
    assert len(episodes) == 2
    for episode in episodes:
        assert episode.success
        assert episode.length == 100
        assert np.abs(episode.actions).max() <= 1
        assert episode.frames.std() > 10


def test_a_seed_collects_the_same_episodes_and_an_unfinished_folder_is_completed(env, collected, tmp_path):
    folder, _ = collected
    list(collect(env, tmp_path, count=1, seed=3))
    list(collect(env, tmp_path, count=2, seed=3))
    for name in ("000.npz", "001.npz"):
        np.testing.assert_array_equal(load_episode(folder / name).frames, load_episode(tmp_path / name).frames)


def test_a_policy_that_never_succeeds_is_given_up(env, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.demonstrations.TRIES", 1)
    env.step_before = env.step
    monkeypatch.setattr(env, "step", lambda action: (*env.step_before(action)[:4], {"success": False}))
    with pytest.raises(RuntimeError, match="handle-press succeeded in 0 of 1 episodes, 1 are wanted"):
        list(collect(env, tmp_path, count=1, seed=0))
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_and_a_damaged_file_are_named(collected, tmp_path):
    with pytest.raises(EpisodeError, match="no episode files"):
        load_folder(tmp_path)
    whole = (collected[0] / "000.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EpisodeError, match=r"half\.npz: truncated or damaged"):
        load_folder(tmp_path)
