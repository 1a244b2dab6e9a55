"""Decoding whole frames: what a frame depends on, that every way of asking gives the same, and that it learns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIG

import tokenizer
import world_model
from tokenizer import OptimizerConfig
from world_model import TransformerConfig, WorldModel, WorldModelConfig, fit_params
from world_model.frame_codes import codes_entropy, draw_codes

FRAMES = TransformerConfig(
    layers=2, width=32, heads=2, feed_forward=48, action_size=3, reward_head=True, initial_std=0.3, dropout=0.0,
    decoding="frames",
)  # fmt: skip
FRAME_CONFIG = dataclasses.replace(CONFIG, transformer=FRAMES)


def made_to_matter(config: WorldModelConfig) -> WorldModel:
    """Random weights, also where the actions come in, which begin at zero."""
    made = WorldModel.init(config, jax.random.key(0))
    layers = [made.params.transformer["action_output"]]
    if config.transformer.action_modulation:
        layers += [block["modulation"] for block in made.params.transformer["blocks"].values()]
    for index, layer in enumerate(layers):
        layer["kernel"][...] = jax.random.normal(jax.random.key(1 + index), layer["kernel"].shape)
    return made


PATCHES = dataclasses.replace(
    CONFIG.tokenizer, quantizer="fsq", fsq_levels=(6, 4), context_residual=True, future_pair="patches", patch_width=24,
    future_levels=(4, 2), future_groups=2, future_codes=9,
)  # fmt: skip
PATCH_CONFIG = dataclasses.replace(FRAME_CONFIG, tokenizer=PATCHES)
SEEING = dataclasses.replace(FRAMES, action_history=2, action_modulation=True, context_tokens=False, reward_bins=5)
ALL_CONFIG = dataclasses.replace(PATCH_CONFIG, transformer=SEEING)
"""Every option."""


@pytest.fixture(scope="module", params=[FRAME_CONFIG, PATCH_CONFIG, ALL_CONFIG], ids=["vqgan", "patches", "all"])
def predictor(request) -> WorldModel:
    return made_to_matter(request.param)


def test_greedy_steps_a_rollout_and_the_scores_agree(predictor, frames, actions):
    tokens, _ = predictor.tokenize(frames)
    logits, rewards = predictor.score(tokens, actions, frames[:, :2])
    layout = predictor.config.layout
    of_codes = logits.reshape(2, 3, layout.frame_length, -1)[:, :, :-1, layout.future_ids]
    codes = [draw_codes(layout, of_codes[:, k], jax.random.key(0), 0.0, None) for k in range(3)]
    expected = np.stack(codes, axis=1) + layout.future_ids.start
    future = layout.future_actions(actions, 3)
    video = predictor.rollout(frames[:, :2], future, jax.random.key(0), temperature=0.0)
    np.testing.assert_array_equal(video.tokens, expected)
    np.testing.assert_allclose(video.rewards, rewards, rtol=1e-4, atol=1e-5)
    entropies = np.stack([codes_entropy(layout, of_codes[:, k]) for k in range(3)], axis=1)
    np.testing.assert_allclose(video.entropies_bf, entropies, rtol=1e-4, atol=1e-5)
    state = predictor.reset(frames[:, :2])
    for k in range(3):
        state, frame, reward = predictor.step(state, future[:, k], jax.random.key(k), temperature=0.0)
        np.testing.assert_allclose(np.rint(np.asarray(frame) * 255), video.frames[:, k], atol=1)
        np.testing.assert_allclose(reward, video.rewards[:, k], rtol=1e-4, atol=1e-5)


def test_an_action_changes_its_own_frame_and_later_ones_only(predictor, frames, actions):
    tokens, _ = predictor.tokenize(frames)
    changed = np.array(actions)
    changed[:, 2] = -changed[:, 2]  # leads to the second future frame
    one, other = (
        np.asarray(predictor.score(tokens, a, frames[:, :2])[0]).reshape(2, 3, -1) for a in (actions, changed)
    )
    np.testing.assert_array_equal(one[:, 0], other[:, 0])
    assert (one[:, 1] != other[:, 1]).any() and (one[:, 2] != other[:, 2]).any()


def test_a_frame_does_not_depend_on_the_frames_before_it_but_on_the_context(predictor, frames, actions):
    tokens, _ = predictor.tokenize(frames)
    others = np.array(frames)
    others[:, 2:] = 255 - others[:, 2:]
    also, _ = predictor.tokenize(others)
    assert (np.asarray(tokens) != np.asarray(also)).any()
    one, other = (np.asarray(predictor.score(t, actions, frames[:, :2])[0]) for t in (tokens, also))
    np.testing.assert_array_equal(one, other)
    elsewhere = np.asarray(predictor.score(tokens, actions, 255 - frames[:, :2])[0])
    assert (one != elsewhere).any()


def test_beyond_what_it_learned_the_newest_frames_become_the_context(predictor, frames):
    actions = np.random.default_rng(2).uniform(-1, 1, (2, 5, 3)).astype(np.float32)
    assert predictor.config.trained_horizon == 3
    state, seen = predictor.reset(frames[:, :2]), []
    for k in range(5):
        state, frame, _ = predictor.step(state, actions[:, k], jax.random.key(0), temperature=0.0)
        seen.append(frame)
    again = predictor.reset(jnp.stack(seen[1:3], axis=1))
    for k in (3, 4):
        again, frame, _ = predictor.step(again, actions[:, k], jax.random.key(0), temperature=0.0)
        np.testing.assert_allclose(frame, seen[k], atol=1e-5)


def test_imagination_has_no_end(predictor, frames):
    policy = jax.tree_util.Partial(lambda seen, key: jnp.ones((2, 3)))
    imagined = predictor.imagine(frames[:, :2], policy, jax.random.key(0), horizon=40)
    assert imagined.frames.shape == (2, 40, 16, 16, 3) and np.isfinite(imagined.rewards).all()


def test_only_drawn_frames_are_learned_from_and_none_twice(predictor):
    config = dataclasses.replace(FRAME_CONFIG, frame_sample=2)
    picks = np.asarray(world_model.training.draw_frames(config, (50, 7, 16, 16, 3), jax.random.key(0)))
    assert picks.shape == (50, 2) and (picks[:, 0] < picks[:, 1]).all()
    assert set(picks.ravel()) == set(range(5))


def test_saved_and_read_back_bit_for_bit(predictor, tmp_path):
    predictor.save(tmp_path / "model")
    again = WorldModel.from_pretrained(tmp_path / "model")
    assert again.config == predictor.config
    jax.tree.map(np.testing.assert_array_equal, again.params, predictor.params)


def test_more_numbers_of_an_action_change_nothing_until_they_are_learned(predictor, frames, actions):
    larger = dataclasses.replace(
        predictor.config, transformer=dataclasses.replace(predictor.config.transformer, action_size=5)
    )
    model = WorldModel(larger, fit_params(predictor.config, predictor.params, larger))
    tokens, _ = predictor.tokenize(frames)
    padded = world_model.pad_actions(actions, 5)
    np.testing.assert_allclose(
        model.score(tokens, padded, frames[:, :2])[0], predictor.score(tokens, actions, frames[:, :2])[0], rtol=1e-4
    )


def test_what_it_cannot_do_is_said(predictor, frames, actions):
    tokens, _ = predictor.tokenize(frames)
    with pytest.raises(ValueError, match="starts from the context's pixels: give context_frames"):
        predictor.score(tokens, actions)
    config = predictor.config
    state = world_model.init_transformer(config, jax.random.key(0))
    with pytest.raises(ValueError, match="learns from pixels, which tokens alone do not have"):
        world_model.token_train_step(config, state, tokens, actions, np.zeros((2, 5)), jax.random.key(0))
    with pytest.raises(ValueError, match="keep them"):
        fewer = dataclasses.replace(config, tokenizer=dataclasses.replace(config.tokenizer, context_frames=1))
        fit_params(config, predictor.params, fewer)
    with pytest.raises(ValueError, match="set frame_masking to 0"):
        dataclasses.replace(FRAME_CONFIG, frame_masking=1.0)
    for settings in ({"frame_sample": 2}, {"pixel_weight": 1.0}):
        with pytest.raises(ValueError, match="frame_sample and pixel_weight are for decoding frames"):
            dataclasses.replace(CONFIG, **settings)
    for settings in (
        {"action_history": 2},
        {"action_modulation": True},
        {"mean_codes": True},
        {"context_tokens": False},
    ):
        with pytest.raises(ValueError, match="mean_codes and context_tokens are for decoding frames"):
            dataclasses.replace(CONFIG.transformer, **settings)


def test_a_still_patch_is_still_in_all_its_tokens_as_often_as_its_first_one_says():
    layout, patches = PATCH_CONFIG.layout, 4
    still = np.log([[0.1, 0.4, 0.6, 0.9]] * 2000)
    logits = np.zeros((2000, patches, 2, 9))
    logits[..., 0, :8], logits[..., 0, 8] = np.log((1 - np.exp(still[..., None])) / 8), still
    logits = jnp.asarray(logits.reshape(2000, patches * 2, 9))
    drawn = np.asarray(draw_codes(layout, logits, jax.random.key(0), 1.0, None)).reshape(2000, patches, 2) == 8
    np.testing.assert_array_equal(drawn[..., 0], drawn[..., 1])
    np.testing.assert_allclose(drawn[..., 0].mean(0), np.exp(still[0]), atol=0.04)
    greedy = np.asarray(draw_codes(layout, logits[:1], jax.random.key(0), 0.0, None)).reshape(patches, 2) == 8
    np.testing.assert_array_equal(greedy, [[False] * 2, [False] * 2, [True] * 2, [True] * 2])


def test_the_entropy_of_a_frame_counts_every_picture_that_a_patch_can_show():
    logits = np.random.default_rng(0).normal(size=(1, 2, 9)).astype(np.float32)  # one patch of two tokens

    def softmax(x: np.ndarray) -> np.ndarray:
        return np.exp(x) / np.exp(x).sum()

    still = softmax(logits[0, 0])[-1]
    moving = np.outer(*(softmax(token[:-1]) for token in logits[0])).ravel()
    pictures = np.array([still, *(1 - still) * moving])
    found = codes_entropy(PATCH_CONFIG.layout, jnp.asarray(logits))
    np.testing.assert_allclose(found, [-(pictures * np.log(pictures)).sum() / 2], rtol=1e-5)


def test_a_rollout_beyond_what_it_learned_is_its_steps_one_after_the_other(predictor, frames):
    actions = np.random.default_rng(2).uniform(-1, 1, (2, 8, 3)).astype(np.float32)
    video = predictor.rollout(frames[:, :2], actions, jax.random.key(0), temperature=0.0)
    state = predictor.reset(frames[:, :2])
    for k in range(8):
        state, frame, _ = predictor.step(state, actions[:, k], jax.random.key(0), temperature=0.0)
        np.testing.assert_allclose(np.rint(np.asarray(frame) * 255), video.frames[:, k], atol=1)


def test_mean_codes_change_what_temperature_0_paints_and_nothing_else(predictor, frames, actions):
    transformer = dataclasses.replace(predictor.config.transformer, mean_codes=True)
    mean = WorldModel(dataclasses.replace(predictor.config, transformer=transformer), predictor.params)
    future = predictor.config.layout.future_actions(actions, 3)
    for temperature, same in ((0.0, False), (1.0, True)):
        one, other = (
            model.rollout(frames[:, :2], future, jax.random.key(0), temperature=temperature)
            for model in (predictor, mean)
        )
        np.testing.assert_array_equal(one.tokens, other.tokens)
        assert (np.asarray(one.frames) == np.asarray(other.frames)).all() == same


def test_the_pixel_loss_is_the_error_of_the_frames_that_mean_codes_paint(predictor, frames, actions):
    transformer = dataclasses.replace(predictor.config.transformer, mean_codes=True)
    config = dataclasses.replace(predictor.config, transformer=transformer, pixel_weight=2.0)
    rewards = np.zeros((2, 5), np.float32)
    metrics = world_model.training.segment_metrics(config, predictor.params, frames, actions, rewards, 3)
    tokens, _ = predictor.tokenize(frames)
    logits, _ = predictor.score(tokens, actions, frames[:, :2])
    layout, part = config.layout, tokenizer.merge(config.tokenizer, predictor.params.tokenizer)
    of_codes = logits.reshape(2, 3, layout.frame_length, -1)[:, :, :-1, layout.future_ids]
    context = part.encode_context(frames[:, :2] / np.float32(255))
    painted = part.decode_mean(jax.nn.softmax(of_codes, axis=-1), context)
    error = np.square(np.asarray(painted) - frames[:, 2:] / 255.0).mean()
    np.testing.assert_allclose(metrics["pixel_loss"], error, rtol=1e-4)
    parts = metrics["cross_entropy"] + metrics["reward_loss"] + 2 * metrics["pixel_loss"]
    np.testing.assert_allclose(metrics["loss"], parts, rtol=1e-5)


def squares(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright square that the first two numbers of each action move by up to two pixels: frames, actions, rewards."""
    actions = rng.uniform(-1, 1, (count, 5, 3)).astype(np.float32)
    start = rng.uniform(3, 9, (count, 1, 2))
    moved = np.concatenate([np.zeros((count, 1, 2)), np.cumsum(2 * actions[:, :4, :2], axis=1)], axis=1)
    corners = np.clip(np.rint(start + moved), 0, 12).astype(int)
    frames = np.full((count, 5, 16, 16, 3), 30, np.uint8)
    for b in range(count):
        for t in range(5):
            y, x = corners[b, t]
            frames[b, t, y : y + 4, x : x + 4] = (250, 120, 60)
    return frames, actions, corners[..., 0].astype(np.float32) / 4


@pytest.mark.slow
def test_it_learns_to_follow_the_actions():
    """On squares that only the actions move: codes of the true actions become likelier than under others' actions."""
    part = dataclasses.replace(CONFIG.tokenizer, dropout=0.0, perceptual_weight=0.0, l2_weight=10.0)
    config = WorldModelConfig(
        part, dataclasses.replace(FRAMES, initial_std=0.05), segment_frames=5, frame_sample=2,
        tokenizer_optimizer=OptimizerConfig(3e-3, warmup_steps=10),
        transformer_optimizer=OptimizerConfig(3e-3, warmup_steps=10),
    )  # fmt: skip
    rng, state = np.random.default_rng(0), world_model.init(config, jax.random.key(0))
    part = state.tokenizer
    for index in range(100):
        frames, _, _ = squares(rng, 16)
        part, _ = tokenizer.train_step(
            config.tokenizer, config.tokenizer_optimizer, part, frames, jax.random.key(index), None
        )
    learner = state.transformer
    for index in range(350):
        frames, actions, rewards = squares(rng, 32)
        learner, _ = world_model.transformer_train_step(
            config, learner, part.params, frames, actions, rewards, jax.random.key(index)
        )
    params = world_model.WorldModelParams(part.params, learner.params)
    frames, actions, rewards = squares(rng, 64)
    own = world_model.training.segment_metrics(config, params, frames, actions, rewards, 3)
    other = world_model.training.segment_metrics(config, params, frames, np.roll(actions, 1, axis=0), rewards, 3)
    assert float(own["cross_entropy"]) < 0.8 * float(other["cross_entropy"])
    assert float(own["reward_loss"]) < 0.5 * float(other["reward_loss"])
