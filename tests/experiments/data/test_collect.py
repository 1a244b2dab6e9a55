"""Data sets of Meta-World that are played here: what an episode depends on, and that nothing is played twice."""

import numpy as np
import pytest

from experiments import cli, rendering

rendering.choose_backend()

from experiments.data.converters.metaworld import Collection, metaworld  # noqa: E402
from experiments.data.recording import DataError  # noqa: E402
from experiments.data.store import Store  # noqa: E402
from experiments.metaworld import MetaWorld  # noqa: E402


@pytest.fixture(scope="module")
def env():
    env = MetaWorld("drawer-close", resolution=16)
    yield env
    env.close()


def read(env, wanted: Collection) -> dict:
    return {candidate.name: candidate.read for candidate in metaworld(env, wanted).candidates}


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


def test_a_command_makes_a_folder_a_task_in_processes_and_again_plays_what_is_missing_alone(tmp_path, monkeypatch, capsys):
    typed = ["collect-data", str(tmp_path), "--tasks", "reach", "drawer-close", "--without", "reach", "--resolution", "16"]
    monkeypatch.setattr("sys.argv", ["ivideogpt", *typed, "--scripted", "0", "--noisy", "0", "--random", "2"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    shard = tmp_path / "drawer-close" / "00000.arrayrecord"
    assert "2 episodes with 4 numbers an action and rewards, 0 skipped" in capsys.readouterr().err
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    said = capsys.readouterr()
    assert "shard 0 is made again: " in said.err
    assert shard.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["drawer-close"]
    store = Store(tmp_path / "drawer-close")
    assert store.names == ["drawer-close-random-0000", "drawer-close-random-0001"]
    assert store.read(1).frames.shape == (101, 16, 16, 3)
    assert f"1 data sets in {tmp_path}, 2 episodes asked for of each" in said.out
    monkeypatch.setattr("sys.argv", ["ivideogpt", *typed, "--random", "3"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "was made with" in capsys.readouterr().err


def test_a_policy_that_always_fails_is_a_broken_episode_with_its_reason(env, monkeypatch):
    from experiments.data.converters import metaworld as module

    lost = module.scripted_episode(env, np.random.default_rng(0), noise=5.0)
    monkeypatch.setattr(module, "scripted_episode", lambda *_: lost.__class__(*vars(lost).values()))
    monkeypatch.setattr(type(lost), "success", False)
    with pytest.raises(DataError, match=r"drawer-close failed \d+ times"):
        read(env, Collection(1, 0, 0))["drawer-close-scripted-0000"]()
