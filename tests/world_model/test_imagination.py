"""Imagination as one program: against scoring, against itself step by step, and what it must not depend on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_model import WorldModel, imagine, init, rollout, tokenize
from world_model.params import tokenizer_of
from world_model.sampling import entropy

KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def future_actions(actions) -> np.ndarray:
    """[B, F, A] of three future frames."""
    return actions[:, 1:4]


@pytest.fixture(scope="module")
def greedy(model, frames, future_actions):
    return model.rollout(frames[:, :2], future_actions, KEY, temperature=0.0)


def test_shapes_types_and_ranges(config, greedy):
    assert greedy.frames.shape == (2, 3, 16, 16, 3)
    assert greedy.frames.dtype == jnp.uint8
    assert greedy.rewards.shape == (2, 3)
    assert greedy.tokens.shape == (2, 3, 4)
    assert greedy.tokens.dtype == jnp.int32
    ids = config.layout.future_ids
    assert ((greedy.tokens >= ids.start) & (greedy.tokens < ids.stop)).all()


def test_greedy_imagination_agrees_with_scoring_what_it_imagined(config, model, frames, actions, greedy):
    layout = config.layout
    context, _ = layout.split(model.tokenize(frames)[0])
    tokens = layout.join(context, greedy.tokens - layout.future_ids.start)
    logits, rewards = model.score(tokens, actions)
    predicting = layout.future_positions(3) - 1 - layout.context_length
    chosen = logits[:, predicting][..., layout.future_ids].argmax(-1) + layout.future_ids.start
    np.testing.assert_array_equal(chosen, greedy.tokens)
    np.testing.assert_allclose(rewards, greedy.rewards, rtol=1e-3, atol=1e-3)
    entropies = entropy(logits[:, predicting][..., layout.future_ids]).mean(-1)
    np.testing.assert_allclose(greedy.entropies_bf, entropies, rtol=1e-3, atol=1e-3)


def test_frames_are_what_the_tokenizer_makes_of_the_tokens_and_the_true_context(config, model, frames, greedy):
    tokenizer = tokenizer_of(config, model.params)
    context = tokenizer.encode_context(frames[:, :2].astype(np.float32) / 255)
    decoded = tokenizer.decode_future(greedy.tokens - config.layout.future_ids.start, context)
    expected = np.round(np.clip(decoded, 0, 1) * 255)
    # One grey level: rounding may fall either way.
    assert np.abs(expected - greedy.frames).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_playing_step_by_step_equals_the_rollout(model, frames, future_actions, temperature):
    state = model.reset(frames[:, :2])
    played = []
    for k, step_key in enumerate(jax.random.split(KEY, 3)):
        # A rollout splits a frame's key in one for the policy and one for the tokens.
        state, frame, reward = model.step(state, future_actions[:, k], jax.random.split(step_key)[1], temperature)
        assert frame.dtype == jnp.float32
        assert 0 <= frame.min() <= frame.max() <= 1
        played.append((np.round(frame * 255), reward))
    rolled = model.rollout(frames[:, :2], future_actions, KEY, temperature=temperature)
    for k, (frame, reward) in enumerate(played):
        assert np.abs(frame - rolled.frames[:, k]).max() <= 1
        np.testing.assert_allclose(reward, rolled.rewards[:, k], rtol=1e-3, atol=1e-3)


def test_a_policy_that_plays_given_actions_imagines_what_the_rollout_does(config, model, frames):
    def dreamer(scale, frames_bshwc, key):
        seen = frames_bshwc[:, -1, :3, 0, 0].astype(jnp.float32) / 255
        return jnp.tanh(scale * seen + jax.random.normal(key, seen.shape))

    policy = jax.tree_util.Partial(dreamer, jnp.float32(2.0))
    imagined = imagine(config, model.params, frames[:, :2], policy, KEY, 3)
    rolled = model.rollout(frames[:, :2], imagined.actions, KEY)
    assert (imagined.actions[:, 0] != imagined.actions[:, 1]).all()
    for name in ("frames", "actions", "rewards", "tokens"):
        np.testing.assert_array_equal(getattr(imagined, name), getattr(rolled, name))
    # New parameters of the policy are no new program.
    compiled = imagine._cache_size()
    imagine(config, model.params, frames[:, :2], jax.tree_util.Partial(dreamer, jnp.float32(0.5)), KEY, 3)
    assert imagine._cache_size() == compiled


def test_the_policy_sees_the_newest_frames_as_a_replay_would_hold_them(model, frames):
    def newest(frames_bshwc, key):
        assert frames_bshwc.dtype == jnp.uint8
        assert frames_bshwc.shape[1] == 4
        # The middle pixel of the oldest, the last but one and the newest frame of the stack.
        return frames_bshwc[:, jnp.array([0, 2, 3]), 8, 8, 0].astype(jnp.float32) / 255

    imagined = model.imagine(frames[:, :4], newest, KEY, 3)
    film = np.concatenate([frames[:, :4], imagined.frames], axis=1)[:, :, 8, 8, 0] / np.float32(255)
    for k in range(3):
        np.testing.assert_allclose(imagined.actions[:, k], film[:, [k, k + 2, k + 3]], atol=1e-6)
    # The model itself sees the last C frames only.
    other = frames.copy()
    other[:, :2] = 0
    again = model.rollout(other[:, :4], imagined.actions, KEY)
    np.testing.assert_array_equal(again.tokens, imagined.tokens)


def test_one_key_imagines_one_future_and_another_key_another(model, frames, future_actions, greedy):
    first, again, other = (model.rollout(frames[:, :2], future_actions, jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.tokens != other.tokens).any()


def test_top_k_of_one_imagines_the_greedy_future(model, frames, future_actions, greedy):
    imagined = model.rollout(frames[:, :2], future_actions, KEY, top_k=1)
    jax.tree.map(np.testing.assert_array_equal, imagined, greedy)


@pytest.fixture(scope="module")
def three(frames, future_actions) -> tuple[np.ndarray, np.ndarray]:
    """Context frames and actions of three rows, which two pieces hold with one to spare."""
    return np.concatenate([frames, frames[:1, ::-1]])[:, :2], np.concatenate([future_actions, -future_actions[:1]])


def test_a_batch_in_pieces_imagines_the_same_greedy_futures(model, three):
    whole = model.rollout(*three, KEY, temperature=0.0)
    pieces = model.rollout(*three, KEY, temperature=0.0, max_batch=2)
    _same_futures(whole, pieces)


def test_a_policy_sees_a_batch_in_pieces_and_acts_as_on_the_whole(model, three):
    seen = []

    def policy(frames_bshwc, key):
        seen.append(len(frames_bshwc))
        return jnp.tanh(frames_bshwc[:, -1, :3, 0, 0].astype(jnp.float32) / 255)

    whole = model.imagine(three[0], policy, KEY, 2, temperature=0.0)
    pieces = model.imagine(three[0], policy, KEY, 2, temperature=0.0, max_batch=1)
    assert set(seen) == {3, 1}
    _same_futures(whole, pieces)


def _same_futures(one, other):
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_allclose(one.rewards, other.rewards, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one.actions, other.actions, atol=0.01)
    # One grey level: sums of another batch size round differently.
    assert np.abs(one.frames.astype(int) - other.frames.astype(int)).max() <= 1


def test_rows_of_pieces_are_drawn_apart(model, frames, future_actions):
    alike = [np.repeat(x[:1], 2, axis=0) for x in (frames[:, :2], future_actions)]
    imagined = model.rollout(*alike, KEY, max_batch=1)
    assert (imagined.tokens[0] != imagined.tokens[1]).any()


def test_pieces_of_no_row_are_refused(model, frames, future_actions):
    with pytest.raises(ValueError, match="max_batch 0: expected at least 1, or None"):
        model.rollout(frames[:, :2], future_actions, KEY, max_batch=0)


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_another_action_leaves_earlier_imagined_frames_as_they_were(model, frames, future_actions, greedy, frame):
    other = future_actions.copy()
    other[:, frame] *= -1
    changed = model.rollout(frames[:, :2], other, KEY, temperature=0.0)
    np.testing.assert_array_equal(changed.frames[:, :frame], greedy.frames[:, :frame])
    np.testing.assert_array_equal(changed.rewards[:, :frame], greedy.rewards[:, :frame])
    assert (changed.rewards[:, frame] != greedy.rewards[:, frame]).all()


def test_a_shorter_horizon_is_the_beginning_of_a_longer_one(model, frames, future_actions, greedy):
    shorter = model.rollout(frames[:, :2], future_actions[:, :2], KEY, temperature=0.0)
    np.testing.assert_array_equal(shorter.tokens, greedy.tokens[:, :2])


@pytest.mark.slow
def test_without_actions_and_rewards_there_are_none(config, frames):
    transformer = dataclasses.replace(config.transformer, action_size=0, reward_head=False)
    model = WorldModel.init(dataclasses.replace(config, transformer=transformer), jax.random.key(0))
    imagined = model.rollout(frames[:, :2], None, KEY, horizon=2)
    assert imagined.rewards is None
    assert imagined.frames.shape == (2, 2, 16, 16, 3)
    assert model.score(model.tokenize(frames)[0])[1] is None
    _, frame, reward = model.step(model.reset(frames[:, :2], horizon=2), None, KEY)
    assert frame.shape == (2, 16, 16, 3)
    assert reward is None


@pytest.mark.parametrize("context_frames", [1, 3])
def test_other_numbers_of_context_frames_have_their_own_shapes(config, frames, context_frames):
    config = dataclasses.replace(config, tokenizer=dataclasses.replace(config.tokenizer, context_frames=context_frames))

    def everything(frames_bthwc, actions_bfa):
        params = init(config, KEY).params
        rolled = rollout(config, params, frames_bthwc[:, :context_frames], actions_bfa, KEY)
        return tokenize(config, params, frames_bthwc), rolled

    (tokens, labels), rolled = jax.eval_shape(everything, frames, np.zeros((2, 1, 3), np.float32))
    assert tokens.shape == labels.shape == (2, 17 * context_frames - 1 + 5 * (5 - context_frames))
    assert rolled.frames.shape == (2, 1, 16, 16, 3)


def test_what_does_not_fit_is_refused_in_one_sentence(config, model, frames):
    too_long = "a horizon of 7 frames takes 68 positions and the transformer has 64: the longest horizon that fits is 6"
    with pytest.raises(ValueError, match=too_long):
        model.rollout(frames[:, :2], np.zeros((2, 7, 3), np.float32), KEY)
    with pytest.raises(ValueError, match=too_long):
        model.imagine(frames[:, :2], lambda stack, key: jnp.zeros((2, 3)), KEY, 7)
    with pytest.raises(ValueError, match=too_long):
        model.reset(frames[:, :2], horizon=7)
    with pytest.raises(ValueError, match="1 frames to start from: the model's context takes 2"):
        model.rollout(frames[:, :1], np.zeros((2, 1, 3), np.float32), KEY)
    with pytest.raises(ValueError, match="needs a horizon"):
        model.rollout(frames[:, :2], None, KEY)


def test_an_imagination_without_room_says_so(model, frames):
    state = model.reset(frames[:, :2], horizon=1)
    state, _, _ = model.step(state, np.zeros((2, 3), np.float32), KEY)
    with pytest.raises(ValueError, match="full after 1 frames"):
        model.step(state, np.zeros((2, 3), np.float32), KEY)


def test_frames_and_actions_of_another_kind_are_refused_with_what_was_found(model, frames, actions):
    """Fault 5: int64 or 0..255 frames gave a white video, NaN actions NaN rewards, both without an error."""
    given, future, key = frames[:, :2], actions[:, 1:4], jax.random.key(0)
    for wrong, found in (
        (given.astype(np.int64), "int64 from 0 to 255"),
        (given.astype(np.float32), "float32 from 0 to"),
    ):
        with pytest.raises(ValueError, match=f"context_frames are {found}"):
            model.rollout(wrong, future, key)
        with pytest.raises(ValueError, match="context_frames are"):
            model.reset(wrong)
    with pytest.raises(ValueError, match="actions hold numbers that are not finite"):
        model.rollout(given, np.full_like(future, np.nan), key)
    with pytest.raises(ValueError, match="the action hold"):
        model.step(model.reset(given), np.full_like(future[:, 0], np.inf), key)
