"""A sweep on disk: what it is, its trials, and how each of them stands. Every process that takes part sees it.

sweep.yaml     the file as it was given         trials/NAME   a run folder each
ledger/        how each trial stands            logs/NAME.log what it printed
sweep.html     the page                         stop          there: everybody ends what they do
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from experiments.errors import UsageError
from experiments.runs.run_folder import RunFolder, differing_fields, write_atomically
from experiments.sweeps import config
from experiments.sweeps.config import Sweep

WAITING, QUEUED, RUNNING, PAUSED, LOST = "waiting", "queued", "running", "paused", "lost"
DONE, STOPPED, FAILED = "done", "stopped", "failed"
FINAL = (DONE, STOPPED, FAILED)
"""States from which a trial goes nowhere: at its end, ended early, given up."""
LOST_AFTER = 90.0
"""Seconds without a sign of life."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A point of the space with a seed."""

    number: int  # of the point
    seed: int
    point: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.number:04d}-seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a trial stands; times in seconds since 1970."""

    state: str = WAITING
    attempts: int = 0  # how often it was started
    deaths: int = 0  # how often its process ended by itself, and not at the run's end
    where: str = ""
    started: float | None = None
    beat: float | None = None
    """The last sign of life."""
    step: int = 0
    value: float | None = None
    """What it is ranked by, so far."""
    message: str = ""
    job: str = ""
    """Of a queue."""
    number: int = 0
    seed: int = 0
    point: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class SweepFolder:
    """The places of a sweep. Making one touches nothing."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.file = self.path / "sweep.yaml"
        self.page = self.path / "sweep.html"
        self.stop_file = self.path / "stop"
        self.journal = self.path / "optuna.journal"
        self.ledger = self.path / "ledger"

    def run_folder(self, name: str) -> RunFolder:
        return RunFolder(self.path / "trials" / name)

    def log(self, name: str) -> pathlib.Path:
        return self.path / "logs" / f"{name}.log"

    def read(self) -> Sweep:
        """The sweep. Raises UsageError where there is none."""
        if not self.file.exists():
            raise UsageError(f"{self.path} is no sweep: it has no sweep.yaml")
        return config.load(self.file)

    @contextlib.contextmanager
    def claim(self, sweep: Sweep) -> Iterator[None]:
        """Hold the sweep for this process, which alone hands out trials. Raises UsageError where another one does, or
        where the folder holds another sweep."""
        for folder in (self.ledger, self.path / "logs", self.path / "trials"):
            folder.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"{self.path} is being run by another process: 'ivideogpt sweep stop {self.path}' ends that one"
                ) from None
            if self.file.exists():
                self._refuse_another(self.read(), sweep)
            write_atomically(self.file, yaml.safe_dump(dict(sweep.written), sort_keys=False, allow_unicode=True))
            self.stop_file.unlink(missing_ok=True)
            yield

    def _refuse_another(self, old: Sweep, new: Sweep) -> None:
        found = differing_fields(old.written, new.written)
        found = [each for each in found if not each[0].startswith(config.MAY_CHANGE)]
        if found:
            listed = "; ".join(f"{name} was {was}, now {now}" for name, was, now in found)
            raise UsageError(f"{self.path} holds another sweep ({listed}): give this one another --sweep-dir")

    # --- how trials stand ---------------------------------------------------------------------------------------------

    def standing(self, name: str) -> Standing:
        """As it was written last; what was decided about the trial elsewhere counts more."""
        try:
            found = Standing(**json.loads((self.ledger / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError):
            found = Standing()
        if found.state not in FINAL and (self.ledger / f"{name}.stopped").exists():
            return dataclasses.replace(found, state=STOPPED)
        return found

    def write(self, trial: Trial, standing: Standing) -> Standing:
        """Remember how a trial stands: for the one process that has it."""
        whole = dataclasses.replace(standing, number=trial.number, seed=trial.seed, point=trial.point)
        write_atomically(self.ledger / f"{trial.name}.json", json.dumps(dataclasses.asdict(whole)))
        return whole

    def mark_stopped(self, name: str) -> None:
        """Remember that a trial was ended early, whatever its own process writes meanwhile."""
        (self.ledger / f"{name}.stopped").touch()

    def standings(self) -> dict[str, Standing]:
        """Of all trials that were begun, by name; one that says nothing any more is lost."""
        names = sorted(path.stem for path in self.ledger.glob("*.json"))
        return {name: _lost_if_silent(self.standing(name)) for name in names}


def _lost_if_silent(standing: Standing) -> Standing:
    silent = standing.state == RUNNING and time.time() - (standing.beat or 0) > LOST_AFTER
    return dataclasses.replace(standing, state=LOST) if silent else standing
