"""Saving and restoring a simulator: what follows is the same, to the last bit, in this simulator and in another."""

import numpy as np
import pytest

from experiments.envs import rendering

rendering.choose_backend()

from experiments.envs.registry import make_simulator  # noqa: E402

TASKS = (
    "plate-slide", "door-lock", "stick-pull", "hammer", "door-close", "window-close", "drawer-open", "button-press",
    "dmc/cartpole-swingup", "dmc/reacher-easy",
)  # fmt: skip


def follow(env, steps: int, seed: int) -> list[tuple]:
    """Frames, rewards and successes under actions drawn from a seed."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        frame, reward, _, over, info = env.step(rng.uniform(-1, 1, env.action_space.shape))
        found.append((frame, reward, over, info["success"], info["env_steps"]))
    return found


def same(one: list[tuple], other: list[tuple]) -> bool:
    return all((a[0] == b[0]).all() and a[1:] == b[1:] for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("task", TASKS)
def test_a_restored_state_goes_on_as_the_saved_one_did(task):
    one, other = make_simulator(task, resolution=16), make_simulator(task, resolution=16)
    try:
        one.reset(seed=3)
        other.reset(seed=8)
        follow(one, 12, seed=0)
        follow(other, 5, seed=1)
        saved = one.save_state()
        expected = follow(one, 10, seed=2)
        assert not same(expected, follow(one, 10, seed=2)), "a simulator in which nothing changes proves nothing"
        one.restore_state(saved)
        assert same(follow(one, 10, seed=2), expected)
        other.restore_state(saved)
        assert same(follow(other, 10, seed=2), expected)
    finally:
        one.close()
        other.close()


def test_the_picture_after_restoring_is_the_one_that_was_saved():
    env = make_simulator("door-lock", resolution=32)
    env.reset(seed=0)
    frame = follow(env, 3, seed=0)[-1][0]
    saved = env.save_state()
    follow(env, 5, seed=1)
    env.restore_state(saved)
    np.testing.assert_array_equal(env.render(), frame)
    env.close()
