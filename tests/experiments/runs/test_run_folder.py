import dataclasses
import multiprocessing
import os
import pathlib
import signal
import time
from typing import NamedTuple

import pytest
import yaml

from experiments.runs.run_folder import RunFolder, RunFolderError, differing_fields, flat, plain, write_atomically


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 1e-5
    levels: tuple[int, ...] = (8, 5, 5, 5)
    scale: float | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    task: str = "handle-press"
    seed: int = 0
    inner: Inner = Inner()


def refused(path: pathlib.Path, config: Outer) -> str:
    with pytest.raises(RunFolderError) as error, RunFolder(path).claim(config):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_same_configuration_opens_a_folder_again_and_every_session_is_kept(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "one")
    for command in ("first", "second"):
        with folder.claim(Outer(), command):
            assert folder.checkpoints.is_dir() and folder.replay.is_dir() and folder.videos.is_dir()
    record = folder.read()
    assert record["config"] == plain(Outer())
    assert [session["command"] for session in record["sessions"]] == ["first", "second"]
    assert set(record["sessions"][0]) == {"version", "commit", "command", "started"}


def test_another_configuration_is_refused_with_the_fields_that_differ(tmp_path):
    with RunFolder(tmp_path).claim(Outer()):
        pass
    before = (tmp_path / "config.yaml").read_bytes()
    said = refused(tmp_path, Outer(seed=3, inner=Inner(rate=0.1, levels=(8, 5))))
    assert "seed was 0, now 3; inner.rate was 1e-05, now 0.1; inner.levels was [8, 5, 5, 5], now [8, 5]" in said
    assert "task" not in said and "--run-dir" in said
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_a_field_that_may_change_is_written_anew_with_its_setting_and_no_other_may(tmp_path):
    folder, new = RunFolder(tmp_path), Outer(inner=Inner(rate=0.1))
    with folder.claim(Outer(), settings={"inner.rate": 1e-5, "task": "reach"}):
        pass
    with folder.claim(new, may_change=("inner.rate",), settings={"inner.rate": 0.1, "task": "push"}):
        pass
    assert folder.read()["config"] == plain(new)
    assert folder.read()["settings"] == {"inner.rate": 0.1, "task": "reach"}
    with pytest.raises(RunFolderError, match=r"inner\.scale was None"):
        with folder.claim(Outer(inner=Inner(scale=1.0)), may_change=("inner.rate", "inner.s")):
            pass


def test_a_field_that_only_one_side_knows_differs():
    assert differing_fields({"a": {"b": 1}}, {"a": {"c": 2}}) == [("a.c", "absent", "2"), ("a.b", "1", "absent")]
    assert differing_fields({"a": None}, {"a": {"c": 2}}) == [("a.c", "absent", "2"), ("a", "None", "absent")]


def test_a_run_keeps_the_settings_it_began_with(tmp_path):
    folder, typed = RunFolder(tmp_path), {"inner.rate": 0.1, "inner.levels": (8, 5)}
    with folder.claim(Outer(), settings=typed):
        assert folder.read()["settings"] == {"inner.rate": 0.1, "inner.levels": [8, 5]}
    before = folder.read()["settings"]
    for later in ({"task": "reach"}, {}):
        with folder.claim(Outer(), settings=later):
            assert folder.read()["settings"] == before


def test_a_run_of_another_version_has_no_settings(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.claim(Outer(), settings={"task": "reach"}):
        pass
    rewrite(folder, lambda record: record.pop("settings"))
    assert folder.read()["settings"] == {}
    with folder.claim(Outer(), settings={"task": "reach"}):
        assert folder.read()["settings"] == {}


def rewrite(folder: RunFolder, change) -> None:
    record = yaml.safe_load(folder.config.read_text())
    change(record)
    folder.config.write_text(yaml.safe_dump(record))


@pytest.mark.parametrize(
    "config",
    [
        {"mbpo": {"agent_steps": 3000}},
        {"mbpo": {"world_model": {"hidden_history": 1.2}}, "schedule": {"agent_steps": 3000}},
        {"world_model": {"hidden_history": 0.0}, "source": None, "kind": "pretrain"},
        {"source": "model", "tokenizer": {"steps": 2}},
    ],
)
def test_a_run_of_an_earlier_version_is_not_gone_on_with_and_not_read_as_one_of_today(tmp_path, config):
    """Whatever is asked for: its settings have other names, so that a list of differences would help nobody."""
    folder = RunFolder(tmp_path)
    folder.path.joinpath("config.yaml").write_text(yaml.safe_dump({"config": config, "sessions": [{"command": ""}]}))
    before = folder.config.read_bytes()
    with pytest.raises(RunFolderError) as error:
        folder.read_current()
    said = f"{tmp_path} was written by an earlier version: start again with another --run-dir"
    assert str(error.value) == said == refused(tmp_path, Outer()) == refused(tmp_path, config)
    assert folder.config.read_bytes() == before and folder.read()["config"] == config


def test_a_run_that_knows_another_set_of_fields_is_one_of_another_version(tmp_path):
    folder = RunFolder(tmp_path)
    with folder.claim(Outer()):
        pass
    rewrite(folder, lambda record: record["config"].pop("seed"))
    assert "written by another version (seed was absent, now 0): start again" in refused(tmp_path, Outer())
    assert "of another configuration (task was" in refused(tmp_path, Outer(task="reach"))


def test_one_process_at_a_time_uses_a_folder_and_a_killed_one_lets_go(tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held), daemon=True)
    process.start()
    assert held.wait(30)
    assert f"is in use by process {process.pid} on " in refused(tmp_path, Outer())
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with RunFolder(tmp_path).claim(Outer()):
        assert "is in use by" in refused(tmp_path, Outer())


def hold(path: pathlib.Path, held) -> None:
    with RunFolder(path).claim(Outer()):
        held.set()
        time.sleep(60)  # until killed


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    assert "is not a run folder: it holds 'thesis.tex'" in refused(tmp_path, Outer())
    assert os.listdir(tmp_path) == ["thesis.tex"]
    assert "is a file" in refused(tmp_path / "thesis.tex", Outer())


def test_a_folder_whose_first_session_was_killed_before_it_wrote_anything_is_a_new_one(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "checkpoints").mkdir()
    with RunFolder(tmp_path).claim(Outer()):
        pass


def test_reading_says_what_is_wrong(tmp_path):
    with pytest.raises(RunFolderError, match=r"is not a run folder: it has no config\.yaml"):
        RunFolder(tmp_path).read()
    session = "sessions: [{command: train}]"
    for content in (
        "config: [",
        "config: {}",
        "hello",
        f"config: 1\n{session}",
        "config: {}\nsessions: []",
        f"config: {{}}\nsettings: 3\n{session}",
    ):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(RunFolderError, match="is damaged"):
            RunFolder(tmp_path).read()


def test_a_write_that_fails_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_atomically(path, "old")

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space"):
        patched.setattr(os, "fsync", fail)
        write_atomically(path, "new")
    assert path.read_text() == "old"
    write_atomically(path, b"new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["report.html"]


def test_settings_are_called_by_dotted_names_down_to_those_of_named_tuples():
    class Weights(NamedTuple):
        reward: float = 1.0

    assert flat(plain({"weights": Weights(2.0), "inner": Inner(levels=(8,))})) == {
        "weights.reward": 2.0, "inner.rate": 1e-5, "inner.levels": [8], "inner.scale": None,
    }  # fmt: skip


def test_a_configuration_holds_only_what_yaml_can_tell():
    with pytest.raises(TypeError, match="a configuration cannot hold"):
        plain(dataclasses.replace(Outer(), task=object()))
