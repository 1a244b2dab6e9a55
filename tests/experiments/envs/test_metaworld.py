"""The simulator by the paper's protocol, on real pictures."""

import gymnasium
import numpy as np
import pytest

from experiments.envs import rendering

rendering.choose_backend()

from experiments.envs.metaworld import MetaWorld, UnknownTaskError, check_task, task_names  # noqa: E402


@pytest.fixture(scope="module")
def env():
    env = MetaWorld("plate-slide")
    yield env
    env.close()


def _play(env: MetaWorld, seed: int, steps: int = 4):
    frames, rewards = [env.reset(seed=seed)[0]], []
    for t in range(steps):
        frame, reward, *_ = env.step(np.array([0.5, -0.3, np.sin(t), 1.0]))
        frames.append(frame)
        rewards.append(reward)
    return np.stack(frames), rewards


def test_the_seed_alone_decides_an_episode_whatever_came_before(env):
    frames, rewards = _play(env, seed=3)
    other, _ = _play(env, seed=4, steps=7)
    again, rewards_again = _play(env, seed=3)
    np.testing.assert_array_equal(frames, again)
    assert rewards == rewards_again
    assert (frames[0] != other[0]).any()


@pytest.mark.parametrize("task", ["door-open", "stick-pull", "basketball"])
def test_a_used_environment_and_a_fresh_one_start_alike(task):
    used, fresh = MetaWorld(task), MetaWorld(task)
    _play(used, seed=8)
    frames, rewards = _play(used, seed=3)
    np.random.seed(7)  # noqa: NPY002 - the global generator must not matter
    frames_fresh, rewards_fresh = _play(fresh, seed=3)
    np.testing.assert_array_equal(frames, frames_fresh)
    assert rewards == rewards_fresh
    used.close()
    fresh.close()


def test_scripted_policies_see_the_goal_throughout(env):
    env.reset(seed=2)
    goal = env._simulator._target_pos
    np.testing.assert_allclose(env.state_vector()[-3:], goal)
    env.step(np.zeros(4))
    assert env.state_vector().shape == (39,)
    np.testing.assert_allclose(env.state_vector()[-3:], goal)


def test_markers_of_the_target_are_drawn_where_the_target_is():
    env = MetaWorld("door-lock")
    env.reset(seed=0)
    env.step(np.zeros(4))
    for name, position in env._simulator._target_site_config:
        np.testing.assert_allclose(env._simulator.data.site(name).xpos, position)
    env.close()


def test_there_are_fifty_tasks_by_their_plain_names():
    names = task_names()
    assert len(names) == len(set(names)) == 50
    assert {"plate-slide", "handle-press", "button-press-topdown-wall", "coffee-push", "door-lock", "hammer"} <= set(
        names
    )


@pytest.mark.parametrize("task", ["handle-press", "coffee-push", "door-lock", "hammer", "handle-pull-side"])
def test_tasks_start_and_step(task):
    env = MetaWorld(task)
    frame, _ = env.reset(seed=0)
    assert env.observation_space.contains(frame)
    frame, reward, terminated, truncated, info = env.step(np.zeros(4))
    assert env.observation_space.contains(frame)
    assert np.isfinite(reward)
    assert not terminated
    assert not truncated
    assert info == {"success": False, "env_steps": 2}
    env.close()


def test_the_picture_is_upright(env):
    """The red arm hangs from above over a brown table; unflipped, the table is on top."""
    frame = env.reset(seed=0)[0].astype(int)
    brown = (frame[..., 0] > frame[..., 2] + 20) & (frame[..., 1] > frame[..., 2] + 5) & (frame[..., 0] < 160)
    red = (frame[..., 0] > 100) & (frame[..., 1] < 60) & (frame[..., 2] < 60)
    assert brown.sum() > 300
    assert red.sum() > 200
    assert np.nonzero(brown)[0].mean() > np.nonzero(red)[0].mean() + 5


def test_an_agent_step_is_two_simulator_steps_whose_rewards_add():
    one, other = MetaWorld("handle-press"), MetaWorld("handle-press")
    one.reset(seed=5)
    other.reset(seed=5)
    action = np.array([0.2, 0.1, -0.7, 0.0], np.float32)
    _, reward, _, _, info = one.step(action)
    by_hand = sum(other._simulator.step(action)[1] for _ in range(2))
    assert reward == pytest.approx(by_hand)
    assert not info["success"]
    np.testing.assert_array_equal(one.state_vector()[:18], other._simulator._get_obs()[:18])
    one.close()
    other.close()


def test_a_successful_step_earns_ten_more():
    env = MetaWorld("handle-press")
    env.reset(seed=0)
    env._simulator.step = lambda action: (np.zeros(39), 1.5, False, False, {"success": 1.0})
    _, reward, _, _, info = env.step(np.zeros(4))
    assert reward == 2 * 1.5 + 10
    assert info["success"]
    env.close()


def test_actions_are_clipped(env):
    env.reset(seed=1)
    wild = env.step(np.array([5.0, -5.0, 2.0, 9.0]))[0]
    env.reset(seed=1)
    np.testing.assert_array_equal(wild, env.step(np.array([1.0, -1.0, 1.0, 1.0]))[0])


def test_an_episode_is_cut_after_a_hundred_agent_steps_and_not_before():
    env = MetaWorld("handle-press")
    env.reset(seed=0)
    env.render = lambda: np.zeros((64, 64, 3), np.uint8)
    truncated = [env.step(np.zeros(4))[3] for _ in range(100)]
    assert truncated == [False] * 99 + [True]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(4))
    env.close()


def test_an_unknown_task_is_refused_with_the_closest_names():
    with pytest.raises(UnknownTaskError, match="unknown task") as refusal:
        check_task("plate-slid")
    assert str(refusal.value) == (
        "unknown task 'plate-slid': did you mean plate-slide, plate-slide-side, plate-slide-back? "
        "All 50: ivideogpt tasks"
    )
    with pytest.raises(UnknownTaskError, match=r"^unknown task 'xyz': none is called like that\. All 50: iv"):
        check_task("xyz")  # fault 19


def test_both_qualities_draw_the_same_scene():
    fast, full = MetaWorld("handle-press", "fast"), MetaWorld("handle-press", "full")
    one, other = fast.reset(seed=0)[0].astype(int), full.reset(seed=0)[0].astype(int)
    difference = np.abs(one - other)
    assert 0 < difference.mean() < 15
    fast.close()
    full.close()
