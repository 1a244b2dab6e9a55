"""The rendering backend is found by trying, and its absence is one clear sentence."""

import pytest

from experiments import doctor, rendering


def test_a_users_choice_is_respected(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.setattr(rendering, "works", lambda backend: pytest.fail("nothing to try"))
    assert rendering.choose_backend() == "glfw"


def test_osmesa_is_taken_where_egl_does_not_work_and_children_inherit_it(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "works", lambda backend: backend == "osmesa")
    assert rendering.choose_backend() == "osmesa"
    assert rendering.os.environ["MUJOCO_GL"] == "osmesa"


def test_without_any_the_sentence_names_the_packages_and_the_doctor_says_so(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "works", lambda backend: False)
    with pytest.raises(rendering.RenderingError, match="apt-get install -y libegl1 .*libosmesa6"):
        rendering.choose_backend()
    finding = doctor._renderer()
    assert finding.missing
    assert "libosmesa6" in finding.advice
    assert not doctor.Report((finding,)).ok
    assert "MISSING" in doctor.format_report(doctor.Report((finding,)))


def test_a_backend_that_does_not_exist_does_not_work():
    assert not rendering.works("no-such-library")
