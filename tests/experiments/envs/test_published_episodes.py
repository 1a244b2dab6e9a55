"""Files of the published code are episodes like ours."""

import numpy as np
import pytest

from agent.replay import EpisodeError, save_episode
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


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_an_action_that_is_no_number_is_refused(tmp_path, bad):
    """Fault 14: infinity was clipped to 1 and taken."""
    actions = np.zeros((4, 4), np.float32)
    actions[2, 1] = bad
    path = tmp_path / "odd.npz"
    np.savez(path, observation=np.zeros((4, 9, 8, 8), np.uint8), action=actions, reward=np.zeros(4, np.float32))
    with pytest.raises(EpisodeError, match="'action' holds numbers that are not finite"):
        read_episode(path)
