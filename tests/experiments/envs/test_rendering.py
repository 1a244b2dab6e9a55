"""The rendering backend is found by trying, and its absence is one clear sentence."""

import os
import types

import pytest

from experiments.envs import rendering


@pytest.fixture
def nothing_chosen(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")  # set, not deleted, so that what a test chooses is undone after it
    monkeypatch.setattr(rendering, "BACKENDS", ("egl", "osmesa"))


def test_a_users_choice_is_respected(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setattr(rendering, "works", lambda backend: pytest.fail("nothing to try"))
    assert rendering.choose_backend() == "glfw"


def test_osmesa_is_taken_where_egl_does_not_work_and_is_not_tried_again(monkeypatch, nothing_chosen):
    tried = []
    monkeypatch.setattr(rendering, "works", lambda backend: tried.append(backend) or backend == "osmesa")
    assert rendering.choose_backend() == rendering.choose_backend() == "osmesa"
    assert tried == ["egl", "osmesa"]
    assert os.environ["MUJOCO_GL"] == "osmesa"  # child processes read it there


def test_without_any_one_sentence_names_the_packages(monkeypatch, nothing_chosen):
    monkeypatch.setattr(rendering, "works", lambda backend: False)
    with pytest.raises(rendering.RenderingError, match=r"apt-get install -y libegl1 libgl1-mesa-dri' .*libosmesa6"):
        rendering.choose_backend()
    assert not os.environ["MUJOCO_GL"]


def test_a_backend_that_does_not_exist_does_not_work():
    assert not rendering.works("no-such-library")


def test_a_backend_that_kills_its_process_does_not_work(monkeypatch):
    monkeypatch.setattr(rendering, "_PROBE", "import os; os.abort()")
    assert not rendering.works("egl")


@pytest.fixture
def apt(monkeypatch, nothing_chosen):
    """A machine without graphics where this is root: the packages installed so far, by a pretended apt-get."""
    installed = []
    monkeypatch.setattr(rendering.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(rendering.os, "geteuid", lambda: 0, raising=False)
    run = lambda command, **_: installed.extend(word for word in command if word.startswith("lib"))  # noqa: E731
    monkeypatch.setattr(rendering, "subprocess", types.SimpleNamespace(run=run, DEVNULL=None))
    return installed


def test_root_installs_only_as_much_as_it_takes(monkeypatch, apt):
    monkeypatch.setattr(rendering, "works", lambda backend: backend == "egl" and "libegl1" in apt)
    assert rendering.install_if_missing() == "egl"
    assert apt == ["libegl1", "libgl1-mesa-dri"]


def test_root_falls_back_to_osmesa(monkeypatch, apt):
    monkeypatch.setattr(rendering, "works", lambda backend: backend == "osmesa" and "libosmesa6" in apt)
    assert rendering.install_if_missing() == "osmesa"


def test_others_are_told_what_to_install(monkeypatch, apt):
    monkeypatch.setattr(rendering.os, "geteuid", lambda: 1000, raising=False)
    monkeypatch.setattr(rendering, "works", lambda backend: False)
    with pytest.raises(rendering.RenderingError, match="libegl1"):
        rendering.install_if_missing()
    assert apt == []
