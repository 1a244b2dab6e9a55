import os
import signal
import subprocess
import sys
import threading

import pytest
from in_process_ray import travelled

from experiments.runs.preemption import Preempted, StopRequest, stop_request


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)])
def test_a_first_signal_is_noticed_and_a_second_one_would_end_the_process(number, name, code):
    """Fault 7: Ctrl-C was not noticed."""
    usual = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with stop_request() as stop:
        stop.refuse_to_go_on("nowhere")
        os.kill(os.getpid(), number)
        assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == [signal.SIG_DFL] * 2
        with pytest.raises(Preempted) as stopped:
            stop.refuse_to_go_on("saved at agent step 3")
    assert str(stopped.value) == f"stopped by {name}, saved at agent step 3; the same command goes on from there"
    assert stopped.value.exit_code == code
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == usual


def test_a_block_within_another_shares_its_request():
    """Fault 7: what is asked while a command's programs are still being imported counts, too."""
    with stop_request() as early:
        os.kill(os.getpid(), signal.SIGINT)
        with stop_request() as stop:
            assert stop is early and stop.made
    with stop_request() as another:
        assert not another.made


def test_what_ended_the_work_of_another_process_arrives_whole():
    request = StopRequest()
    request.made, request.by = True, signal.SIGINT
    with pytest.raises(Preempted) as stopped:
        request.refuse_to_go_on("here")
    arrived = travelled(stopped.value)
    assert (str(arrived), arrived.exit_code) == (str(stopped.value), 130)


FAMILY = """
import multiprocessing, os, signal, sys, time
from experiments.runs.preemption import deaf_children, follow_parent

def work(pipe, follows):
    if follows:
        follow_parent()
    pipe.send(os.getpid())
    time.sleep(600)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    with deaf_children():
        child = spawn.Process(target=work, args=(theirs, True), daemon=True)
        child.start()
    os.kill(child.pid, signal.SIGINT)  # while it starts
    ours.recv()
    os.kill(child.pid, signal.SIGINT)
    time.sleep(0.1)
    assert child.is_alive()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_hears_no_interruption_and_ends_with_its_parent(tmp_path):
    """Fault 7: workers printed tracebacks and outlived the process that had started them."""
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    # `run` returns once nobody holds the pipes any more: the worker is gone, too.
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


def test_a_thread_that_cannot_listen_runs_without():
    def run():
        with stop_request() as stop:
            seen.append(stop.made)

    seen: list[bool] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
