"""A finished `debug` run, shared by all tests of the whole loop."""

import pathlib

import kill_many
import pytest


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> pathlib.Path:
    run = tmp_path_factory.mktemp("runs") / "debug"
    kill_many.finish(run, "debug", [])
    return run
