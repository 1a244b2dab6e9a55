"""Laws of the replay: what comes out is what went in, stacked, summed and discounted as by hand."""

import dataclasses

import numpy as np
import pytest

from agent.mbpo.imagined import ImaginedReplay
from agent.replay import (
    EpisodeError,
    Replay,
    draw_segments,
    load_episode,
    n_step,
    rewards_of_actions,
    rewards_of_arriving,
    save_episode,
    segment,
    stack_frames,
)


def test_an_n_step_return_equals_the_sum_by_hand():
    rewards = np.array([1.0, 2.0, 4.0, 8.0], np.float32)
    assert n_step(rewards, 0, 3, 0.5) == (1 + 0.5 * 2 + 0.25 * 4, 0.125, 3)


def test_an_n_step_return_is_cut_at_the_end_and_bootstraps_from_the_last_frame():
    rewards = np.array([1.0, 2.0, 4.0, 8.0], np.float32)
    assert n_step(rewards, 2, 3, 0.5) == (4 + 0.5 * 8, 0.25, 4)
    assert n_step(rewards, 3, 3, 0.5) == (8.0, 0.5, 4)


def test_a_stack_ends_with_the_newest_frame_and_repeats_the_first_where_none_came_before(make_episode):
    frames = make_episode().frames
    assert stack_frames(frames, 5, 3)[:, 0, 0].tolist() == [[3] * 3, [4] * 3, [5] * 3]
    assert stack_frames(frames, 1, 3)[:, 0, 0].tolist() == [[0] * 3, [0] * 3, [1] * 3]


def test_every_transition_of_an_episode_is_consistent_with_it(make_episode):
    replay = Replay(None, stack=3, steps=3, discount=0.9)
    replay.add(make_episode(length=6))
    batch = replay.transitions(np.random.default_rng(0), 64)
    for i in range(64):
        start = int(batch.observations_bshwc[i, -1, 0, 0, 0])
        end = int(batch.next_observations_bshwc[i, -1, 0, 0, 0])
        assert end == min(start + 3, 6)
        assert batch.rewards_b[i] == pytest.approx(sum(0.9**k * (start + 1 + k) for k in range(end - start)), rel=1e-6)
        assert batch.discounts_b[i] == pytest.approx(0.9 ** (end - start), rel=1e-6)
        np.testing.assert_array_equal(batch.actions_ba[i], make_episode(length=6).actions[start])


def test_a_batch_holds_at_least_the_asked_share_of_demonstrations(make_episode):
    replay = Replay(None, stack=3, steps=3, discount=0.9)
    replay.add(make_episode(offset=100), demonstration=True)
    for _ in range(20):
        replay.add(make_episode())
    batch = replay.transitions(np.random.default_rng(0), 32, demonstration_share=0.5)
    assert batch.demonstrations_b[:16].all()
    np.testing.assert_array_equal(batch.demonstrations_b == 1, batch.observations_bshwc[:, 0, 0, 0, 0] >= 100)


def test_a_reward_of_a_segment_belongs_to_the_frame_it_arrives_at(make_episode):
    segments = draw_segments([make_episode(length=8)], np.random.default_rng(0), batch=32, length=4)
    times = segments.frames_bthwc[:, :, 0, 0, 0].astype(int)
    np.testing.assert_array_equal(np.diff(times, axis=1), 1)
    np.testing.assert_array_equal(segments.rewards_bt, times)  # reward t + 1 is earned on arriving at frame t + 1
    actions = make_episode(length=8).actions
    for row in range(32):
        np.testing.assert_array_equal(segments.actions_bta[row, :3], actions[times[row, 0] : times[row, 0] + 3])


def test_every_start_of_every_episode_is_drawn(make_episode):
    episodes = [make_episode(length=4), make_episode(length=5, offset=100)]
    segments = draw_segments(episodes, np.random.default_rng(0), batch=300, length=4)
    starts = np.unique(segments.frames_bthwc[:, 0, 0, 0, 0], return_counts=True)
    assert starts[0].tolist() == [0, 1, 100, 101, 102]
    assert starts[1].min() > 30


def test_segments_longer_than_every_episode_are_refused(make_episode):
    with pytest.raises(ValueError, match="no episode holds 12 frames; the longest holds 11"):
        draw_segments([make_episode()], np.random.default_rng(0), 1, 12)


def test_a_saved_episode_reads_back_bit_for_bit(tmp_path, make_episode):
    save_episode(tmp_path / "a.npz", make_episode())
    for name, value in dataclasses.asdict(load_episode(tmp_path / "a.npz")).items():
        np.testing.assert_array_equal(value, getattr(make_episode(), name))
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_truncated_file_is_named(tmp_path, make_episode, kept):
    path = tmp_path / "a.npz"
    save_episode(path, make_episode())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(EpisodeError, match=r"a\.npz: truncated or damaged"):
        load_episode(path)


def test_wrong_shapes_missing_keys_and_pickles_are_refused_by_name(tmp_path, make_episode):
    arrays = dataclasses.asdict(make_episode())
    path = tmp_path / "b.npz"
    np.savez(path, **(arrays | {"actions": arrays["actions"][:-1]}))
    with pytest.raises(EpisodeError, match=r"b\.npz: lengths disagree: 9 actions need frames \[10, H, W, 3\]"):
        load_episode(path)
    np.savez(path, frames=arrays["frames"])
    with pytest.raises(EpisodeError, match=r"b\.npz: the key 'actions' is missing"):
        load_episode(path)
    np.savez(path, **(arrays | {"frames": arrays["frames"].astype(np.float32)}))
    with pytest.raises(EpisodeError, match=r"b\.npz: 'frames' is float32"):
        load_episode(path)
    np.savez(path, **(arrays | {"rewards": np.array([None] * 10, dtype=object)}))
    with pytest.raises(EpisodeError, match=r"b\.npz"):
        load_episode(path)


def test_a_reloaded_replay_draws_the_same_batches(tmp_path, make_episode):
    replay = Replay(tmp_path, 3, 3, 0.9)
    replay.add(make_episode(offset=100), demonstration=True)
    replay.add(make_episode())
    replay.add(make_episode(offset=50))
    again = Replay(tmp_path, 3, 3, 0.9)
    again.reload(2, demonstrations=1)
    assert len(again.episodes) == 2
    again.add(make_episode(offset=50))
    one, other = (r.transitions(np.random.default_rng(1), 16, 0.5) for r in (replay, again))
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def filled(folder, make_episode, episodes: int, capacity: int | None = 2) -> Replay:
    """A demonstration (frames from 200 on) and episodes whose first frames are 0, 10, 20 ..."""
    replay = Replay(folder, 3, 3, 0.9, capacity)
    replay.add(make_episode(offset=200), demonstration=True)
    for index in range(episodes):
        replay.add(make_episode(offset=10 * index))
    return replay


def first_frames(replay: Replay) -> list[int]:
    return [int(episode.frames[0, 0, 0, 0]) for episode in replay.episodes]


def test_a_bounded_replay_keeps_the_demonstrations_and_the_newest_episodes(make_episode):
    assert first_frames(filled(None, make_episode, 5)) == [200, 30, 40]
    assert first_frames(filled(None, make_episode, 1)) == [200, 0]
    assert first_frames(filled(None, make_episode, 3, capacity=None)) == [200, 0, 10, 20]
    assert filled(None, make_episode, 9).bytes == filled(None, make_episode, 2).bytes


def test_a_bounded_replay_comes_back_as_it_was_at_any_earlier_count(tmp_path, make_episode):
    filled(tmp_path, make_episode, 6)
    for count in range(7):
        again = Replay(tmp_path, 3, 3, 0.9, 2)
        again.reload(1 + count, demonstrations=1)
        assert first_frames(again) == first_frames(filled(None, make_episode, count))


def test_pruning_for_a_checkpoint_removes_only_what_it_and_later_ones_do_not_need(tmp_path, make_episode):
    replay = filled(tmp_path, make_episode, 6)
    replay.prune(1 + 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i:06d}.npz" for i in (0, 3, 4, 5, 6)]
    for count in (4, 5, 6):
        again = Replay(tmp_path, 3, 3, 0.9, 2)
        again.reload(1 + count, demonstrations=1)
        assert first_frames(again) == first_frames(filled(None, make_episode, count))


def test_an_episode_that_a_killed_process_had_finished_is_the_next_one(tmp_path, make_episode):
    filled(tmp_path, make_episode, 3)
    again = Replay(tmp_path, 3, 3, 0.9, 2)
    again.reload(1 + 2, demonstrations=1)
    (found,) = again.next_on_disk(3)
    assert found.frames[0, 0, 0, 0] == 20
    again.add(found)
    assert again.next_on_disk(1) == []
    assert Replay(None, 3, 3, 0.9).next_on_disk(1) == []


def test_an_episode_with_an_action_that_is_no_number_is_refused(make_episode):
    bad = make_episode()
    bad.actions[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"actions within \[-1, 1\]"):
        bad.check()


def _rollout(fill: int):
    contexts = np.zeros((2, 3, 8, 8, 3), np.uint8) + np.array([0, 1, 2], np.uint8)[None, :, None, None, None]
    frames = np.zeros((2, 4, 8, 8, 3), np.uint8) + np.arange(3, 7, dtype=np.uint8)[None, :, None, None, None]
    return contexts, frames, np.full((2, 4, 4), fill, np.float32), np.tile(np.arange(1, 5, dtype=np.float32), (2, 1))


def test_imagined_transitions_start_from_the_real_stack_and_end_within_the_horizon():
    replay = ImaginedReplay(None, capacity=2, stack=3, steps=3, discount=0.5)
    replay.add(0, *_rollout(0))
    batch = replay.transitions(np.random.default_rng(0), 64)
    for i in range(64):
        newest = int(batch.observations_bshwc[i, -1, 0, 0, 0])
        end = int(batch.next_observations_bshwc[i, -1, 0, 0, 0])
        assert 2 <= newest <= 5
        assert end == min(newest + 3, 6)
        assert batch.observations_bshwc[i, :, 0, 0, 0].tolist() == [newest - 2, newest - 1, newest]
        assert batch.rewards_b[i] == pytest.approx(sum(0.5**k * (newest - 1 + k) for k in range(end - newest)))


def test_an_imagined_transition_weighs_by_how_sure_the_model_was_up_to_its_end(tmp_path):
    entropies = np.array([[0, 0, 0, 0], [0.5, 0.0, 1.0, 0.5]], np.float32)
    replay = ImaginedReplay(tmp_path, 2, stack=3, steps=2, discount=0.5, entropy_scale=2.0)
    contexts, frames, actions, rewards = _rollout(0)
    actions[1] = 1
    replay.add(0, contexts, frames, actions, rewards, entropies)
    batch = replay.transitions(np.random.default_rng(0), 64)
    expected = np.exp(-2 * np.array([0.5, 0.5, 1.5, 2.0]))
    ends = batch.next_observations_bshwc[:, -1, 0, 0, 0] - 3
    sure = batch.actions_ba[:, 0] == 0
    assert sure.any() and (batch.weights_b[sure] == 1).all()
    np.testing.assert_allclose(batch.weights_b[~sure], expected[ends[~sure]], rtol=1e-6)
    again = ImaginedReplay(tmp_path, 2, stack=3, steps=2, discount=0.5, entropy_scale=2.0)
    again.reload(1)
    np.testing.assert_array_equal(again.transitions(np.random.default_rng(0), 64).weights_b, batch.weights_b)
    with pytest.raises(EpisodeError, match=r"entropies, expected frames, actions and rewards"):
        ImaginedReplay(tmp_path, 2, stack=3, steps=2, discount=0.5).reload(1)


@pytest.mark.parametrize("td_lambda", [0.0, 0.5, 1.0])
def test_the_mean_target_of_an_imagined_transition_is_its_lambda_return(td_lambda):
    """The value of a frame is its grey level; frames 3 to 6 are imagined, at rewards of 1 to 4."""
    replay, discount = ImaginedReplay(None, 1, stack=3, steps=3, discount=0.9, td_lambda=td_lambda), 0.9
    replay.add(0, *_rollout(0))
    batch = replay.transitions(np.random.default_rng(0), 2000)
    targets = batch.rewards_b + batch.discounts_b * batch.next_observations_bshwc[:, -1, 0, 0, 0]
    expected = 6.0
    for frame in (5, 4, 3, 2):
        value = frame + 1
        expected = frame - 1 + discount * ((1 - td_lambda) * value + td_lambda * expected)
        of_frame = targets[batch.observations_bshwc[:, -1, 0, 0, 0] == frame]
        error = 1e-5 if td_lambda in (0, 1) else float(5 * of_frame.std() / len(of_frame) ** 0.5) + 1e-5
        assert of_frame.mean() == pytest.approx(expected, abs=error)


def test_imagined_replay_forgets_the_oldest_and_reloads_the_newest(tmp_path):
    replay = ImaginedReplay(tmp_path, capacity=2, stack=3, steps=3, discount=0.5)
    for index in range(6):
        replay.add(index, *_rollout(index))
    assert [int(r["actions"].max()) for r in replay.rollouts] == [4, 5]
    assert len(list(tmp_path.iterdir())) == 6  # an old checkpoint may need any of them, until it is gone
    replay.prune(4)
    assert len(list(tmp_path.iterdir())) == 4
    again = ImaginedReplay(tmp_path, capacity=2, stack=3, steps=3, discount=0.5)
    again.reload(5)
    assert [int(r["actions"].max()) for r in again.rollouts] == [3, 4]
    again.reload(4)
    assert [int(r["actions"].max()) for r in again.rollouts] == [2, 3]


def test_a_reward_is_earned_by_an_action_and_belongs_to_the_frame_that_it_arrives_at(make_episode):
    episode = make_episode(5)
    arriving = rewards_of_arriving(episode.rewards)
    assert arriving.tolist() == [0, 1, 2, 3, 4, 5] and len(arriving) == len(episode.frames)
    np.testing.assert_array_equal(rewards_of_actions(arriving), episode.rewards)
    np.testing.assert_array_equal(segment(episode, 1, 3)[2], arriving[1:4])


def damaged(path, content: bytes) -> list[bytes]:
    """A file that is cut short, empty, something else, or has one flipped bit."""
    flips = []
    for place in range(0, len(content), max(len(content) // 40, 1)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        flips.append(bytes(flipped))
    return [content[: len(content) // 2], content[:-1], b"", b"rubbish" * 100, *flips]


def test_an_episode_file_is_as_it_was_written_or_refused_in_one_sentence(tmp_path, make_episode):
    """Faults 8 and 14: one flipped bit ended in a zlib.error."""
    path = tmp_path / "0.npz"
    save_episode(path, make_episode())
    refused = 0
    for content in damaged(path, path.read_bytes()):
        path.write_bytes(content)
        try:
            for name, array in vars(load_episode(path)).items():  # bits that say nothing, such as a date's
                np.testing.assert_array_equal(array, vars(make_episode())[name])
        except EpisodeError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("kind", ["an array", "pickled", "numbers by name", "too few dimensions"])
def test_what_is_no_episode_is_refused_in_one_sentence(tmp_path, kind):
    """Fault 14: a plain .npy ended in a TypeError."""
    path = tmp_path / "0.npz"
    with open(path, "wb") as file:
        if kind == "an array":
            np.save(file, np.zeros(3))
        elif kind == "pickled":
            np.savez(file, frames=np.array([{}], object), actions=0, rewards=0, successes=0)
        elif kind == "numbers by name":
            np.savez(file, frames=1, actions=2, rewards=3, successes=4)
        else:
            np.savez(file, frames=np.zeros(3, np.uint8), actions=2.0, rewards=3, successes=4)
    with pytest.raises(EpisodeError) as error:
        load_episode(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [np.savez, np.savez_compressed])
def test_an_imagined_rollout_is_as_it_was_written_or_refused_in_one_sentence(tmp_path, kind):
    """Fault 8: one that was cut or missing ended in BadZipFile or FileNotFoundError."""
    replay = ImaginedReplay(tmp_path, capacity=2, stack=3, steps=3, discount=0.5)
    replay.add(0, *_rollout(7))
    path, refused = tmp_path / "000000.npz", 0
    for content in damaged(path, path.read_bytes()):
        path.write_bytes(content)
        again = ImaginedReplay(tmp_path, capacity=2, stack=3, steps=3, discount=0.5)
        try:
            again.reload(1)
        except EpisodeError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            refused += 1
        else:
            for name, array in replay.rollouts[0].items():
                np.testing.assert_array_equal(again.rollouts[0][name], array)
    assert refused > 20
    kind(path, frames=np.zeros(1))
    with pytest.raises(EpisodeError, match=r"holds frames, expected frames, actions and rewards"):
        replay.reload(1)
    path.unlink()
    with pytest.raises(EpisodeError, match=r"000000.npz: no such file"):
        replay.reload(1)
