"""Where the curves of a run can be watched besides its own page: TensorBoard, Trackio, Weights & Biases.

metrics.jsonl stays what a run knows about itself. A tracker gets the same numbers, and nothing that it says comes back.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from experiments.errors import UsageError
from experiments.runs.metrics_log import read_metrics
from experiments.runs.packages import check_installed
from experiments.runs.run_folder import RunFolder, flat

Tracking = Literal["tensorboard", "trackio", "wandb"]
PACKAGES = {"tensorboard": "tensorboardX", "trackio": "trackio", "wandb": "wandb"}
"""What each of them needs; the extra that brings it has the name of the tracker."""
PROJECT = "ivideogpt"
Line = Mapping[str, Any]
"""Of metrics.jsonl."""


class Tracker(Protocol):
    """Gets every line of metrics."""

    where: str  # how to see the curves

    def write(self, line: Line) -> None:
        """Take a line that was appended to metrics.jsonl."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


def check_packages(names: Sequence[str]) -> None:
    """Raise UsageError where a tracker's package is missing: before the work, which it must not cost."""
    for name in names:
        check_installed(PACKAGES[name], f"--tracking {name}", name)


@contextlib.contextmanager
def track(names: Sequence[str], folder: RunFolder) -> Iterator[list[Tracker]]:
    """The trackers of a run, open while the block runs; the folder is claimed.

    A run that goes on sends what it does again, too, which is the same as before. Raises UsageError where one of them
    cannot begin.
    """
    with contextlib.ExitStack() as opened:
        trackers = []
        for name in dict.fromkeys(names):
            try:
                tracker = KINDS[name](folder)
            except Exception as error:  # whatever a service's client raises: no login, no network, a full disk
                reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
                raise UsageError(f"--tracking {name} cannot begin ({reason}): {REMEDIES[name]}") from error
            opened.callback(tracker.close)
            trackers.append(tracker)
        yield trackers


def say_where(folder: RunFolder, trackers: Sequence[Tracker]) -> str:
    """The first line of a run: where its curves can be seen."""
    own = f"curves: ivideogpt report {folder.path} (at any time, from {folder.metrics.name})"
    return "; ".join([own, *(tracker.where for tracker in trackers)])


def numbers(line: Line) -> dict[str, float]:
    """What a tracker can draw of a line: its finite numbers."""
    finite = {name: value for name, value in line.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in finite.items() if math.isfinite(value)}


def step_of(line: Line) -> int:
    """The place of a line on the axis: agent steps, or updates where no agent acts."""
    return int(line.get("updates", line["agent_steps"]))


class TensorBoard:
    """Event files in the run folder, which a session makes anew from metrics.jsonl with its first line: what a kill
    made void is in neither."""

    def __init__(self, folder: RunFolder):
        from tensorboardX import SummaryWriter

        self._path, self._metrics, self._open = folder.tracking / "tensorboard", folder.metrics, SummaryWriter
        self.where = f"tensorboard --logdir {self._path}"
        self._writer: Any = None

    def write(self, line: Line) -> None:
        if self._writer is not None:
            return self._add(line)
        shutil.rmtree(self._path, ignore_errors=True)
        self._writer, self._start = self._open(str(self._path)), time.time() - line["wall_seconds"]
        for kept in read_metrics(self._metrics):  # with this one, which is in the file by now
            self._add(kept)

    def _add(self, line: Line) -> None:
        for name, value in numbers(line).items():
            self._writer.add_scalar(name, value, step_of(line), walltime=self._start + line["wall_seconds"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Trackio:
    """Trackio's own database on this machine, or wherever its environment variables say."""

    def __init__(self, folder: RunFolder):
        trackio = importlib.import_module("trackio")  # not among the packages that the project is checked with

        self.where = f"trackio show --project {PROJECT}"
        self._trackio = trackio
        with _quiet():
            trackio.init(
                PROJECT,
                name=_identity(folder),
                config=flat(folder.read()["config"]),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def write(self, line: Line) -> None:
        self._trackio.log(numbers(line), step=step_of(line))

    def close(self) -> None:
        with _quiet():
            self._trackio.finish()


class WeightsAndBiases:
    """A run of Weights & Biases; with WANDB_MODE=offline in the run folder, to be uploaded later."""

    def __init__(self, folder: RunFolder):
        wandb = importlib.import_module("wandb")  # as above

        folder.tracking.mkdir(exist_ok=True)
        self._run = wandb.init(
            project=PROJECT,
            id=_identity(folder),
            name=folder.path.name,
            config=flat(folder.read()["config"]),
            resume="allow",
            dir=str(folder.tracking),
            settings=wandb.Settings(silent=True, console="off"),  # a run says itself where its curves are
        )
        # A line may come again after a kill, and two lines may have the same step: its own counter allows neither.
        self._run.define_metric("*", step_metric="step")
        offline = f"wandb sync {folder.tracking / 'wandb' / 'offline-run-*'}"
        self.where = offline if self._run.offline else str(self._run.url)

    def write(self, line: Line) -> None:
        self._run.log({"step": step_of(line)} | numbers(line))

    def close(self) -> None:
        self._run.finish()


KINDS: dict[str, Callable[[RunFolder], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WeightsAndBiases,
}
REMEDIES = {
    "tensorboard": "make room, or leave it out",
    "trackio": "see its environment variables, or leave it out",
    "wandb": "log in with 'wandb login', set WANDB_MODE=offline, or leave it out",
}


def _quiet() -> contextlib.AbstractContextManager[object]:
    """For clients that print where their curves are, which a run says itself."""
    return contextlib.redirect_stdout(io.StringIO())


def _identity(folder: RunFolder) -> str:
    """The same for all sessions of a run, and another one for a run that takes its folder's name later."""
    began = folder.read()["sessions"][0]["started"]
    return f"{folder.path.absolute().name}-{''.join(filter(str.isdigit, began))[:14]}"
