"""Where tokens, slots, actions and rewards sit, against lists written by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from world_model import SequenceLayout

SMALL = SequenceLayout(context_frames=2, tokens_per_context=3, tokens_per_future=2, context_codes=10, future_codes=5)
PUBLISHED = SequenceLayout(2, 256, 16, 8192, 8192)

# Context codes 1 2 3, 4 5 6, 7 8 9; future codes 0 1, 2 3. Ids: future codes from 10 on, [S1] 15, [S2] 16.
BY_HAND = {
    1: [1, 2, 3, 16, 10, 11, 16, 12, 13],
    2: [1, 2, 3, 15, 4, 5, 6, 16, 10, 11, 16, 12, 13],
    3: [1, 2, 3, 15, 4, 5, 6, 15, 7, 8, 9, 16, 10, 11, 16, 12, 13],
}
LABELS_BY_HAND = {
    1: [-100] * 4 + [10, 11, 16, 12, 13],
    2: [-100] * 8 + [10, 11, 16, 12, 13],
    3: [-100] * 12 + [10, 11, 16, 12, 13],
}


def _layout(context_frames: int) -> SequenceLayout:
    return dataclasses.replace(SMALL, context_frames=context_frames)


@pytest.mark.parametrize("context_frames", [1, 2, 3])
def test_sequences_and_labels_are_those_written_by_hand(context_frames):
    layout = _layout(context_frames)
    context = jnp.arange(1, 1 + 3 * context_frames).reshape(1, context_frames, 3)
    future = jnp.arange(4).reshape(1, 2, 2)
    tokens = layout.join(context, future)
    assert tokens.dtype == jnp.int32
    assert tokens[0].tolist() == BY_HAND[context_frames]
    assert layout.labels(tokens)[0].tolist() == LABELS_BY_HAND[context_frames]
    assert layout.length(2) == len(BY_HAND[context_frames])
    assert layout.future_frames(tokens.shape[1]) == 2
    for part, again in zip((context, future), layout.split(tokens), strict=True):
        np.testing.assert_array_equal(part, again)


@pytest.mark.parametrize(
    ("context_frames", "context_slots", "slots", "rewards"),
    [(1, [], [3, 6], [5, 8]), (2, [3], [7, 10], [9, 12]), (3, [3, 7], [11, 14], [13, 16])],
)
def test_positions_are_those_written_by_hand(context_frames, context_slots, slots, rewards):
    layout = _layout(context_frames)
    assert layout.context_slot_positions().tolist() == context_slots
    assert layout.slot_positions(2).tolist() == slots
    assert layout.reward_positions(2).tolist() == rewards
    assert layout.context_length == slots[0]


def test_every_position_belongs_to_exactly_one_thing():
    layout = _layout(3)
    parts = [
        layout.context_positions(),
        layout.context_slot_positions(),
        layout.slot_positions(4),
        layout.future_positions(4),
    ]
    assert sorted(np.concatenate([part.ravel() for part in parts]).tolist()) == list(range(layout.length(4)))


def test_a_place_is_the_same_in_every_future_frame_and_no_other_positions():
    layout = _layout(2)
    places = np.asarray(layout.place(jnp.arange(layout.length(3))))
    assert places[: layout.context_length].tolist() == list(range(layout.context_length))
    frames = places[layout.context_length :].reshape(3, layout.frame_length)
    assert (frames == frames[0]).all()
    assert sorted({*places}) == list(range(layout.places))


def test_hidden_frames_keep_their_slots_and_everything_else():
    layout = _layout(2)
    context = jnp.arange(2 * 2 * layout.tokens_per_context).reshape(2, 2, -1) % layout.context_codes
    tokens = layout.join(context, jnp.ones((2, 3, layout.tokens_per_future), jnp.int32))
    seen = np.asarray(layout.hide_frames(tokens, jnp.array([[True, False, True], [False] * 3])))
    np.testing.assert_array_equal(seen[1], tokens[1])
    changed = np.flatnonzero(seen[0] != tokens[0])
    np.testing.assert_array_equal(changed, layout.future_positions(3)[[0, 2]].ravel())
    assert (seen[0, changed] == layout.context_slot).all()


def test_the_published_vocabulary_and_length():
    assert (PUBLISHED.vocabulary, PUBLISHED.context_slot, PUBLISHED.future_slot) == (16386, 16384, 16385)
    assert PUBLISHED.future_ids == slice(8192, 16384)
    assert PUBLISHED.length(14) == 257 * 2 + 17 * 14 - 1


@pytest.mark.parametrize(("context_frames", "expected"), [(1, [0, 1]), (2, [1, 2]), (3, [2, 3])])
def test_frame_k_takes_action_c_minus_one_plus_k_and_its_own_reward(context_frames, expected):
    layout = _layout(context_frames)
    times = jnp.arange(context_frames + 2)
    assert layout.future_actions(times[None, :, None], 2)[0, :, 0].tolist() == expected
    # The action after the last frame does not exist yet, and is not needed.
    assert layout.future_actions(times[None, :-1, None], 2)[0, :, 0].tolist() == expected
    assert layout.future_rewards(times[None])[0].tolist() == [context_frames, context_frames + 1]


def test_too_few_actions_are_refused():
    with pytest.raises(ValueError, match="2 future frames after 2 context frames need 3 actions, found 2"):
        SMALL.future_actions(jnp.zeros((1, 2, 4)), 2)


def test_a_sequence_that_is_no_whole_number_of_frames_is_refused():
    with pytest.raises(ValueError, match="11 tokens are no whole segment"):
        SMALL.future_frames(11)
    with pytest.raises(ValueError, match="6 tokens are no whole segment"):
        SMALL.future_frames(6)


def test_the_longest_horizon_is_the_last_that_fits():
    longest = PUBLISHED.longest_horizon(1024)
    assert PUBLISHED.length(longest) <= 1024 < PUBLISHED.length(longest + 1)
    PUBLISHED.check_horizon(longest, 1024)
    with pytest.raises(ValueError, match=f"the longest horizon that fits is {longest}$"):
        PUBLISHED.check_horizon(longest + 1, 1024)
