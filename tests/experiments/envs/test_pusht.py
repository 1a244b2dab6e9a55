"""PushT by the laws of the other simulators, where gym-pusht is installed; and what is said where it is not."""

import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from agent.episodes import RandomActions
from experiments.envs import pusht
from experiments.envs.demonstrations import random_episode
from experiments.envs.pusht import PushT, is_near
from experiments.envs.registry import make_simulator, suite_of
from experiments.errors import UsageError
from experiments.planning.goals import recorded_tasks


def test_where_the_package_is_missing_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gym_pusht.envs", None)
    pusht._package.cache_clear()
    with pytest.raises(UsageError, match=r"task 'pusht' needs gym-pusht: pip install -e '.\[plan\]'"):
        make_simulator("pusht")
    assert suite_of("pusht").name == "pusht" and suite_of("push-wall").name == "metaworld"


def test_near_is_where_disc_and_t_are_not_how_fast_and_angles_go_round():
    goal = np.array([100.0, 100, 0, 0, 0.1, 200, 200, 0, 0, 0])
    for change, near in (
        ((8, 0, 300, 0, 2 * np.pi - 0.2, 0, 8, 50, 0, 3), True),
        ((15, 0, 0, 0, 0, 0, 15, 0, 0, 0), False),
        ((0, 0, 0, 0, 0.4, 0, 0, 0, 0, 0), False),
    ):
        assert is_near(goal + np.array(change), goal) is near


@pytest.fixture
def env():
    pytest.importorskip("gym_pusht", reason="gym-pusht is not installed: pip install -e '.[plan]'")
    pusht._package.cache_clear()
    env = PushT("pusht", resolution=32)
    yield env
    env.close()


def push(env: PushT, steps: int, seed: int) -> list[tuple]:
    act = env.exploring_policy(np.random.default_rng(seed))
    return [(*env.step(act()), env.simulator_state()["bodies"]) for _ in range(steps)]


def test_it_is_gymnasiums_environment_and_the_seed_alone_decides_an_episode(env):
    check_env(env, skip_render_check=True)
    frames = [env.reset(seed=seed)[0] for seed in (3, 4, 3)]
    np.testing.assert_array_equal(frames[0], frames[2])
    assert (frames[0] != frames[1]).any() and frames[0].std() > 10
    with pytest.raises(UsageError, match="the only one of its suite is pusht"):
        PushT("pusht-wall")


def test_a_restored_state_goes_on_as_the_saved_one_did_to_the_last_bit(env):
    other, moved = PushT("pusht", resolution=32), 0
    for seed in range(4):
        env.reset(seed=seed)
        push(env, 20, seed)
        saved, picture = env.save_state(), env.render()
        expected = push(env, 15, 9)
        moved += np.ptp([bodies[5] for *_, bodies in expected]) > 1
        for again in (env, other):
            again.restore_state(saved)
            np.testing.assert_array_equal(again.render(), picture)
            for (frame, *rest, bodies), (one, *same, at) in zip(push(again, 15, 9), expected, strict=True):
                np.testing.assert_array_equal(frame, one)
                np.testing.assert_array_equal(bodies, at)
                assert rest == same
    assert moved, "a T that is never pushed proves nothing"
    other.close()


def test_it_moves_as_gym_pusht_does(env):
    own, gaps = pusht._package()(obs_type="state"), []
    for seed in range(6):
        env.reset(seed=seed)
        own.reset(seed=env._environment.np_random_seed)
        act = env.exploring_policy(np.random.default_rng(seed))
        for _ in range(20):
            action = act()
            target = np.clip(np.array(own.agent.position) + pusht.REACH * np.clip(action, -1, 1), 0, pusht.TABLE)
            own.step(target)
            env.advance(action)
        gaps.append(np.abs(np.array(own.block.position) - env.simulator_state()["bodies"][5:7]).max())
    assert np.median(gaps) < 2


def test_goals_are_states_that_the_exploring_policy_came_to_and_are_a_success_there(env):
    (task,) = recorded_tasks(env, 1, seed=0, ahead=5, agent_steps=10)
    picture = task.begin(env)
    assert picture.shape == task.goal_hwc.shape and (picture != task.goal_hwc).any()
    env.set_goal(env.save_state())
    *_, info = env.step(np.zeros(2))
    assert info["success"]
    env.set_goal({"bodies": env.simulator_state()["bodies"] + 100})
    *_, info = env.step(np.zeros(2))
    assert not info["success"]


def test_episodes_that_are_collected_push_the_t(env):
    env.episode_agent_steps = 60
    episode = random_episode(env, np.random.default_rng(0), RandomActions())
    assert episode.actions.shape == (60, 2) and 0.4 < episode.actions.std() < 0.7
    assert env.simulator_state()["bodies"][7:].any() or np.ptp(episode.rewards) > 0
