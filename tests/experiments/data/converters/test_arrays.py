"""Episodes in `.npz` files: Meta-World's and the published layout of video data sets."""

import numpy as np
import pytest

from agent.replay import save_episode
from experiments.data.recording import DataError


def test_meta_world_episodes_bring_actions_and_the_rewards_of_arriving(converted, make_episode, tmp_path):
    episode = make_episode(length=6)
    save_episode(tmp_path / "in" / "000.npz", episode)
    store = converted("npz", tmp_path / "in")
    recording = store.read(0)
    np.testing.assert_array_equal(recording.frames, episode.frames)
    np.testing.assert_array_equal(recording.actions, [*episode.actions, [0] * 4])
    np.testing.assert_array_equal(recording.rewards, [0, *episode.rewards])


def test_published_episodes_read_like_ours(converted, tmp_path):
    rng = np.random.default_rng(0)
    stacks = rng.integers(256, size=(4, 9, 8, 8), dtype=np.uint8)
    actions, rewards = rng.uniform(-1, 1, (4, 4)).astype(np.float32), np.arange(4, dtype=np.float32)[:, None]
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "e.npz", observation=stacks, action=actions, reward=rewards, discount=rewards)
    recording = converted("npz", tmp_path / "in").read(0)
    np.testing.assert_array_equal(recording.frames, stacks[:, -3:].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(recording.actions[:3], actions[1:])
    np.testing.assert_array_equal(recording.rewards, [0, 1, 2, 3])


@pytest.fixture
def bair(tmp_path):
    """A file as the published code makes it of BAIR, and one that is cut short."""
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.integers(256, size=(5, 8, 8, 3)),
        "aux1_image": rng.integers(256, size=(5, 8, 8, 3)),
        "action": rng.normal(size=(5, 4)),
    }
    folder = tmp_path / "in"
    folder.mkdir()
    np.savez_compressed(folder / "traj_00001.npz", **arrays)
    (folder / "traj_00002.npz").write_bytes((folder / "traj_00001.npz").read_bytes()[:200])
    return folder, arrays


def test_files_of_video_sets_are_read_from_the_camera_that_is_used(converted, bair):
    folder, arrays = bair
    store = converted("npz", folder)
    np.testing.assert_array_equal(store.read(0).frames, arrays["aux1_image"])
    np.testing.assert_array_equal(store.read(0).actions, arrays["action"].astype(np.float32))
    assert [name for name, _ in store.skipped] == ["traj_00002.npz"]
    other = converted("npz", folder, image_key="image")
    np.testing.assert_array_equal(other.read(0).frames, arrays["image"])


def test_nothing_is_unpickled(converted, tmp_path):
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "e.npz", image=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="allow_pickle=False"):
        converted("npz", tmp_path / "in")


def test_a_wrong_key_says_which_there_are(converted, bair):
    with pytest.raises(DataError, match="it has no rgb, only action, aux1_image, image: choose with --image-key"):
        converted("npz", bair[0], image_key="rgb")
