"""Sweeps over a command that takes a moment."""

from __future__ import annotations

import json
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from experiments.runs.preemption import StopRequest
from experiments.sweeps import config
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.session import Session

PROGRAM = (sys.executable, "-S", str(pathlib.Path(__file__).parent / "fake_command.py"))
RAW: dict[str, Any] = {
    "command": "train",
    "preset": "debug",
    "fixed": {"algorithm": "drqv2"},
    "space": {"drqv2.batch": {"grid": [8, 16]}},
    "seeds": [0, 1],
    "metric": {"name": "eval/return", "mode": "max"},
}


class Sweeping:
    """A sweep's folder, and sessions on it."""

    def __init__(self, path: pathlib.Path, **changes: Any):
        self.sweep = config.parse(RAW | {name.replace("_", "-"): value for name, value in changes.items()}, "test.yaml")
        self.folder = SweepFolder(path)

    def run(self, backend, stop: StopRequest | None = None, **options: Any) -> None:
        with self.folder.claim(self.sweep):
            session = Session(self.sweep, self.folder, 200, stop or StopRequest(), program=PROGRAM, **options)
            try:
                backend(session)
            finally:
                session.close()

    def tell(self, file: str, value: float) -> None:
        """What the fake command reads."""
        (self.folder.path / "trials").mkdir(parents=True, exist_ok=True)
        (self.folder.path / "trials" / file).write_text(str(value))

    def when(self, step: int, names: Sequence[str], do: Callable[[], None]) -> None:
        """Do something once these trials have come to a step, while the sweep runs."""

        def watch() -> None:
            until = time.monotonic() + 120
            while min(self.folder.standing(name).step for name in names) < step and time.monotonic() < until:
                time.sleep(0.02)
            do()

        threading.Thread(target=watch).start()

    @property
    def states(self) -> dict[str, str]:
        return {name: standing.state for name, standing in self.folder.standings().items()}

    def started(self, name: str) -> list[dict[str, Any]]:
        """What each process of a trial was typed and saw."""
        path = self.folder.run_folder(name).path / "started"
        return [json.loads(line) for line in path.read_text().splitlines()]
