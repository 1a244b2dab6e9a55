"""Scripted demonstrations: only successes, only valid actions, the same ones for a seed."""

import numpy as np
import pytest

from experiments.envs import rendering

rendering.choose_backend()

from agent.episodes import RandomActions  # noqa: E402
from agent.mbpo.imagination import SimulatorModel  # noqa: E402
from agent.replay import Episode, EpisodeError, Replay, save_episode  # noqa: E402
from experiments.envs.demonstrations import (  # noqa: E402
    collect,
    collect_random,
    load_folder,
    scripted_episode,
    scripted_scenes,
)
from experiments.envs.metaworld import MetaWorld  # noqa: E402
from experiments.errors import UsageError  # noqa: E402


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


def test_the_simulator_finds_the_scene_of_a_demonstration_again_and_follows_it_bit_for_bit(collected):
    replay, simulator = Replay(None, stack=2, steps=1, discount=0.9), MetaWorld("handle-press")
    for episode in load_folder(collected[0]):
        replay.add(episode, demonstration=True)
    contexts = replay.contexts(np.random.default_rng(0), 4, horizon=20)
    assert set(contexts.numbers_b.tolist()) == {0, 1}
    moments = list(zip(contexts.episodes, contexts.steps_b, strict=True))
    actions = np.stack([episode.actions[step : step + 20] for episode, step in moments])
    followed = SimulatorModel(simulator, lambda index: scripted_scenes(3, index)).follow(contexts, actions)
    for row, (episode, step) in enumerate(moments):
        np.testing.assert_array_equal(followed.frames_bfhwc[row], episode.frames[step + 1 : step + 21])
        np.testing.assert_array_equal(followed.rewards_bf[row], episode.rewards[step : step + 20])
    simulator.close()


def test_random_episodes_hold_their_actions_and_depend_on_seed_and_place_alone(env, tmp_path):
    kind = RandomActions(hold_agent_steps=10, reach=2.0)
    list(collect_random(env, tmp_path / "a", 2, seed=5, kind=kind, phase="held-out episodes"))
    list(collect_random(env, tmp_path / "b", 1, seed=5, kind=kind, phase="held-out episodes"))
    first, second = load_folder(tmp_path / "a")
    held = first.actions.reshape(10, 10, 4)
    assert (held == held[:, :1]).all() and len(np.unique(held[:, 0], axis=0)) == 10
    assert 0.3 < (np.abs(held[:, 0]) == 1).mean() < 0.8  # reach 2: about half are at a limit
    assert np.abs(first.actions - second.actions).max() > 0.1
    np.testing.assert_array_equal(load_folder(tmp_path / "b")[0].frames, first.frames)


@pytest.fixture
def every_other_fails(monkeypatch):
    """Scripted episodes without a simulator: what they hold is drawn from their generator, and half of them fail."""

    def episode(env, rng, noise):
        frames = rng.integers(256, size=(4, 8, 8, 3), dtype=np.uint8)
        actions = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
        return Episode(frames, actions, np.ones(3, np.float32), np.full(3, rng.random() < 0.5))

    monkeypatch.setattr("experiments.envs.demonstrations.scripted_episode", episode)


def test_only_successes_are_kept_and_every_try_is_told(every_other_fails, tmp_path):
    progress = list(collect(None, tmp_path, count=6, seed=0))
    assert all(episode.success for episode in load_folder(tmp_path))
    assert progress[-1].done == progress[-1].total == len(list(tmp_path.iterdir())) == 6
    assert progress[-1].metrics["tried"] == len(progress) > 6


def test_a_collection_that_was_stopped_ends_like_one_that_was_not(every_other_fails, tmp_path):
    list(collect(None, tmp_path / "whole", count=6, seed=0))
    list(collect(None, tmp_path / "stopped", count=2, seed=0))
    list(collect(None, tmp_path / "stopped", count=6, seed=0))
    (tmp_path / "stopped" / "003.npz").unlink()
    list(collect(None, tmp_path / "stopped", count=6, seed=0))
    whole, stopped = load_folder(tmp_path / "whole"), load_folder(tmp_path / "stopped")
    for one, other in zip(whole, stopped, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)


def test_noise_changes_the_actions_and_leaves_them_in_range(env):
    plain = scripted_episode(env, np.random.default_rng(0))
    noisy = scripted_episode(env, np.random.default_rng(0), noise=0.3)
    np.testing.assert_array_equal(plain.frames[0], noisy.frames[0])
    assert np.abs(noisy.actions - plain.actions).mean() > 0.05
    assert np.abs(noisy.actions).max() == 1


def test_a_policy_that_never_succeeds_is_given_up(env, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.envs.demonstrations.TRIES", 1)
    step = env.step
    monkeypatch.setattr(env, "step", lambda action: (*step(action)[:4], {"success": False}))
    with pytest.raises(UsageError, match="handle-press failed 1 times in a row at episode 1 of 1; try another seed"):
        list(collect(env, tmp_path, count=1, seed=0))
    assert not list(tmp_path.iterdir())


def test_pictures_of_another_size_are_named(every_other_fails, tmp_path, make_episode):
    list(collect(None, tmp_path, count=1, seed=0))
    save_episode(tmp_path / "other.npz", make_episode(side=16))
    with pytest.raises(EpisodeError, match=r"other\.npz: pictures \(16, 16, 3\)"):
        load_folder(tmp_path)


def test_an_empty_folder_and_a_damaged_file_are_named(collected, tmp_path):
    with pytest.raises(EpisodeError, match="no episode files"):
        load_folder(tmp_path)
    whole = (collected[0] / "000.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EpisodeError, match=r"half\.npz: truncated or damaged"):
        load_folder(tmp_path)
