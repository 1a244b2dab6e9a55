"""Imagination as a gymnasium environment: gymnasium's own checks and vector semantics, and the model's numbers."""

import dataclasses
import warnings

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from world_model import ImaginedEnv, ImaginedVectorEnv, WorldModel

HORIZON = 3


@pytest.fixture(scope="module")
def contexts() -> np.ndarray:
    """uint8 [M, S, H, W, 3], each with a frame more than the model sees."""
    return np.random.default_rng(2).integers(0, 256, (5, 3, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def make(model, contexts):
    """An environment of two episodes."""

    def made(**changed) -> ImaginedVectorEnv:
        arguments = {"model": model, "contexts": contexts, "horizon": HORIZON, "num_envs": 2, "seed": 0} | changed
        return ImaginedVectorEnv(**arguments)

    return made


@pytest.fixture(scope="module")
def make_single(make):
    def made(**changed) -> ImaginedEnv:
        return ImaginedEnv(make(num_envs=1, autoreset_mode=AutoresetMode.DISABLED, **changed))

    return made


def play(env, steps: int, seed: int = 0) -> list[tuple]:
    """A reset and some steps with the same random actions every time; the reset's row has no reward and no end."""
    rng = np.random.default_rng(seed)
    observations, infos = env.reset(seed=seed)
    rows = [(observations, None, None, None, infos)]
    return rows + [env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)) for _ in range(steps)]


def test_gymnasiums_checker_finds_nothing_wrong(make_single):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(make_single())
    # There is one way to render and no registered name to make other ones by.
    assert [str(warning.message) for warning in said if "not having a spec" not in str(warning.message)] == []


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_vector_behaves_as_gymnasiums_own_vector_of_single_environments(make, make_single, contexts, mode):
    known = {"contexts": contexts[:1], "temperature": 0.0}
    ours = make(autoreset_mode=mode, **known)
    theirs = SyncVectorEnv([lambda: make_single(**known)] * 2, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    for name in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    ends = []
    for mine, reference in zip(play(ours, 9), play(theirs, 9), strict=True):
        assert mine[0] in ours.observation_space
        # One grey level: sums of another batch size round differently.
        assert np.abs(mine[0].astype(int) - reference[0]).max() <= 1
        assert mine[4].keys() == reference[4].keys()
        for name in mine[4]:
            assert type(mine[4][name]) is type(reference[4][name])
        if mine[1] is not None:
            np.testing.assert_allclose(mine[1], reference[1], rtol=1e-3, atol=1e-3)
            for found, expected in zip(mine[1:4], reference[1:4], strict=True):
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(mine[2:4], reference[2:4])
            ends.append(bool(mine[3].all()))
        if "final_obs" in mine[4]:
            last = np.stack(mine[4]["final_obs"]).astype(int) - np.stack(reference[4]["final_obs"])
            assert np.abs(last).max() <= 1
            np.testing.assert_array_equal(mine[0], np.stack([contexts[0, -1]] * 2))
    assert [step + 1 for step, end in enumerate(ends) if end] == {
        AutoresetMode.NEXT_STEP: [3, 7],
        AutoresetMode.SAME_STEP: [3, 6, 9],
    }[mode]


def test_an_episode_is_what_the_model_imagines_after_its_context(model, make, contexts):
    env = make(temperature=0.0)
    observations, infos = env.reset(options={"contexts": [3, 1]})
    assert infos["context"].tolist() == [3, 1]
    np.testing.assert_array_equal(observations, contexts[[3, 1], -1])
    actions = np.random.default_rng(0).uniform(-1, 1, (2, HORIZON, 3)).astype(np.float32)
    imagined = model.rollout(contexts[[3, 1]], actions, jax.random.key(0), temperature=0.0)
    for k in range(HORIZON):
        observations, rewards, *_ = env.step(actions[:, k])
        assert np.abs(observations.astype(int) - imagined.frames[:, k]).max() <= 1
        np.testing.assert_array_equal(env.render(), observations)
        np.testing.assert_allclose(rewards, imagined.rewards[:, k], rtol=1e-3, atol=1e-3)


def test_a_seed_determines_every_episode_and_no_two_episodes_are_alike(make, make_single):
    for env in (make(), make_single()):
        first, again, other = (play(env, 2, seed) for seed in (1, 1, 2))
        for one, another in zip(first, again, strict=True):
            np.testing.assert_array_equal(one[0], another[0])
            assert str(one[1:]) == str(another[1:])
        assert (first[-1][0] != other[-1][0]).any()
    # Without a reset's seed, that of the environment; one context leads to many futures.
    one, another = make(), make()
    actions = np.zeros((2, 3), np.float32)
    seen = []
    for env in (one, another, one):
        env.reset(options={"contexts": [0, 0]})
        seen.append(env.step(actions)[0])
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()
    assert (seen[0][0] != seen[0][1]).any()


def test_what_was_returned_is_the_users_own(make):
    env = make()
    observations, _ = env.reset(seed=0)
    observations[:] = 0
    again, _ = env.reset(seed=0)
    assert again.any()
    frames, rewards, *_ = env.step(np.zeros((2, 3)))
    shown = np.stack(env.render())
    frames[:], rewards[:] = 0, 0
    np.testing.assert_array_equal(env.render(), shown)


def test_actions_beyond_the_limits_count_as_the_limits(make):
    env = make()
    beyond = np.array([[3.0, -0.5, -7.0], [1.5, 0.0, -1.0]], np.float32)
    rewards = []
    for actions in (beyond, np.clip(beyond, -1, 1)):
        env.reset(seed=0)
        rewards.append(env.step(actions)[1])
    np.testing.assert_array_equal(*rewards)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_actions_that_are_no_numbers_are_refused_and_the_episode_stays(make, bad):
    """Fault 5: NaN gave rewards of NaN."""
    env, reference = make(), make()
    for each in (env, reference):
        each.reset(seed=1)
    actions = np.zeros(env.action_space.shape, np.float32)
    actions[1, 2] = bad
    with pytest.raises(ValueError, match=r"that are not finite \(1 of them, the first at \[1, 2\]\)"):
        env.step(actions)
    (frames, rewards, *_), (frames_, rewards_, *_) = (each.step(np.zeros_like(actions)) for each in (env, reference))
    np.testing.assert_array_equal(frames, frames_)
    np.testing.assert_array_equal(rewards, rewards_)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_gymnasiums_statistics_count_returns_and_lengths(make, mode):
    rows = play(RecordEpisodeStatistics(make(autoreset_mode=mode)), HORIZON)
    found = rows[-1][4]["episode"]
    assert found["l"].tolist() == [HORIZON] * 2
    np.testing.assert_allclose(found["r"], sum(row[1] for row in rows[1:]), rtol=1e-6)


def test_without_autoreset_an_ended_episode_waits_for_a_reset_of_all(make):
    env = make(autoreset_mode=AutoresetMode.DISABLED)
    actions = np.zeros((2, 3), np.float32)
    with pytest.raises(ResetNeeded, match="begins with a reset"):
        env.step(actions)
    env.reset()
    ends = [env.step(actions)[3].tolist() for _ in range(HORIZON)]
    assert ends == [[False] * 2] * (HORIZON - 1) + [[True] * 2]
    with pytest.raises(ResetNeeded, match="ended after 3 steps: reset them"):
        env.step(actions)
    with pytest.raises(ValueError, match="reset all of them or none"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(options={"reset_mask": np.array([True, True])})
    env.step(actions)


def test_what_cannot_be_played_is_refused_in_one_sentence(config, model, make, contexts):
    def changed(**transformer) -> WorldModel:
        replaced = dataclasses.replace(config.transformer, **transformer)
        return WorldModel(dataclasses.replace(config, transformer=replaced), model.params)

    towards = WorldModel(dataclasses.replace(config, goal_conditioned=True), model.params)
    for arguments, message in (
        ({"horizon": 7}, "the longest horizon that fits is 6"),
        ({"horizon": 0}, "2 episodes of 0 steps"),
        ({"temperature": -1.0}, "expected at least 0"),
        ({"model": changed(action_size=0)}, "takes no actions"),
        ({"model": changed(reward_head=False)}, "predicts no rewards"),
        ({"model": towards}, "predicts from a goal"),
        (
            {"contexts": contexts[:, :1]},
            r"uint8 \(5, 1, 16, 16, 3\): expected uint8 \[M, S, 16, 16, 3\] with S at least 2",
        ),
        ({"contexts": contexts / 255}, "contexts are float64"),
        ({"contexts": contexts[:0]}, r"contexts are uint8 \(0, "),
    ):
        with pytest.raises(ValueError, match=message):
            make(**arguments)
    env = make()
    with pytest.raises(ValueError, match="3 contexts chosen for 2 episodes"):
        env.reset(options={"contexts": [0, 1, 2]})
    env.reset()
    with pytest.raises(ValueError, match=r"actions of shape \(3,\): expected \(2, 3\)"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="num_envs=1 and autoreset_mode"):
        ImaginedEnv(env)
    assert isinstance(env, gymnasium.vector.VectorEnv)
