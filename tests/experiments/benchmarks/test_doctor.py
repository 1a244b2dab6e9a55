"""The doctor looks at everything, breaks at nothing, and says what to do."""

import pytest

from experiments.benchmarks import doctor
from experiments.envs import rendering

NAMES = ["python", "packages", "devices", "compilation cache", "rendering", "speed", "disk", "memory"]


def _named(report: doctor.Report) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in report.findings}


def test_a_machine_that_runs_the_tests_can_train():
    rendering.choose_backend()
    report = doctor.doctor()
    assert [finding.name for finding in report.findings] == NAMES
    assert report.ok
    text = doctor.format_report(report)
    assert all(name in text for name in NAMES)
    assert "everything that training needs is here" in text


def test_without_rendering_training_is_refused_and_the_packages_are_named(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(rendering, "works", lambda backend: False)
    report = doctor.doctor()
    assert not report.ok
    assert "speed" not in _named(report)
    lines = doctor.format_report(report).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("MISSING"))
    assert "rendering" in lines[at]
    assert "MuJoCo cannot draw here" in lines[at + 1]
    assert lines[-1] == "training cannot run until this is mended"


def test_a_users_backend_that_does_not_work_is_reported_before_it_breaks_anything(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "no-such-library")
    finding = doctor._rendering()
    assert finding.missing
    assert "no-such-library" in finding.found
    assert "unset MUJOCO_GL" in finding.advice


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    finding = doctor._packages()
    assert finding.missing
    assert finding.advice == "pip install no-such-package"


def test_a_check_that_breaks_is_a_finding_not_a_crash():
    def _devices():
        raise RuntimeError("no driver")

    finding = doctor._run_check(_devices)
    assert finding.missing
    assert finding.name == "devices"
    assert "no driver" in finding.found


@pytest.mark.parametrize(("free", "advised"), [(0.1, True), (500.0, False)])
def test_little_disk_is_worth_a_note_and_no_refusal(monkeypatch, free, advised):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free * doctor.GIB}))
    finding = doctor._disk()
    assert bool(finding.advice) == advised
    assert not finding.missing
