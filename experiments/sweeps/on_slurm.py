"""`--backend submitit`: every trial a task of one Slurm array, requeued when it is preempted or its time is over."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from typing import Any

from experiments.errors import UsageError
from experiments.sweeps import targets
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import QUEUED, RUNNING, WAITING, Standing, SweepFolder
from experiments.sweeps.packages import need
from experiments.sweeps.process import POLL_SECONDS, Job, TrialProcess
from experiments.sweeps.session import Session, refuse_what_ray_alone_does

MINUTES = 24 * 60
"""Of a task, where the file says no `time`. One that needs more is requeued, and goes on."""
SIGNAL_SECONDS = 120
"""Before its end a task is told, and saves itself."""


REQUEUED = {"additional_parameters": {"requeue": True}}
"""Also on clusters that do not requeue what they preempt unless they are asked to."""
TIMEOUTS = 1000
"""How often a task may run out of its time, and go on."""


class SlurmTrial:
    """What a task of the array does. submitit keeps it in a file, and calls `checkpoint` when the task has to end."""

    def __init__(self, job: Job):
        self.job = job
        self._process: TrialProcess | None = None

    def __call__(self) -> str:
        """Returns the state that the trial ended in."""
        folder = SweepFolder(self.job.sweep_dir)
        sweep = folder.read()
        while True:
            self._process = TrialProcess(self.job, sweep, os.environ)
            state = self._wait(self._process, folder)
            if state != WAITING:
                return state

    @staticmethod
    def _wait(process: TrialProcess, folder: SweepFolder) -> str:
        while process.poll().state == RUNNING:
            if folder.stop_file.exists():
                return process.stop().state
            time.sleep(POLL_SECONDS)
        return process.standing.state

    def checkpoint(self) -> Any:
        """Save the trial; what is returned is submitted again."""
        if self._process is not None:
            self._process.stop()
        return need("submitit").helpers.DelayedSubmission(SlurmTrial(self.job))

    def __getstate__(self) -> dict[str, Any]:
        return {"job": self.job, "_process": None}


def submit(session: Session, cluster: str) -> None:
    """Hand the trials that are left to the queue, and leave. Raises UsageError for a search that waits for results."""
    sweep, folder = session.sweep, session.folder
    _refuse_what_waits(sweep)
    submitit = need("submitit")
    waiting, before = session.queue.waiting(), folder.standings()
    trials = [
        trial for trial in waiting if not _is_queued(submitit, folder, cluster, before.get(trial.name, Standing()))
    ]
    executor = _executor(submitit, sweep, folder, cluster)
    with executor.batch() if trials else contextlib.nullcontext():
        jobs = [executor.submit(SlurmTrial(session.job(trial))) for trial in trials]
    for trial, job in zip(trials, jobs, strict=True):
        now = folder.standing(trial.name)
        # A task may have begun meanwhile, and then knows better.
        if now.state != RUNNING or now.beat is None or time.time() - now.beat > 5:
            folder.write(trial, dataclasses.replace(now, state=QUEUED, job=job.job_id))
    skipped = len(waiting) - len(trials)
    session.say(f"{len(trials)} trials submitted, {skipped} were in the queue: ivideogpt sweep status {folder.path}")


def _executor(submitit: Any, sweep: Sweep, folder: SweepFolder, cluster: str) -> Any:
    try:
        executor = submitit.AutoExecutor(
            folder=str(folder.path / "slurm"), cluster=cluster, slurm_max_num_timeout=TIMEOUTS
        )
        executor.update_parameters(**_parameters(sweep, folder, cluster))
    except (RuntimeError, NameError) as error:  # no sbatch here, or a name that it has not
        raise UsageError(f"--backend submitit: {' '.join(str(error).split())[:300]}") from error
    return executor


def _parameters(sweep: Sweep, folder: SweepFolder, cluster: str = "slurm") -> dict[str, Any]:
    """By submitit's names, with `slurm_` before those that only Slurm has."""
    of_slurm = {"array_parallelism": sweep.at_once or 256, "signal_delay_s": SIGNAL_SECONDS, **REQUEUED} | {
        name.replace("-", "_"): value for name, value in sweep.slurm.items() if name != "time"
    }
    return {
        "name": folder.path.name,
        "timeout_min": sweep.slurm.get("time", MINUTES),
        "cpus_per_task": sweep.resources.cpus,
        **({"gpus_per_node": sweep.resources.gpus} if sweep.resources.gpus else {}),
        **({f"slurm_{name}": value for name, value in of_slurm.items()} if cluster == "slurm" else {}),
    }


def script(sweep: Sweep, folder: SweepFolder) -> str:
    """What sbatch would be given, also where there is no Slurm. Raises UsageError as `submit` does."""
    _refuse_what_waits(sweep)
    slurm = need("submitit.slurm.slurm")
    names = {"name": "job_name", "timeout_min": "time"}
    parameters = {
        names.get(name, name.removeprefix("slurm_")): value for name, value in _parameters(sweep, folder).items()
    }
    where = folder.path.absolute() / "slurm"
    command = f"{sys.executable} -u -m submitit.core._submit {where}"
    count = len(targets.points_of(sweep)) * len(sweep.seeds)
    try:
        return slurm._make_sbatch_string(command=command, folder=where, map_count=count, **parameters)
    except (TypeError, ValueError) as error:
        raise UsageError(f"slurm: {error}") from error


def _refuse_what_waits(sweep: Sweep) -> None:
    """Tasks of an array are all submitted before the first one has a result."""
    if sweep.search.kind == "optuna":
        raise UsageError(
            "Optuna waits for results, and an array is submitted whole: use search: {kind: random}, or Ray"
        )
    refuse_what_ray_alone_does(sweep, "submitit")


def _is_queued(submitit: Any, folder: SweepFolder, cluster: str, standing: Standing) -> bool:
    """Whether a task for a trial was submitted before and is still to come, or at work."""
    if standing.state == QUEUED and cluster == "slurm":
        return not submitit.SlurmJob(folder=folder.path / "slurm", job_id=standing.job, tasks=[0]).done(True)
    return standing.state == RUNNING
