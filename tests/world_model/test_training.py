"""The transformer's training step."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer import OptimizerConfig
from world_model import TransformerState, WorldModel, init, init_transformer, token_train_step, transformer_train_step
from world_model.symlog import symexp, symlog
from world_model.training import losses

REWARDS = np.array([[9.0, 9.0, 0.0, 1.0, 20.0], [-9.0, 9.0, 3.0, 11.0, -4.0]], np.float32)


def test_the_loss_is_the_mean_over_everything_after_the_first_slot(config, model, frames, actions):
    tokens, labels = model.tokenize(frames)
    logits, rewards = model.score(tokens, actions)
    found = losses(config, model.params.transformer, tokens, jnp.asarray(actions), jnp.asarray(REWARDS), None)
    # By hand, one prediction at a time: the logits at a position are about the label one further.
    logs = np.asarray(jax.nn.log_softmax(logits))
    terms, right = [], []
    for b in range(len(tokens)):
        for position in range(tokens.shape[1] - 1):
            label = int(labels[b, position + 1])
            if label != -100:
                row = logs[b, position - config.layout.context_length]
                terms.append(-row[label])
                right += [row.argmax() == label] * (label != config.layout.future_slot)
    assert len(terms) == 2 * (3 * config.layout.frame_length - 1)
    assert len(right) == 2 * 3 * config.layout.tokens_per_future
    np.testing.assert_allclose(found["cross_entropy"], np.mean(terms), rtol=1e-5)
    np.testing.assert_allclose(found["token_accuracy"], np.mean(right), rtol=1e-5)
    expected = np.mean(np.square(symlog(rewards) - symlog(REWARDS[:, 2:])))
    np.testing.assert_allclose(found["reward_loss"], expected, rtol=1e-4)


def test_the_rewards_of_context_frames_are_not_known(config, model, frames, actions):
    tokens, _ = model.tokenize(frames)
    other = REWARDS.copy()
    other[:, :2] = 77
    one, another = (
        losses(config, model.params.transformer, tokens, jnp.asarray(actions), jnp.asarray(rewards), None)
        for rewards in (REWARDS, other)
    )
    assert one["reward_loss"] == another["reward_loss"]


def test_symexp_undoes_symlog():
    x = jnp.array([-300.0, -1.0, 0.0, 1e-3, 12.0])
    np.testing.assert_allclose(symexp(symlog(x)), x, rtol=1e-5)
    np.testing.assert_allclose(symlog(jnp.array([-(np.e - 1), np.e - 1])), [-1, 1], rtol=1e-6)


def test_training_learns_a_batch_and_leaves_the_tokenizer_alone(config, frames, actions):
    config = dataclasses.replace(
        config,
        transformer=dataclasses.replace(config.transformer, initial_std=0.05),
        transformer_optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=5),
    )
    state = init(config, jax.random.key(0))
    before = jax.tree.map(np.asarray, state.params.tokenizer)
    transformer, seen = state.transformer, []
    for i in range(60):
        transformer, metrics = transformer_train_step(
            config, transformer, state.tokenizer.params, frames, actions, REWARDS, jax.random.key(i)
        )
        seen.append(jax.tree.map(float, metrics))
    assert int(transformer.step) == 60
    assert seen[-1]["cross_entropy"] < 0.3 * seen[0]["cross_entropy"]
    assert seen[-1]["reward_loss"] < 0.3 * seen[0]["reward_loss"]
    assert seen[-1]["token_accuracy"] > 0.7
    np.testing.assert_allclose(seen[3]["loss"], seen[3]["cross_entropy"] + seen[3]["reward_loss"], rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, state.tokenizer.params))


@pytest.mark.slow
def test_computing_again_what_was_not_kept_changes_no_update(config, frames, actions):
    thrifty = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, recompute=True))
    tokens, key = WorldModel.init(config, jax.random.key(0)).tokenize(frames)[0], jax.random.key(1)
    updated = [
        token_train_step(each, init_transformer(each, key), tokens, jnp.asarray(actions), jnp.asarray(REWARDS), key)
        for each in (config, thrifty)
    ]
    chex.assert_trees_all_close(*updated, rtol=1e-4, atol=1e-5)


def test_segments_that_are_tokenized_already_give_the_same_update(config, model, frames, actions):
    tokens, _ = model.tokenize(frames)
    one, another = (init_transformer(config, jax.random.key(0)) for _ in range(2))
    key = jax.random.key(1)
    one, _ = transformer_train_step(config, one, model.params.tokenizer, frames, actions, REWARDS, key)
    another, _ = token_train_step(config, another, tokens, actions, REWARDS, key)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), one.params, another.params)


def test_one_key_gives_one_update_and_dropout_depends_on_it(config, model, frames, actions):
    tokens, _ = model.tokenize(frames)

    def cross_entropy(key):
        return losses(config, model.params.transformer, tokens, jnp.asarray(actions), jnp.asarray(REWARDS), key)[
            "cross_entropy"
        ]

    assert cross_entropy(jax.random.key(0)) == cross_entropy(jax.random.key(0))
    assert cross_entropy(jax.random.key(0)) != cross_entropy(jax.random.key(1))


def test_a_new_action_layer_is_zero_so_that_an_action_free_model_can_be_continued(config):
    state = init_transformer(config, jax.random.key(0))
    assert isinstance(state, TransformerState)
    assert not np.any(state.params["action"]["kernel"][...])
    assert not np.any(state.params["action"]["bias"][...])


def test_a_segment_longer_than_the_positions_is_refused(config, model):
    frames = np.zeros((1, 9, 16, 16, 3), np.uint8)
    state = jax.eval_shape(lambda: init_transformer(config, jax.random.key(0)))
    with pytest.raises(ValueError, match="a horizon of 7 frames takes 68 positions and the transformer has 64"):
        jax.eval_shape(
            lambda s: transformer_train_step(
                config, s, model.params.tokenizer, frames, np.zeros((1, 9, 3)), np.zeros((1, 9)), jax.random.key(0)
            ),
            state,
        )


def test_a_hidden_history_is_not_seen_and_without_a_key_nothing_is_hidden(config, model, frames, actions):
    config = dataclasses.replace(config, frame_masking=1e9)  # every frame, but with a draw of zero
    params, layout = model.params.transformer, config.layout
    tokens, _ = model.tokenize(frames)
    context, future = layout.split(tokens)
    other = layout.join(context, (future + 1) % layout.future_codes)

    def reward_loss(tokens, key):
        return losses(config, params, tokens, jnp.asarray(actions), jnp.asarray(REWARDS), key)["reward_loss"]

    key = jax.random.key(0)
    assert reward_loss(tokens, key) == reward_loss(other, key)
    assert abs(reward_loss(tokens, None) - reward_loss(other, None)) > 1e-3
