"""The control suite by the same laws as Meta-World, on real pictures."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from experiments.envs import rendering

rendering.choose_backend()

from experiments.envs.dm_control import DmControl, task_names  # noqa: E402
from experiments.errors import UsageError  # noqa: E402


@pytest.fixture(scope="module")
def env():
    env = DmControl("dmc/reacher-easy")  # its reset moves the target, which is in no state of the simulator
    yield env
    env.close()


def _play(env: DmControl, seed: int, steps: int = 3):
    frames, rewards = [env.reset(seed=seed)[0]], []
    for t in range(steps):
        frame, reward, *_ = env.step(np.array([0.5, np.sin(t)]))
        frames.append(frame)
        rewards.append(reward)
    return np.stack(frames), rewards


def test_the_seed_alone_decides_an_episode_whatever_came_before(env):
    frames, rewards = _play(env, seed=3)
    other, _ = _play(env, seed=4, steps=5)
    again, rewards_again = _play(env, seed=3)
    np.testing.assert_array_equal(frames, again)
    assert rewards == rewards_again
    assert (frames[0] != other[0]).any()


def test_the_simulators_state_tells_starts_apart(env):
    env.reset(seed=3)
    one = env.simulator_state()
    env.reset(seed=3)
    same = env.simulator_state()
    env.reset(seed=4)
    other = env.simulator_state()
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
    assert (one["state"] != other["state"]).any()
    assert (one["geoms"] != other["geoms"]).any()


def test_it_is_gymnasiums_environment_and_pictures_show_something(env):
    check_env(env, skip_render_check=True)
    frame, _ = env.reset(seed=0)
    assert frame.shape == (64, 64, 3)
    assert frame.std() > 10


def test_an_upright_pole_left_alone_is_a_success_and_a_task_that_needs_moving_is_not():
    for task, succeeds in (("dmc/cartpole-balance", True), ("dmc/cartpole-swingup", False)):
        env = DmControl(task, resolution=16)
        env.reset(seed=0)
        env._environment.physics.named.data.qpos[:] = 0 if succeeds else [0, np.pi]
        env._environment.physics.named.data.qvel[:] = 0
        steps = [env.step(np.zeros(1)) for _ in range(env.episode_agent_steps)]
        assert [truncated for *_, truncated, _ in steps].count(True) == 1
        assert not any(info["success"] for *_, info in steps[:-1])
        assert steps[-1][-1]["success"] is succeeds
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(np.zeros(1))
        env.close()


def test_actions_reach_the_limits_of_the_task(env):
    env.reset(seed=0)
    env.step(np.array([1.0, -7.0]))
    spec = env._environment.action_spec()
    np.testing.assert_allclose(env._environment.physics.control(), [spec.maximum[0], spec.minimum[1]])


def test_an_unknown_task_is_refused_and_the_message_says_where_the_names_are():
    assert "dmc/walker-walk" in task_names()
    with pytest.raises(UsageError, match="ivideogpt tasks --suite dmc"):
        DmControl("dmc/walker-wlak")
