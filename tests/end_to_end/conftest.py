"""Finished `debug` runs, shared by all tests of the whole loop, whichever process of the test session needs one
first."""

import fcntl
import pathlib

import pytest

from experiments import cli


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory, worker_id):
    """Finished runs by the words behind `train --preset debug`, each made once in a test session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "finished-runs"
    folder.mkdir(exist_ok=True)

    def run(*words: str) -> pathlib.Path:
        path = folder / ("-".join(word.strip("-") for word in words) or "plain")
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (path / "report.html").exists():
                assert cli.run(["train", "--preset", "debug", "--run-dir", str(path), *words]) == 0
        return path

    return run


@pytest.fixture(scope="session")
def finished_run(shared_run) -> pathlib.Path:
    return shared_run()
