"""The goal-conditioned variant: the segment's last frame comes first, yet everything is given in the order of time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer import OptimizerConfig
from world_model import SequenceLayout, WorldModel, imagine, init_transformer, transformer_train_step
from world_model.adapt import with_context_frames
from world_model.goal import context_of

KEY = jax.random.key(3)
LAYOUT = SequenceLayout(2, 3, 2, 10, 5, goal_first=True)


@pytest.fixture(scope="module")
def towards(config, model) -> WorldModel:
    """The same weights, with a goal: five frames hold the first one, two to imagine, and the goal one step further."""
    return WorldModel(dataclasses.replace(config, goal_conditioned=True, segment_frames=5), model.params)


@pytest.fixture(scope="module")
def actions(actions) -> np.ndarray:
    """The first action is one that a policy can play without knowing the row."""
    actions = actions.copy()
    actions[:, 0] = 0.5
    return actions


@pytest.fixture(scope="module")
def imagined(towards, frames, actions):
    return towards.rollout(frames[:, :1], actions[:, :3], KEY, temperature=0.0, goal=frames[:, -1])


@pytest.mark.parametrize(("context_frames", "first"), [(2, 1), (3, 2)])
def test_with_the_goal_first_a_future_frame_keeps_its_own_time_action_and_reward(context_frames, first):
    layout = dataclasses.replace(LAYOUT, context_frames=context_frames)
    times = jnp.arange(context_frames + 3)[None]
    arranged = layout.arrange(times)
    assert arranged[0].tolist() == [context_frames + 2, *range(context_frames + 2)]
    assert layout.in_time(arranged)[0].tolist() == times[0].tolist()
    # The sequence's future: the frames of time `first` on, up to the one before the goal.
    assert arranged[0, context_frames:].tolist() == [first, first + 1, first + 2]
    assert layout.future_rewards(times)[0].tolist() == [first, first + 1, first + 2]
    assert layout.future_actions(times[..., None], 3)[0, :, 0].tolist() == [first - 1, first, first + 1]
    # Neither the action that leads to the goal nor the one after it is needed.
    assert layout.future_actions(times[:, :-2, None], 3)[0, :, 0].tolist() == [first - 1, first, first + 1]


def test_the_tokens_are_those_of_the_reordered_frames_and_come_back_in_time(model, towards, frames):
    reordered = np.concatenate([frames[:, -1:], frames[:, :-1]], axis=1)
    for found, expected in zip(towards.tokenize(frames), model.tokenize(reordered), strict=True):
        np.testing.assert_array_equal(found, expected)
    tokens, _ = towards.tokenize(frames)
    seen = np.asarray(model.detokenize(tokens))
    np.testing.assert_array_equal(towards.detokenize(tokens), np.concatenate([seen[:, 1:], seen[:, :1]], axis=1))


@pytest.mark.parametrize(("changed", "first_other_frame"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3)])
def test_an_action_reaches_the_frame_it_leads_to_and_later_ones_only(
    towards, frames, actions, changed, first_other_frame
):
    other = actions.copy()
    other[:, changed] *= -1
    tokens, _ = towards.tokenize(frames)
    (logits, rewards), (other_logits, other_rewards) = (towards.score(tokens, given) for given in (actions, other))
    length = towards.config.layout.frame_length * first_other_frame
    np.testing.assert_array_equal(logits[:, :length], other_logits[:, :length])
    np.testing.assert_array_equal(rewards[:, :first_other_frame], other_rewards[:, :first_other_frame])
    assert (logits[:, length:] != other_logits[:, length:]).any() == (first_other_frame < 3)


def test_imagination_agrees_with_scoring_the_segment_that_ends_at_the_goal(towards, frames, actions, imagined):
    layout = towards.config.layout
    context, _ = layout.split(towards.tokenize(frames)[0])
    logits, rewards = towards.score(layout.join(context, imagined.tokens - layout.future_ids.start), actions)
    predicting = layout.future_positions(3) - 1 - layout.context_length
    chosen = logits[:, predicting][..., layout.future_ids].argmax(-1) + layout.future_ids.start
    np.testing.assert_array_equal(chosen, imagined.tokens)
    np.testing.assert_allclose(rewards, imagined.rewards, rtol=1e-3, atol=1e-3)


def test_another_goal_imagines_another_future(towards, frames, actions, imagined):
    other = towards.rollout(frames[:, :1], actions[:, :3], KEY, temperature=0.0, goal=255 - frames[:, -1])
    assert (other.rewards != imagined.rewards).all()
    assert (other.frames != imagined.frames).any()


def test_rollouts_steps_policies_and_pieces_imagine_the_same_towards_a_goal(towards, frames, actions, imagined):
    state, goal = towards.reset(frames[:, :1], horizon=3, goal=frames[:, -1]), frames[:, -1]
    for k in range(3):
        state, _, reward = towards.step(state, actions[:, k], KEY, temperature=0.0)
        np.testing.assert_allclose(reward, imagined.rewards[:, k], rtol=1e-3, atol=1e-3)
    shapes = []

    def policy(stack_bshwc, key):
        shapes.append(stack_bshwc.shape[:2])
        return jnp.full((len(stack_bshwc), 3), 0.5)

    # The policy sees two true frames; of them the model sees the newest, and the goal.
    stack = np.stack([255 - frames[:, 0], frames[:, 0]], axis=1)
    dreamt = towards.imagine(stack, policy, KEY, 1, temperature=0.0, goal=goal, max_batch=1)
    assert set(shapes) == {(1, 2)}
    np.testing.assert_array_equal(dreamt.tokens[:, 0], imagined.tokens[:, 0])


def test_the_context_is_the_goal_and_the_newest_frames(towards, frames):
    three = dataclasses.replace(
        towards.config, tokenizer=dataclasses.replace(towards.config.tokenizer, context_frames=3)
    )
    context = np.round(np.asarray(context_of(three, frames[:, :4], frames[:, 4])) * 255)
    np.testing.assert_array_equal(context, frames[:, [4, 2, 3]])


def test_a_goal_is_asked_for_where_it_is_missing_and_refused_where_it_is_not_used(
    config, model, towards, frames, actions
):
    with pytest.raises(ValueError, match="predicts from a goal and the first frame: give the goal"):
        towards.rollout(frames[:, :2], actions[:, :3], KEY)
    with pytest.raises(ValueError, match="predicts from a goal and the first frame: give the goal"):
        imagine(towards.config, towards.params, frames, jax.tree_util.Partial(lambda stack, key: None), KEY, 2)
    with pytest.raises(ValueError, match="not goal-conditioned: leave the goal out"):
        model.reset(frames[:, :2], goal=frames[:, -1])
    with pytest.raises(ValueError, match="0 frames to start from: the model's context takes 1 beside the goal"):
        towards.reset(frames[:, :0], goal=frames[:, -1])
    with pytest.raises(ValueError, match="the goal and at least one frame to start from: context_frames is 1"):
        with_context_frames(towards.config, towards.params, 1)


def test_training_towards_a_goal_learns_a_batch(towards, frames, actions):
    config = dataclasses.replace(
        towards.config,
        transformer=dataclasses.replace(towards.config.transformer, initial_std=0.05),
        transformer_optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5),
    )
    rewards = np.array([[9.0, 0.0, 1.0, 20.0, 9.0], [-9.0, 3.0, 11.0, -4.0, 9.0]], np.float32)
    state, seen = init_transformer(config, KEY), []
    for i in range(60):
        state, metrics = transformer_train_step(
            config, state, towards.params.tokenizer, frames, actions, rewards, jax.random.key(i)
        )
        seen.append(jax.tree.map(float, metrics))
    assert seen[-1]["cross_entropy"] < 0.3 * seen[0]["cross_entropy"]
    assert seen[-1]["reward_loss"] < 0.3 * seen[0]["reward_loss"]


def test_a_folder_remembers_the_goal(towards, tmp_path):
    towards.save(tmp_path / "model")
    assert WorldModel.from_pretrained(tmp_path / "model").config == towards.config
    assert not WorldModel.from_pretrained(tmp_path / "model", goal_conditioned=False).config.goal_conditioned
