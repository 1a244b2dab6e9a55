"""Any gymnasium environment with continuous actions, as pixels, by the same laws as the other simulators."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from experiments.envs.gymnasium_pixels import GymnasiumPixels
from experiments.envs.registry import make_simulator, suite_of
from experiments.errors import UsageError


class Square(gymnasium.Env):
    """A square that one number moves along a wide picture; it ends at the right edge, where the reward is 5."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, render_mode=None, space=None, visible=True):
        self.visible = visible
        self.observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-2, 4, (1,), np.float32) if space is None else space
        self.x = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(0, 3))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.x = float(np.clip(self.x + action[0], 0, 30))
        over = self.x >= 30
        return np.zeros(1, np.float32), 5.0 if over else float(action[0]), over, False, {"success": over}

    def render(self):
        if not self.visible:
            raise gymnasium.error.DependencyNotInstalled("Square draws with a package that is not installed")
        picture = np.zeros((32, 64, 3), np.uint8)
        picture[12:20, 14 + int(self.x) : 22 + int(self.x), 0] = 255
        return picture


@pytest.fixture(autouse=True)
def registered():
    added = {
        "Square-v0": {"max_episode_steps": 20},
        "Endless-v0": {},
        "Invisible-v0": {"max_episode_steps": 20, "kwargs": {"visible": False}},
        "Discrete-v0": {"max_episode_steps": 20, "kwargs": {"space": gymnasium.spaces.Discrete(3)}},
        "Unlimited-v0": {
            "max_episode_steps": 20,
            "kwargs": {"space": gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)},
        },
    }
    for name, settings in added.items():
        gymnasium.register(name, entry_point=Square, **settings)
    yield
    for name in added:
        del gymnasium.registry[name]


@pytest.fixture
def env():
    env = GymnasiumPixels("gym/Square-v0", resolution=16)
    yield env
    env.close()


def test_a_name_with_the_prefix_is_found_and_passes_gymnasiums_checker(env):
    assert suite_of("gym/Square-v0").name == "gym"
    assert isinstance(make_simulator("gym/Square-v0", "fast", 16), GymnasiumPixels)
    check_env(env, skip_render_check=True)


def test_pictures_are_the_middle_square_shrunk_and_actions_are_stretched_to_the_limits(env):
    frame, _ = env.reset(seed=0)
    assert frame.shape == (16, 16, 3) and frame.dtype == np.uint8
    assert frame[6:10, :, 0].max() == 255 and frame[:5].max() == 0
    _, reward, *_ = env.step(np.array([7.0]))  # clipped to 1, which is 4 in the environment, twice
    assert reward == 8.0
    _, reward, *_ = env.step(np.array([-1.0]))
    assert reward == -4.0


def test_an_episode_that_ends_early_stays_where_it_is_and_earns_nothing_more(env):
    env.reset(seed=0)
    steps = [env.step(np.array([1.0])) for _ in range(env.episode_agent_steps)]
    assert env.episode_agent_steps == 10
    ends = [index for index, (*_, info) in enumerate(steps) if info["success"]]
    assert len(ends) == 1
    assert all(reward == 0 for _, reward, *_ in steps[ends[0] + 1 :])
    np.testing.assert_array_equal(steps[ends[0]][0], steps[-1][0])
    assert [truncated for *_, truncated, _ in steps] == [False] * 9 + [True]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.array([1.0]))


def test_a_saved_state_is_gone_on_from(env):
    env.reset(seed=1)
    env.step(np.array([0.1]))
    saved = env.save_state()
    expected = [env.step(np.array([x]))[:2] for x in (0.3, -0.2, 0.9)]
    env.restore_state(saved)
    for (frame, reward), x in zip(expected, (0.3, -0.2, 0.9), strict=True):
        again = env.step(np.array([x]))
        np.testing.assert_array_equal(again[0], frame)
        assert again[1] == reward


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("gym/Invisible-v0", "cannot be drawn: Square draws with a package that is not installed"),
        ("gym/Nothing-v0", "gymnasium cannot make Nothing-v0"),
        ("gym/Endless-v0", "has no time limit: register it with max_episode_steps"),
        ("gym/Discrete-v0", r"has actions of the kind Discrete\(3\), expected a Box of one axis"),
        ("gym/Unlimited-v0", "has actions without limits"),
    ],
)
def test_what_does_not_fit_is_one_sentence(task, said):
    with pytest.raises(UsageError, match=said):
        GymnasiumPixels(task)
