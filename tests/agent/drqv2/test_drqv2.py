"""DrQ-v2 against values derived by hand."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent import drqv2
from agent.drqv2.augmentation import random_shift
from agent.drqv2.learner import DrQv2Config, LearnerBatch, as_channels, cloning_weight
from agent.drqv2.networks import NetworkConfig, make_networks

NETWORK = NetworkConfig("patches", channels=4, features=5, hidden=8)
SMALL = DrQv2Config(network=NETWORK, resolution=16, batch=4, weight_decay=0.0)


def _batch(key: int = 0, b: int = 4, side: int = 16) -> LearnerBatch:
    rng = np.random.default_rng(key)
    observations = rng.integers(0, 255, (2, b, 3, side, side, 3), dtype=np.uint8)
    return LearnerBatch(
        observations_bshwc=observations[0],
        actions_ba=rng.uniform(-1, 1, (b, 4)).astype(np.float32),
        rewards_b=rng.normal(size=b).astype(np.float32),
        discounts_b=np.full(b, 0.97, np.float32),
        next_observations_bshwc=observations[1],
        demonstrations_b=np.array([1, 0, 1, 0], np.float32),
    )


def test_a_random_shift_is_a_crop_of_the_edge_padded_picture():
    frames = np.random.default_rng(0).integers(0, 255, (16, 8, 8, 3), dtype=np.uint8)
    shifted = np.asarray(random_shift(frames, jax.random.key(0), 2))
    offsets = set()
    for before, after in zip(frames, shifted, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode="edge")
        crops = {(i, j): padded[i : i + 8, j : j + 8] for i in range(5) for j in range(5)}
        matching = [offset for offset, crop in crops.items() if np.array_equal(crop, after)]
        assert len(matching) == 1
        offsets.add(matching[0])
    assert len(offsets) > 5


def test_the_target_is_the_n_step_return_plus_the_discounted_smaller_value():
    target = drqv2.critic_target(jnp.array([1.0, 2.0]), jnp.array([0.5, 0.9]), jnp.array([[4.0, 10.0], [6.0, -10.0]]))
    np.testing.assert_allclose(target, [1 + 0.5 * 4, 2 + 0.9 * -10])


def test_the_critic_loss_adds_the_mean_squared_errors_of_both_critics():
    loss = drqv2.critic_loss(jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([0.0, 4.0]))
    assert float(loss) == pytest.approx((1 + 4) / 2 + (0 + 16) / 2)


@pytest.mark.parametrize(("at", "expected"), [(1000, 2.0), (1150, 1.0), (1300, 0.0), (2000, 0.0)])
def test_cloning_fades_over_hundreds_of_steps_behind_the_random_ones(at, expected):
    config = dataclasses.replace(SMALL, behaviour_cloning=2.0 * 1300 / 300, behaviour_cloning_agent_steps=1300)
    assert float(cloning_weight(config, at)) == pytest.approx(expected, abs=1e-5)


def test_weights_of_one_change_no_bit_and_a_row_of_weight_zero_teaches_nothing():
    update = jax.jit(functools.partial(drqv2.update, SMALL))
    state, batch = drqv2.init(SMALL, jax.random.key(0)), _batch()

    def after(batch: LearnerBatch):
        return update(state, batch, jnp.int32(0), jax.random.key(1))[0]

    chex.assert_trees_all_equal(after(batch), after(batch._replace(weights_b=np.ones(4, np.float32))))
    without_last = np.array([1, 1, 1, 0], np.float32)
    other = jax.tree.map(lambda mine, theirs: np.concatenate([mine[:3], theirs[3:]]), batch, _batch(key=1))
    chex.assert_trees_all_equal(*(after(b._replace(weights_b=without_last)) for b in (batch, other)))
    halves = drqv2.critic_loss(jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([0.0, 4.0]), jnp.array([1.0, 0.5]))
    assert float(halves) == (1 + 0.5 * 4) / 2 + (0 + 0.5 * 16) / 2


def test_without_cloning_the_actor_loss_is_minus_the_smaller_value():
    values = jnp.array([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 5.0, 3.0]])
    assert float(drqv2.actor_loss(SMALL, values)) == pytest.approx(-(1 + 1 + 3 + 3) / 4)


def test_cloning_measures_the_squared_distance_to_demonstrated_actions_only():
    batch, mean = _batch(), jnp.full((4, 4), 0.25)
    distance = drqv2.cloning_distance(mean, batch)
    by_hand = np.square(0.25 - batch.actions_ba[[0, 2]]).sum(-1).mean()
    assert float(distance) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(("at", "expected"), [(0, 1.0), (50_000, 0.55), (100_000, 0.1), (10**6, 0.1)])
def test_the_published_noise_falls_linearly_and_stays(at, expected):
    assert float(drqv2.noise_std(DrQv2Config(), at)) == pytest.approx(expected)


@pytest.mark.slow
def test_exploration_noise_has_the_asked_deviation_and_actions_stay_in_range():
    state = drqv2.init(SMALL, jax.random.key(0))
    observations = np.repeat(as_channels(_batch().observations_bshwc)[:1], 512, axis=0)
    mean = drqv2.mean_action(SMALL, state.parameters, observations[:1])
    noisy = drqv2.explore(SMALL, state.parameters, observations, jnp.float32(0.05), jax.random.key(1))
    assert float((noisy - mean).std()) == pytest.approx(0.05, rel=0.1)
    wild = drqv2.explore(SMALL, state.parameters, observations, jnp.float32(10.0), jax.random.key(1))
    assert float(jnp.abs(wild).max()) == 1.0


@pytest.mark.slow
def test_the_target_critics_move_by_tau():
    state = drqv2.init(SMALL, jax.random.key(0))
    before = jax.tree.map(np.asarray, state.target_critics)
    after, _ = drqv2.update(SMALL, state, _batch(), jnp.int32(0), jax.random.key(1))
    expected = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new, before, after.parameters.critics)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after.target_critics, expected)


def test_the_averaged_actor_moves_by_its_decay_and_changes_nothing_else():
    averaging = dataclasses.replace(SMALL, actor_average=0.75)
    states = []
    for config in (SMALL, averaging):
        state = drqv2.init(config, jax.random.key(0))
        first = jax.tree.map(np.asarray, state.best)
        state, _ = jax.jit(drqv2.update, static_argnums=0)(config, state, _batch(), jnp.int32(0), jax.random.key(1))
        states.append(state)
    plain, averaged = states
    chex.assert_trees_all_close(plain.parameters, averaged.parameters, rtol=1e-5, atol=1e-8)
    chex.assert_trees_all_equal(plain.best.actor, plain.parameters.actor)
    newest = (averaged.parameters.encoder, averaged.parameters.actor)
    expected = jax.tree.map(lambda before, now: 0.75 * before + 0.25 * now, tuple(first), newest)
    chex.assert_trees_all_close(tuple(averaged.best), expected, rtol=1e-6)


def test_without_cloning_the_actor_does_not_shape_the_encoder():
    state = drqv2.init(SMALL, jax.random.key(0))
    after, _ = drqv2.update(SMALL, state, _batch(), jnp.int32(0), jax.random.key(1))
    # With another actor the critics' targets differ, but with discount 0 nothing of the actor may reach the encoder.
    batch = _batch()._replace(discounts_b=np.zeros(4, np.float32))
    other = state._replace(
        parameters=state.parameters._replace(actor=jax.tree.map(lambda x: x + 0.1, state.parameters.actor))
    )
    one, _ = drqv2.update(SMALL, state, batch, jnp.int32(0), jax.random.key(1))
    two, _ = drqv2.update(SMALL, other, batch, jnp.int32(0), jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, one.parameters.encoder, two.parameters.encoder)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), state.parameters.encoder, after.parameters.encoder)
    assert any(jax.tree.leaves(changed))


@pytest.mark.slow
def test_several_updates_in_one_call_equal_one_after_the_other():
    batches = [_batch(i) for i in range(3)]
    keys = jax.random.split(jax.random.key(5), 3)
    state = drqv2.init(SMALL, jax.random.key(0))
    for batch, key in zip(batches, keys, strict=True):
        state, _ = drqv2.update(SMALL, state, batch, jnp.int32(7), key)
    fresh = drqv2.init(SMALL, jax.random.key(0))
    stack_frames = jax.tree.map(lambda *rows: np.stack(rows), *batches)
    together, _ = drqv2.train_step(SMALL, fresh, stack_frames, jnp.int32(7), jax.random.key(5))
    assert int(together.updates) == 3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), together.parameters, state.parameters
    )


def test_the_published_encoder_gives_the_published_number_of_features():
    networks = make_networks(NetworkConfig(), 4)
    observation = jnp.zeros((1, 64, 64, 9), jnp.uint8)
    params = jax.eval_shape(networks.encoder.init, jax.random.key(0), observation)
    assert jax.eval_shape(networks.encoder.apply, params, observation).shape == (1, 32 * 25 * 25)
