"""One trial as a process of the project's own command line: started, watched through its run folder, ended."""

from __future__ import annotations

import dataclasses
import fcntl
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from experiments.runs.metrics_log import read_line
from experiments.runs.run_folder import LOCK, RunFolder
from experiments.sweeps import targets
from experiments.sweeps.config import Objective, Sweep
from experiments.sweeps.folder import DONE, FAILED, PAUSED, RUNNING, WAITING, Standing, SweepFolder, Trial

POLL_SECONDS = 0.25
BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 180.0
"""For a process that was asked to end and saves itself; for another one to leave the run folder."""
REFUSED = 2
"""Exit code of a command that says in one sentence why it cannot be run: it would say so again."""
PROGRAM = (sys.executable, "-m", "experiments.cli")
_FOLLOW = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"  # PR_SET_PDEATHSIG, which outlives exec
    "os.getppid() == int(sys.argv[1]) or sys.exit(143)\n"
    "os.execv(sys.argv[2], sys.argv[2:])"
)
"""A trial gets SIGTERM, and saves itself, when whoever watches it is gone, however that one ended."""


class MetricReader:
    """What a run has measured so far, read piece by piece: a run's file may be large, and it is looked at often."""

    def __init__(self, folder: RunFolder, objective: Objective, step: str):
        self._path, self._objective, self._step = folder.metrics, objective, step
        self._forget()

    def _forget(self) -> None:
        self._place, self._file = 0, None
        self.step, self.measured = 0, list[tuple[int, float]]()

    def read(self) -> bool:
        """Take what is new; returns whether there was anything. A run that resumes may have less than before."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        if status.st_size < self._place or status.st_ino != self._file:
            self._forget()
            self._file = status.st_ino
        if status.st_size == self._place:
            return False
        with open(self._path, "rb") as file:
            file.seek(self._place)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._place += len(whole) + len(newline)
        for raw in whole.split(b"\n"):
            self._take(read_line(raw))
        return bool(newline)

    def _take(self, line: Mapping[str, Any] | None) -> None:
        if line is None:  # damaged: the run itself will say so
            return
        step = int(line.get(self._step, self.step))
        self.step = max(self.step, step)
        value = line.get(self._objective.name)
        if isinstance(value, int | float) and (self._objective.at is None or step <= self._objective.at):
            self.measured.append((step, float(value)))

    @property
    def value(self) -> float | None:
        """The newest one that is a number."""
        return next((value for _, value in reversed(self.measured) if math.isfinite(value)), None)


@dataclasses.dataclass(frozen=True)
class Job:
    """All that it takes to run a trial, also on another machine that sees the same folders."""

    sweep_dir: str
    trial: Trial
    cwd: str
    """Where the sweep was started: relative paths in it count from there."""
    program: tuple[str, ...] = ()
    """In place of the command line of the Python that runs the trial."""
    job: str = ""


class TrialProcess:
    """Starts a trial, keeps its standing up to date, ends it."""

    def __init__(self, job: Job, sweep: Sweep, environment: Mapping[str, str] = os.environ):
        self.job, self.trial, self._sweep = job, job.trial, sweep
        self._folder, self._environment = SweepFolder(job.sweep_dir), environment
        self._run = self._folder.run_folder(self.trial.name)
        self.reader = MetricReader(self._run, sweep.objective, sweep.step)
        self._process: subprocess.Popen[bytes] | None = None
        before = self._folder.standing(self.trial.name)
        now = time.time()
        self.standing = dataclasses.replace(
            before, state=RUNNING, attempts=before.attempts + 1, where=_where(environment), beat=now,
            started=before.started or now, message="", job=job.job, deaths=before.deaths * (before.state != FAILED),
        )  # fmt: skip
        self._save()

    @property
    def over(self) -> bool:
        return self.standing.state in (DONE, FAILED, PAUSED)

    def poll(self) -> Standing:
        """Start the process where its folder is free, see what it has done, and whether it is over.

        A process that died leaves the state `waiting`: it is worth starting again.
        """
        if self.over or self.standing.state == WAITING:
            return self.standing
        if self._process is None:
            if not _is_free(self._run.path / LOCK):
                return self._beat("another process is in its folder")
            self._process = self._start()
        code = self._process.poll()  # before the metrics, so that those of a finished run are all there
        news = self.reader.read()
        if code is not None:
            return self._ended(code)
        return self._beat("", news)

    def stop(self) -> Standing:
        """End the trial so that it can go on; returns once it is saved."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self.over or self.standing.state == WAITING:
            return self.standing
        self.reader.read()
        if self._process is not None and self._process.returncode == 0:  # it had just finished
            return self._ended(0)
        return self._save(state=PAUSED)

    def _start(self) -> subprocess.Popen[bytes]:
        program = self.job.program or PROGRAM
        words = targets.words(self._sweep, self.trial.point, self.trial.seed)
        command = [*program, *words, *targets.changes(self._sweep), "--run-dir", str(self._run.path)]
        with open(self._folder.log(self.trial.name), "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _FOLLOW, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(self._environment),
                cwd=self.job.cwd if pathlib.Path(self.job.cwd).is_dir() else None,
                start_new_session=True,  # Ctrl-C is for whoever watches, who ends the trials
            )  # fmt: skip

    def _ended(self, code: int) -> Standing:
        if code == 0:
            return self._save(state=DONE)
        died = f"ended by {signal.Signals(-code).name}" if code < 0 else self._last_words() or f"exit code {code}"
        deaths = self.standing.deaths + 1
        given_up = code == REFUSED or deaths > self._sweep.retries
        return self._save(state=FAILED if given_up else WAITING, deaths=deaths, message=died)

    def _last_words(self) -> str:
        lines = self._folder.log(self.trial.name).read_bytes()[-2000:].decode(errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")

    def _beat(self, message: str, news: bool = False) -> Standing:
        if news or message != self.standing.message or time.time() - (self.standing.beat or 0) > BEAT_SECONDS:
            return self._save(message=message)
        return self.standing

    def _save(self, **changes: Any) -> Standing:
        if self.reader.value is not None or self.reader.step:
            changes |= {"step": self.reader.step, "value": self.reader.value}
        changed = dataclasses.replace(self.standing, beat=time.time(), **changes)
        self.standing = self._folder.write(self.trial, changed)
        return self.standing


def _where(environment: Mapping[str, str]) -> str:
    """This machine, and which of its devices the trial sees."""
    devices = [f"{kind} {environment[name]}" for name, kind in DEVICES.items() if environment.get(name)]
    return " ".join([os.uname().nodename, *devices])


DEVICES = {"CUDA_VISIBLE_DEVICES": "gpu", "TPU_VISIBLE_CHIPS": "tpu"}
"""What jax reads when it starts, and what it names."""


def first_devices(sweep: Sweep, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a trial that is alone on a machine: as many devices as it asks for, and no more."""
    changed = dict(environment)
    for name, count in zip(DEVICES, (sweep.resources.gpus, sweep.resources.tpus), strict=True):
        if count:
            visible = environment.get(name) or ",".join(map(str, range(count)))
            changed[name] = ",".join(visible.split(",")[:count])
    return changed


def _is_free(lock: pathlib.Path) -> bool:
    """Whether no process holds a run folder."""
    try:
        with open(lock, "r+b") as file:  # some file systems lock only what is open for writing
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except FileNotFoundError:
        return True
    except OSError:
        return False
