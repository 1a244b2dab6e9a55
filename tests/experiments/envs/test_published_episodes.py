"""Files of the published code are episodes like ours."""

import numpy as np

from agent.replay import save_episode
from experiments.envs.published_episodes import read_episode


def test_a_published_episode_drops_its_dummy_row_and_keeps_the_newest_frame(tmp_path):
    stack = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 9, 8, 8), np.uint8)
    stack[:, :6] = 200
    reward = np.array([[0], [1], [2], [25]], np.float32)
    np.savez(
        tmp_path / "p.npz", observation=stack, action=np.full((4, 4), 1.5, np.float32), reward=reward, discount=reward
    )
    episode = read_episode(tmp_path / "p.npz")
    assert episode.frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert episode.rewards.tolist() == [1, 2, 25]
    assert episode.actions.max() == 1
    assert episode.success


def test_our_own_files_are_read_by_the_same_function(tmp_path, make_episode):
    episode = make_episode()
    save_episode(tmp_path / "own.npz", episode)
    np.testing.assert_array_equal(read_episode(tmp_path / "own.npz").frames, episode.frames)
