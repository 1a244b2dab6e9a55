"""SIGTERM, by which schedulers announce that a process must end: the run saves itself first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

EXIT_CODE = 128 + signal.SIGTERM


class Preempted(Exception):
    """The run ended because it was asked to; the message says where it will go on."""


class StopRequest:
    """Whether somebody asked the process to end."""

    def __init__(self):
        self.made = False

    def refuse_to_go_on(self, where: str) -> None:
        """Raise Preempted if the request was made. where: what is safe by now."""
        if self.made:
            raise Preempted(f"stopped by SIGTERM, {where}; the same command goes on from there")


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Notice a first SIGTERM while the block runs; a second one ends the process as usual.

    Outside the main thread, where no handler can be installed, SIGTERM keeps its usual effect.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def notice(*_) -> None:
        request.made = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    usual = signal.signal(signal.SIGTERM, notice)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, usual)
