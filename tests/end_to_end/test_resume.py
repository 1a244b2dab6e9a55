"""A run that is killed, then asked to end, at moments that differ from one test session to the next."""

import pathlib
import random
import signal
import subprocess
import time

import pytest
from kill_many import episodes_of, fingerprint_of, finish, lines_of, log_of, start

pytestmark = pytest.mark.slow


def wait_until(happened, session: subprocess.Popen, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not happened() and session.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def whole_checkpoints(run: pathlib.Path) -> list[str]:
    return [path.name for path in (run / "checkpoints").glob("*") if path.name.isdigit()]


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)])
def test_a_killed_run_ends_like_one_that_was_never_stopped(tmp_path, finished_run, number, name, code):
    """Fault 7: Ctrl-C saved nothing."""
    run, moment = tmp_path / "killed", random.Random()
    session = start(run, "debug", [])
    wait_until(lambda: len(episodes_of(run)) > 1, session)  # the demonstration and a first episode
    time.sleep(moment.uniform(0, 3))
    session.kill()
    assert session.wait() == -signal.SIGKILL
    finished = episodes_of(run)

    # Where there is a checkpoint already, this session has begun to work once it says that it goes on from there.
    begun = "going on from agent step" if whole_checkpoints(run) else ""
    session = start(run, "debug", [])
    wait_until(lambda: whole_checkpoints(run) and begun in log_of(run).read_text(), session)
    time.sleep(moment.uniform(0, 1))
    session.send_signal(number)
    assert session.wait(timeout=60) == code, log_of(run).read_text()
    assert f"stopped by {name}, saved at agent step" in log_of(run).read_text()

    finish(run, "debug", [])
    assert "going on from agent step" in log_of(run).read_text()
    assert fingerprint_of(run) == fingerprint_of(finished_run) is not None
    assert lines_of(run) == lines_of(finished_run)
    assert episodes_of(run) == episodes_of(finished_run)
    assert finished.items() <= episodes_of(run).items()
