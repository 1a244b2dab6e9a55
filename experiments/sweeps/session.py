"""A session of a sweep: what every backend needs to hand out trials, to know when to end, and to show how it goes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from experiments.errors import UsageError
from experiments.runs.preemption import Preempted, StopRequest
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import SweepFolder, Trial
from experiments.sweeps.process import PROGRAM, Job
from experiments.sweeps.search import TrialQueue
from experiments.sweeps.table import LiveTable

PAGE_SECONDS = 60.0
"""Between two times that the page is written while trials run."""


class Session:
    """One process that hands out the trials of a sweep, which it has claimed."""

    def __init__(
        self,
        sweep: Sweep,
        folder: SweepFolder,
        length: int,
        stop: StopRequest,
        again: bool = False,
        program: Sequence[str] = (),
    ):
        """length: steps of the longest run. again: hand out finished trials as well, as `TrialQueue` takes it. program:
        as `Job` has it."""
        self.sweep, self.folder, self.length, self._stop = sweep, folder, length, stop
        self._again = again
        self.begin_anew()
        self._program = tuple(program)
        self._table = LiveTable(folder, sweep, self.queue.total)
        self._page_begun, self._stopped_by_file = time.monotonic(), False
        self._drawing: subprocess.Popen[bytes] | None = None

    def begin_anew(self) -> None:
        """Hand out again whatever is not over."""
        self.queue = TrialQueue(self.sweep, self.folder, self._again)

    @property
    def stopping(self) -> bool:
        """Whether somebody asked for the end, with a signal to this process or with `ivideogpt sweep stop`."""
        return self._stop.made or self.folder.stop_file.exists()

    def job(self, trial: Trial, number: str = "") -> Job:
        return Job(str(self.folder.path.absolute()), trial, os.getcwd(), self._program, number)

    def finished(self, trial: Trial) -> None:
        """Take notice that a trial is over."""
        self.queue.finished(trial)
        self.show()
        if time.monotonic() - self._page_begun > PAGE_SECONDS:
            self._draw_page_beside()

    def show(self) -> None:
        self._table.update()

    def _draw_page_beside(self) -> None:
        """In a process of its own, since the next trial does not wait for pictures."""
        if self._drawing is None or self._drawing.poll() is not None:
            self._page_begun = time.monotonic()
            command = [*PROGRAM, "sweep", "page", str(self.folder.path)]
            nowhere = subprocess.DEVNULL
            self._drawing = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)

    def close(self) -> None:
        """The last look: the table as it ended, and the page."""
        self._stopped_by_file = self.folder.stop_file.exists()
        self._table.close()
        if self._drawing is not None:
            self._drawing.wait()
        from experiments.sweeps.page import write_page  # late: matplotlib

        write_page(self.folder)
        self.folder.stop_file.unlink(missing_ok=True)

    def refuse_to_go_on(self) -> None:
        """Raise Preempted where somebody asked for the end."""
        self._stop.refuse_to_go_on("with every trial saved")
        if self._stopped_by_file:
            raise Preempted("stopped by 'ivideogpt sweep stop', with every trial saved; the same command goes on")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def refuse_what_ray_alone_does(sweep: Sweep, backend: str) -> None:
    """Raise UsageError where the file asks for something that this backend does not do."""
    for name, asked in (("early-stopping", sweep.early_stopping), ("population", sweep.population)):
        if asked is not None:
            raise UsageError(
                f"{name} compares trials while they run, which --backend {backend} does not do: remove it from the "
                "file, or use --backend ray"
            )
