import dataclasses
import multiprocessing
import os
import pathlib
import signal
import time

import pytest

from experiments.run_folder import RunFolder, RunFolderError, differing_fields, plain, write_atomically


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


def test_a_field_that_only_one_side_knows_differs():
    assert differing_fields({"a": {"b": 1}}, {"a": {"c": 2}}) == [("a.c", "absent", "2"), ("a.b", "1", "absent")]
    assert differing_fields({"a": None}, {"a": {"c": 2}}) == [("a.c", "absent", "2"), ("a", "None", "absent")]


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
    for content in ("config: [", "config: {}", "hello", "config: 1\nsessions: []"):
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


def test_a_configuration_holds_only_what_yaml_can_tell():
    with pytest.raises(TypeError, match="a configuration cannot hold"):
        plain(dataclasses.replace(Outer(), task=object()))
