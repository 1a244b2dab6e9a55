"""Reward networks beside the head: they agree where they have learned, change nothing else, and are saved."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import CONFIG, FRAMES_CONFIG, small_model

from tokenizer import OptimizerConfig
from world_model import (
    TransformerConfig,
    WorldModel,
    fit_params,
    init_transformer,
    transformer_train_step,
    with_reward_head,
)
from world_model.params import tokenizer_of
from world_model.reward_ensemble import RewardEnsemble
from world_model.symlog import symexp
from world_model.training import draw_frames, frame_losses, frame_targets, losses, optimizer_of


def with_ensemble(config, size):
    return dataclasses.replace(config, transformer=dataclasses.replace(config.transformer, reward_ensemble=size))


@pytest.fixture(scope="module", params=[CONFIG, FRAMES_CONFIG], ids=["tokens", "frames"])
def plain(request) -> WorldModel:
    return small_model() if request.param is CONFIG else WorldModel.init(request.param, jax.random.key(0))


@pytest.fixture(scope="module")
def unsure(plain) -> WorldModel:
    """The same model, taken for three networks more."""
    wanted = with_ensemble(plain.config, 3)
    return WorldModel(wanted, fit_params(plain.config, plain.params, wanted))


def test_they_agree_where_they_have_learned_and_differ_elsewhere():
    """Features of half of all directions are seen; the rewards are far from what the networks say at first."""
    config = TransformerConfig(width=8, heads=2, reward_head=True, reward_ensemble=4)
    ensemble = RewardEnsemble(config, rngs=nnx.Rngs(0))
    graph, params = nnx.split(ensemble)
    rng = np.random.default_rng(0)
    seen = jnp.asarray(np.abs(rng.normal(size=(256, 8))), jnp.float32)
    rewards = 3 + seen @ jnp.arange(8.0)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state):
        loss, gradients = jax.value_and_grad(lambda p: nnx.merge(graph, p).loss(seen, rewards))(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss

    state = optimizer.init(params)
    for _ in range(600):
        params, state, loss = step(params, state)
    learned = nnx.merge(graph, params)
    assert loss < 0.01
    of_seen, of_others = learned.spread(seen).mean(), learned.spread(-seen).mean()
    assert of_seen / rewards.mean() < 0.1 and of_others > 5 * of_seen


def test_the_spread_is_the_standard_deviation_of_rewards_in_their_own_units():
    ensemble = RewardEnsemble(
        TransformerConfig(width=8, heads=2, reward_head=True, reward_ensemble=3), rngs=nnx.Rngs(1)
    )
    features = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    inner, outer = (
        {name: np.asarray(getattr(layer, name)) for name in ("kernel", "bias")}
        for layer in (ensemble.inner, ensemble.outer)
    )
    said = []
    for one in range(3):
        hidden = features @ inner["kernel"][one] + inner["bias"][one]
        hidden = hidden / (1 + np.exp(-hidden))
        said.append((hidden @ outer["kernel"][one] + outer["bias"][one])[..., 0])
    np.testing.assert_allclose(ensemble.outputs(features), np.stack(said, axis=-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ensemble.spread(features), symexp(np.stack(said)).std(axis=0), rtol=1e-4, atol=1e-5)


def test_a_model_taken_for_an_ensemble_imagines_the_same_and_says_how_unsure_it_is(plain, unsure, frames, actions):
    videos = [
        model.rollout(frames[:, :2], actions[:, 2:], jax.random.key(0), temperature=0.0) for model in (plain, unsure)
    ]
    np.testing.assert_array_equal(videos[0].frames, videos[1].frames)
    np.testing.assert_array_equal(videos[0].rewards, videos[1].rewards)
    assert videos[0].reward_spreads_bf is None
    assert videos[1].reward_spreads_bf.shape == videos[1].rewards.shape and (videos[1].reward_spreads_bf > 0).all()
    again = fit_params(unsure.config, unsure.params, plain.config)
    jax.tree.map(np.testing.assert_array_equal, again, plain.params)


def test_what_they_look_at_does_not_learn_from_them(unsure, frames, actions):
    config, params = unsure.config, unsure.params
    rewards = jnp.asarray(np.random.default_rng(2).normal(size=frames.shape[:2]), jnp.float32)

    @jax.jit
    def loss(transformer):
        if config.transformer.decoding == "frames":
            part = tokenizer_of(config, params)
            of = frame_targets(config, part, frames, draw_frames(config, frames.shape, jax.random.key(0)))
            found = frame_losses(config, transformer, part, of, actions, rewards)
        else:
            found = losses(config, transformer, jnp.asarray(unsure.tokenize(frames)[0]), actions, rewards, None)
        return found["reward_ensemble_loss"]

    gradients = nnx.to_flat_state(jax.grad(loss)(params.transformer))
    moved = {path[0] for path, leaf in gradients if np.abs(leaf[...]).max() > 0}
    assert moved == {"reward_ensemble"}


def test_updates_teach_them_beside_the_head(unsure, frames, actions):
    config = dataclasses.replace(unsure.config, transformer_optimizer=OptimizerConfig(1e-2, warmup_steps=0))
    state, rewards, seen = init_transformer(config, jax.random.key(0)), np.full((2, 5), 7, np.float32), []
    for i in range(30):
        state, metrics = transformer_train_step(
            config, state, unsure.params.tokenizer, frames, actions, rewards, jax.random.key(i)
        )
        seen.append(jax.tree.map(float, metrics))
    assert seen[-1]["reward_ensemble_loss"] < 0.1 * seen[0]["reward_ensemble_loss"]
    assert seen[-1]["reward_loss"] < 0.1 * seen[0]["reward_loss"]


def test_the_rest_learns_as_without_them_although_all_gradients_are_clipped_together(plain, unsure, frames, actions):
    """Rewards that are far from what new networks say."""
    rewards, trained = np.full((2, 5), 30, np.float32), []
    for model in (plain, unsure):
        state = init_transformer(model.config, jax.random.key(0))
        params = jax.tree.map(jnp.copy, model.params.transformer)
        state = state.replace(params=params, optimizer=optimizer_of(model.config).init(params))
        for i in range(3):
            key = jax.random.key(i)
            state, _ = transformer_train_step(
                model.config, state, model.params.tokenizer, frames, actions, rewards, key
            )
        trained.append({path: leaf[...] for path, leaf in nnx.to_flat_state(state.params)})
    for path, leaf in nnx.to_flat_state(plain.params.transformer):
        apart, moved = (np.abs(trained[0][path] - other).max() for other in (trained[1][path], leaf[...]))
        assert apart <= 0.05 * moved, path


def test_they_are_saved_and_read_back_bit_for_bit(unsure, tmp_path):
    unsure.save(tmp_path / "model")
    again = WorldModel.from_pretrained(tmp_path / "model")
    assert again.config == unsure.config
    jax.tree.map(np.testing.assert_array_equal, again.params, unsure.params)


def test_one_network_alone_cannot_differ(config):
    with pytest.raises(ValueError, match="reward_ensemble is 1: expected 2 or more networks"):
        dataclasses.replace(config.transformer, reward_ensemble=1)


def test_what_has_been_learned_is_not_replaced_in_passing(unsure):
    with pytest.raises(ValueError, match="reward_ensemble is 5, but this model has learned 3 networks: keep 3, or 0"):
        fit_params(unsure.config, unsure.params, with_ensemble(unsure.config, 5))


def test_they_go_with_the_reward_head_and_come_with_a_new_one(plain, unsure):
    config, params = with_reward_head(unsure.config, unsure.params, False)
    assert not {"reward", "reward_ensemble"} & set(params.transformer)
    again = fit_params(config, params, unsure.config)
    jax.tree.map(
        np.testing.assert_array_equal,
        again.transformer["reward_ensemble"],
        unsure.params.transformer["reward_ensemble"],
    )
    assert not np.any(again.transformer["reward"]["kernel"][...])
    silent = dataclasses.replace(unsure.config.transformer, reward_head=False)
    assert silent.reward_networks == 0 and unsure.config.transformer.reward_networks == 3
