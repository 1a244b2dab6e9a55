"""DreamerV3 as a user starts it, killed and started again."""

import signal
import time

import pytest
from kill_many import episodes_of, fingerprint_of, finish, lines_of, log_of, start
from test_resume import wait_until, whole_checkpoints

pytestmark = pytest.mark.slow

DREAMER = ["--algorithm", "dreamerv3"]


@pytest.fixture(scope="module")
def finished(shared_run):
    return shared_run(*DREAMER)


def test_a_run_learns_is_evaluated_and_reported(finished):
    names = set().union(*lines_of(finished))
    assert {
        "eval/success",
        "eval/return",
        "agent/reconstruction_loss",
        "agent/policy_loss",
        "state_fingerprint",
    } <= names
    assert not any(name.startswith(("tokenizer/", "transformer/", "model/")) for name in names)
    assert list((finished / "videos").glob("evaluation-*.mp4"))
    assert "dreamerv3, debug" in (finished / "report.html").read_text()


def test_a_killed_run_ends_like_one_that_was_never_stopped(tmp_path, finished):
    run = tmp_path / "killed"
    session = start(run, "debug", DREAMER)
    wait_until(lambda: whole_checkpoints(run), session)
    time.sleep(1)
    session.kill()
    assert session.wait() == -signal.SIGKILL
    finish(run, "debug", DREAMER)
    assert "going on from agent step" in log_of(run).read_text()
    assert fingerprint_of(run) == fingerprint_of(finished) is not None
    assert lines_of(run) == lines_of(finished)
    assert episodes_of(run) == episodes_of(finished)
