"""The same weights for other context lengths and action sizes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tokenizer import published as published_tokenizer
from world_model import WorldModel, fit_params, pad_actions
from world_model.adapt import with_action_size, with_context_frames


@pytest.fixture
def saved(model, tmp_path):
    model.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def action_free(config, model) -> WorldModel:
    flat = {name: value for name, value in model.params.transformer.items() if name != "action"}
    transformer = dataclasses.replace(config.transformer, action_size=0)
    return WorldModel(
        dataclasses.replace(config, transformer=transformer),
        model.params.replace(transformer=type(model.params.transformer)(flat)),
    )


def test_nothing_asked_for_is_nothing_changed(model, saved):
    again = WorldModel.from_pretrained(saved, context_frames=2, action_size=3)
    assert again.config == model.config
    jax.tree.map(np.testing.assert_array_equal, model.params, again.params)


@pytest.mark.parametrize("context_frames", [1, 3])
def test_a_model_for_another_context_length_runs(model, saved, frames, actions, context_frames):
    changed = WorldModel.from_pretrained(saved, context_frames=context_frames)
    assert changed.config.tokenizer.context_frames == context_frames
    tokens, _ = changed.tokenize(frames[:, : context_frames + 1])
    logits, rewards = changed.score(tokens, actions)
    assert logits.shape == (2, 5, 46)
    assert rewards.shape == (2, 1)
    _, expected = published_tokenizer.with_context_frames(
        model.config.tokenizer, model.params.tokenizer, context_frames
    )
    jax.tree.map(np.testing.assert_array_equal, changed.params.tokenizer, expected)


def test_a_context_that_leaves_no_room_for_a_future_frame_is_refused(config, model):
    with pytest.raises(ValueError, match="4 context frames take 67 of the transformer's 64 positions"):
        with_context_frames(config, model.params, 4)
    with pytest.raises(ValueError, match="context_frames must be positive"):
        with_context_frames(config, model.params, 0)


def test_training_segments_grow_with_a_context_that_fills_them(config, model):
    roomy = dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, max_positions=256))
    changed, _ = with_context_frames(roomy, model.params, 5)
    assert changed.segment_frames == 6


def test_a_new_action_layer_changes_nothing_until_it_is_trained(model, action_free, frames):
    tokens, _ = action_free.tokenize(frames)
    config, params = with_action_size(action_free.config, action_free.params, 5)
    assert jax.tree.structure(params) == jax.tree.structure(model.params)
    many = np.random.default_rng(0).uniform(-1, 1, (2, 5, 5)).astype(np.float32)
    for ours, theirs in zip(WorldModel(config, params).score(tokens, many), action_free.score(tokens), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_model_for_larger_actions_predicts_the_same_for_padded_ones(config, model, frames, actions, tmp_path):
    tokens, _ = model.tokenize(frames)
    larger = WorldModel(*with_action_size(config, model.params, 7))
    larger.save(tmp_path / "larger")
    larger = WorldModel.from_pretrained(tmp_path / "larger")
    ours = larger.score(tokens, pad_actions(actions, 7))
    for one, another in zip(ours, model.score(tokens, actions), strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-5, atol=1e-5)


def test_an_action_size_cannot_shrink(config, model):
    with pytest.raises(ValueError, match="actions of 3 numbers: its action size can grow, not become 2"):
        with_action_size(config, model.params, 2)


def test_actions_are_padded_with_zeros_and_never_cut():
    actions = jnp.arange(1.0, 13.0).reshape(2, 2, 3)
    padded = pad_actions(actions, 5)
    np.testing.assert_array_equal(padded[..., :3], actions)
    np.testing.assert_array_equal(padded[..., 3:], 0)
    np.testing.assert_array_equal(pad_actions(actions, 3), actions)
    with pytest.raises(ValueError, match="actions of 3 numbers do not fit into an action size of 2: choose 3 or more"):
        pad_actions(actions, 2)


def test_weights_of_other_shapes_are_refused_with_the_array_that_differs(config, model):
    """Whatever the configurations say: the arrays themselves are compared with those that the model would have."""
    assert fit_params(config, model.params, config) is not None
    shorter = jax.tree.map(lambda leaf: leaf[:-1] if leaf.ndim == 2 else leaf, model.params.transformer)
    with pytest.raises(ValueError, match=r"these weights do not fit the transformer: \S+ is \(\d+, \d+\), expected"):
        fit_params(config, model.params.replace(transformer=shorter), config)
