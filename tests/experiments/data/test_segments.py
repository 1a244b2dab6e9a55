"""Segments: which frames they take, which actions and rewards go with them, and who may see which recording."""

import numpy as np
import pytest

from experiments.data.segments import cut, members, pick_frames


def test_a_split_depends_on_names_alone_and_shares_nothing():
    names = [f"recording-{i}" for i in range(1000)]
    held, train = members(names, "validation"), members(names, "train")
    assert len(held) == 10
    assert sorted([*held, *train]) == list(range(1000))
    turned = names[::-1]
    assert {turned[i] for i in members(turned, "validation")} == {names[i] for i in held}


@pytest.mark.parametrize(("count", "held"), [(1, 0), (2, 1), (3, 2), (30, 2), (200, 2), (1000, 10)])
def test_a_small_set_holds_two_for_validation_where_that_leaves_one_to_learn_from(count, held):
    """Fault 6: with fewer than 150 recordings one was held out, where an evaluation needs two."""
    names = [str(i) for i in range(count)]
    assert (len(members(names, "validation")), len(members(names, "train"))) == (held, count - held)
    assert len(members(names, "train", 0)) == count


@pytest.mark.parametrize(("length", "frames", "step"), [(100, 16, 3), (46, 16, 3), (16, 16, 1), (100, 1, 5)])
def test_a_segment_has_its_step_and_every_start_is_drawn(length, frames, step):
    rng = np.random.default_rng(0)
    drawn = [pick_frames(length, frames, step, rng) for _ in range(2000)]
    for taken in drawn:
        assert len(taken) == frames
        assert (np.diff(taken) == step).all()
    starts = {int(taken[0]) for taken in drawn}
    assert starts == set(range(length - (frames - 1) * step))


@pytest.mark.parametrize(("length", "step"), [(45, 2), (31, 2), (30, 1), (16, 1)])
def test_the_step_shrinks_in_a_recording_that_is_too_short(length, step):
    rng = np.random.default_rng(0)
    assert (np.diff(pick_frames(length, 16, 3, rng)) == step).all()


def test_the_last_frame_repeats_where_nothing_else_fits():
    np.testing.assert_array_equal(pick_frames(3, 6, 5, np.random.default_rng(0)), [0, 1, 2, 2, 2, 2])


def test_frames_bring_their_own_action_and_the_rewards_since_the_frame_before(make_store):
    store = make_store([60])
    segment = cut(store, 0, 5, 3, np.random.default_rng(1))
    steps = segment.frames[:, 0, 0, 1].astype(np.float32)
    np.testing.assert_array_equal(segment.actions[:, 0], steps)
    np.testing.assert_array_equal(segment.rewards[0], steps[0])
    np.testing.assert_array_equal(segment.rewards[1:], 3 * steps[1:] - 3)  # t + (t - 1) + (t - 2)


def test_where_the_last_frame_repeats_its_action_does_and_nothing_is_earned(make_store):
    segment = cut(make_store([3]), 0, 6, 1, np.random.default_rng(0))
    np.testing.assert_array_equal(segment.actions[:, 0], [0, 1, 2, 2, 2, 2])  # fault 13: these were 0
    np.testing.assert_array_equal(segment.rewards, [0, 1, 2, 0, 0, 0])
