import os
import signal
import threading

import pytest

from experiments.runs.preemption import EXIT_CODE, Preempted, stop_request


def test_the_first_sigterm_is_noticed_and_a_second_one_would_end_the_process():
    usual = signal.getsignal(signal.SIGTERM)
    with stop_request() as stop:
        stop.refuse_to_go_on("nowhere")
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with pytest.raises(Preempted, match="stopped by SIGTERM, saved at agent step 3; the same command"):
            stop.refuse_to_go_on("saved at agent step 3")
    assert signal.getsignal(signal.SIGTERM) == usual
    assert EXIT_CODE == 143


def test_a_thread_that_cannot_listen_runs_without():
    def run():
        with stop_request() as stop:
            seen.append(stop.made)

    seen: list[bool] = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]
