"""Data sets of Meta-World that are played here: what an episode depends on, and that nothing is played twice."""

import numpy as np
import pytest
from in_process_ray import Died

from experiments.envs import rendering

rendering.choose_backend()

from experiments.data import collect  # noqa: E402
from experiments.data.converters.played import Collection, play_episodes  # noqa: E402
from experiments.data.recording import DataError  # noqa: E402
from experiments.data.store import Store  # noqa: E402
from experiments.envs.metaworld import MetaWorld  # noqa: E402
from experiments.envs.simulator import PixelSimulator  # noqa: E402
from experiments.runs.preemption import Preempted  # noqa: E402


@pytest.fixture(scope="module")
def env():
    env = MetaWorld("drawer-close", resolution=16)
    yield env
    env.close()


def read(env, collection: Collection) -> dict:
    return {episode.name: episode.read for episode in play_episodes(env, collection).episodes}


def test_kinds_come_by_turns_and_an_episode_depends_on_its_own_name_alone(env):
    few, many = Collection(1, 1, 1), Collection(2, 2, 1)
    assert list(read(env, few)) == [f"drawer-close-{kind}-0000" for kind in ("noisy", "random", "scripted")]
    alone = read(env, few)["drawer-close-noisy-0000"]()
    played = {name: episode() for name, episode in read(env, many).items() if name.endswith("-0000")}
    np.testing.assert_array_equal(alone.frames, played["drawer-close-noisy-0000"].frames)
    np.testing.assert_array_equal(alone.actions, played["drawer-close-noisy-0000"].actions)
    assert (played["drawer-close-noisy-0000"].actions != played["drawer-close-scripted-0000"].actions).any()
    assert alone.length == 101 and alone.rewards[0] == 0
    assert played["drawer-close-scripted-0000"].rewards.max() > 10  # a step that succeeded


@pytest.mark.slow
def test_a_command_makes_one_folder_per_task_and_again_plays_only_what_is_missing(ivideogpt, tmp_path):
    typed = ["collect-data", tmp_path, "--tasks", "reach", "drawer-close", "--without", "reach", "--resolution", 16]
    played = ["--scripted", 0, "--noisy", 0, "--random"]
    done = ivideogpt(*typed, *played, 2)
    assert done.code == 0
    assert "2 episodes with 4 numbers an action and rewards, 0 skipped" in done.err
    shard = tmp_path / "drawer-close" / "00000.arrayrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    done = ivideogpt(*typed, *played, 2)
    assert done.code == 0
    assert "shard 0 is made again: " in done.err
    assert shard.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["drawer-close"]
    store = Store(tmp_path / "drawer-close")
    assert store.names == ["drawer-close-random-0000", "drawer-close-random-0001"]
    assert store.read(1).frames.shape == (101, 16, 16, 3)
    assert done.out == f"1 data set in {tmp_path}; episodes asked for of each: 2\n"
    refused = ivideogpt(*typed, *played, 3)
    assert refused.code == 2 and "was made with" in refused.err


class Knob(PixelSimulator):
    """Three steps of a brightness that one number changes; nobody has written a policy for it."""

    def __init__(self):
        super().__init__("knob", action_size=1, resolution=8, action_repeat=1, episode_agent_steps=3)

    def _begin(self, seed):
        self._brightness = float(seed % 256)

    def _advance(self, action, last):
        self._brightness = float(np.clip(self._brightness + 50 * action[0], 0, 255))
        return self._brightness, False

    def render(self):
        return np.full(self.observation_space.shape, self._brightness, np.uint8)


def test_a_task_without_a_scripted_policy_has_random_episodes_alone_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "make_simulator", lambda *_: Knob())
    board = collect.SharedBoard()
    said = collect.collect_set(collect.TaskSet("knob", tmp_path / "knob", Collection(2, 1, 2)), board)
    assert said.splitlines()[0] == "knob has no scripted policy: its scripted and noisy episodes are left out"
    assert Store(tmp_path / "knob").names == ["knob-random-0000", "knob-random-0001"]
    assert board.take() == [collect.Tally("knob", done, 2) for done in (1, 2)]
    with pytest.raises(DataError, match="knob: none of the episodes that were asked for can be played"):
        collect.collect_set(collect.TaskSet("knob", tmp_path / "none", Collection(2, 1, 0)), board)


def test_a_request_to_end_stops_after_an_episode_and_the_next_call_goes_on(tmp_path, monkeypatch):
    """Fault 7: every episode of a shard that was not whole yet was lost."""
    played = []

    class Counted(Knob):
        def _begin(self, seed):
            played.append(seed)
            super()._begin(seed)

    monkeypatch.setattr(collect, "make_simulator", lambda *_: Counted())
    one, board = collect.TaskSet("knob", tmp_path / "knob", Collection(0, 0, 3)), collect.SharedBoard()
    board.ask_to_end()
    with pytest.raises(Preempted):
        collect.collect_set(one, board)
    assert len(played) == 1
    assert "3 episodes with 1 number an action and rewards, 0 skipped" in collect.collect_set(
        one, collect.SharedBoard()
    )
    assert len(played) == len(set(played)) == 3


def test_ray_tasks_make_the_same_bytes_though_a_worker_dies(tmp_path, monkeypatch, ray):
    played = []

    class Mortal(Knob):
        def _begin(self, seed):
            played.append(seed)
            if len(played) == 2:
                raise Died
            super()._begin(seed)

    monkeypatch.setattr(collect, "make_simulator", lambda *_: Mortal())
    sets = [collect.TaskSet("knob", tmp_path / place, Collection(0, 0, 3)) for place in ("tasks", "alone")]
    *_, made, last = collect.collect_sets(sets[:1], 2, None, collect.in_ray_tasks)
    assert isinstance(made, collect.Made) and "3 episodes" in made.said and (last.done, last.total) == (3, 3)
    assert len(played) > 3 and len(set(played)) == 3
    collect.collect_set(sets[1], collect.SharedBoard())
    first, second = ({path.name: path.read_bytes() for path in each.folder.glob("*.*")} for each in sets)
    assert first == second and first


def test_a_set_whose_workers_always_die_is_named(tmp_path, monkeypatch, ray):
    def die(*_):
        raise Died

    monkeypatch.setattr(collect, "make_simulator", die)
    with pytest.raises(DataError, match="knob: its worker died 4 times"):
        list(
            collect.collect_sets([collect.TaskSet("knob", tmp_path / "a", Collection())], 1, None, collect.in_ray_tasks)
        )


def test_a_policy_that_always_fails_is_a_broken_episode_with_its_reason(env, monkeypatch):
    from experiments.data.converters import played as module

    lost = module.scripted_episode(env, np.random.default_rng(0), noise=5.0)
    monkeypatch.setattr(module, "scripted_episode", lambda *_: lost.__class__(*vars(lost).values()))
    monkeypatch.setattr(type(lost), "success", False)
    with pytest.raises(DataError, match=r"drawer-close failed \d+ times"):
        read(env, Collection(1, 0, 0))["drawer-close-scripted-0000"]()
