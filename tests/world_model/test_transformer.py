"""The transformer: causality, the cache, actions, sizes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from world_model import TransformerConfig, WorldModel, WorldModelConfig, sizes
from world_model.params import transformer_of


@pytest.fixture(params=[False, True], ids=["as published", "with place embeddings"])
def either(request, config, model):
    """The model as it is, and with places that matter."""
    if not request.param:
        return config, model
    transformer = dataclasses.replace(config.transformer, place_embedding=True)
    config = dataclasses.replace(config, transformer=transformer)
    placed = WorldModel.init(config, jax.random.key(0))
    table = placed.params.transformer["place"]["embedding"]
    table[...] = jax.random.normal(jax.random.key(1), table.shape)
    return config, placed


@pytest.mark.slow
def test_cached_decoding_equals_scoring_the_whole_sequence(either, frames, actions):
    config, model = either
    layout, transformer = config.layout, transformer_of(config, model.params)
    tokens, _ = model.tokenize(frames)
    logits, rewards = model.score(tokens, actions)
    embeddings = transformer.embed(tokens)
    slots = layout.slot_positions(3)
    acted = transformer.act(embeddings[:, slots], layout.future_actions(jnp.asarray(actions), 3))
    embeddings = embeddings.at[:, slots].set(acted)
    cache = transformer.prefill(embeddings[:, : layout.context_length], layout.length(3))
    hidden = []
    for position in range(layout.context_length, layout.length(3)):
        assert int(cache.length) == position
        last, cache = transformer.step(embeddings[:, position], cache)
        hidden.append(last)
    hidden = jnp.stack(hidden, axis=1)
    np.testing.assert_allclose(transformer.head(hidden), logits, atol=2e-4)
    last_tokens = layout.reward_positions(3) - layout.context_length
    np.testing.assert_allclose(
        jnp.sign(rewards) * jnp.log1p(jnp.abs(rewards)),
        transformer.reward_outputs(hidden[:, last_tokens])[..., 0],
        atol=1e-4,
    )


def test_room_left_in_the_cache_changes_nothing(config, model):
    transformer = transformer_of(config, model.params)
    embeddings = jax.random.normal(jax.random.key(0), (2, 9, config.transformer.width))
    outputs = []
    for positions in (9, 40):
        hidden, _ = transformer.step(embeddings[:, 8], transformer.prefill(embeddings[:, :8], positions))
        outputs.append(hidden)
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_leaving_out_the_beginning_of_the_last_layer_changes_nothing_after_it(config, model):
    transformer = transformer_of(config, model.params)
    embeddings = jax.random.normal(jax.random.key(0), (2, 9, config.transformer.width))
    np.testing.assert_allclose(transformer(embeddings)[:, 5:], transformer(embeddings, 5), atol=1e-5)


def test_later_frames_never_change_earlier_predictions(config, model, frames, actions):
    tokens, _ = model.tokenize(frames)
    codes, future_codes = config.layout.split(tokens)
    changed = config.layout.join(codes, future_codes.at[:, 1].add(1) % config.layout.future_codes)
    (logits, rewards), (other_logits, other_rewards) = (model.score(t, actions) for t in (tokens, changed))
    # Up to the second frame's slot, which predicts the first of the changed tokens.
    same = config.layout.frame_length + 1
    np.testing.assert_array_equal(logits[:, :same], other_logits[:, :same])
    np.testing.assert_array_equal(rewards[:, :1], other_rewards[:, :1])
    assert (jnp.abs(logits - other_logits)[:, same:].max(axis=(0, 2)) > 1e-3).all()


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_an_action_changes_its_own_frame_and_later_ones_only(config, model, frames, actions, frame):
    layout = config.layout
    tokens, _ = model.tokenize(frames)
    other = actions.copy()
    other[:, layout.context_frames - 1 + frame] *= -1
    (logits, rewards), (other_logits, other_rewards) = (model.score(tokens, a) for a in (actions, other))
    first = layout.frame_length * frame
    np.testing.assert_array_equal(logits[:, :first], other_logits[:, :first])
    np.testing.assert_array_equal(rewards[:, :frame], other_rewards[:, :frame])
    assert (jnp.abs(logits - other_logits)[:, first:].max(axis=(0, 2)) > 1e-3).all()
    assert (rewards[:, frame:] != other_rewards[:, frame:]).all()


def test_actions_before_the_first_future_frame_and_after_the_last_are_unused(config, model, frames, actions):
    tokens, _ = model.tokenize(frames)
    other = actions.copy()
    other[:, [0, -1]] = 1
    for one, another in zip(model.score(tokens, actions), model.score(tokens, other), strict=True):
        np.testing.assert_array_equal(one, another)


def test_the_published_sizes():
    assert round(sizes(WorldModelConfig())["transformer"] / 1e6) == 138
    medium = TransformerConfig(layers=24, width=1024, heads=16, feed_forward=4096)
    assert round(sizes(WorldModelConfig(transformer=medium))["transformer"] / 1e6) == 436


def test_sizes_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="width 32 over 3 heads"):
        TransformerConfig(width=32, heads=3)
    with pytest.raises(ValueError, match="leave no future"):
        dataclasses.replace(WorldModelConfig(), segment_frames=2)
