"""SIGTERM, by which schedulers announce that a process must end, and Ctrl-C: the work is saved first."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
"""The signals that ask a process to end, as a reader knows them."""


class Preempted(Exception):
    """The work ended because it was asked to; the message says where it will go on."""

    def __init__(self, message: str, by: int = signal.SIGTERM):
        super().__init__(message, by)
        self.exit_code = 128 + by

    def __str__(self) -> str:
        return self.args[0]


class StopRequest:
    """Whether somebody asked the process to end, and by which signal."""

    def __init__(self):
        self.made, self.by = False, signal.SIGTERM

    def refuse_to_go_on(self, where: str) -> None:
        """Raise Preempted if the request was made. where: what is safe by now."""
        if self.made:
            raise Preempted(f"stopped by {NAMES[self.by]}, {where}; the same command goes on from there", self.by)


_noticing: StopRequest | None = None


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Notice a first SIGTERM or Ctrl-C while the block runs; a second one ends the process at once.

    Within another such block it is that one's request. Outside the main thread, where no handler can be installed, the
    signals keep their usual effects.
    """
    global _noticing
    if _noticing is not None or threading.current_thread() is not threading.main_thread():
        yield _noticing or StopRequest()
        return
    request = _noticing = StopRequest()

    def notice(number: int, frame: object) -> None:
        request.made, request.by = True, signal.Signals(number)
        for each in NAMES:
            signal.signal(each, signal.SIG_DFL)

    usual = {each: signal.signal(each, notice) for each in NAMES}
    try:
        yield request
    finally:
        _noticing = None
        for each, handler in usual.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that the block starts never see Ctrl-C, not even while they start: whoever started them ends them."""
    resource_tracker.ensure_running()  # which lets Ctrl-C through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent(*_: object) -> None:
    """In a worker process: leave Ctrl-C to the process that started it, and end with that one, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker process has somebody to follow"

    def end_with_it() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
