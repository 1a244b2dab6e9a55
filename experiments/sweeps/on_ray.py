"""`--backend ray`: trials on Ray Tune, on this machine or on a cluster whose machines see the same folders.

Ray places trials, gives each its devices, starts those again that died with their process or their machine, and stops
early those that do worse. What a trial is lies in the sweep's folder, not in Ray: a session that goes on begins anew
and hands out what is left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import Searcher

from experiments.errors import UsageError
from experiments.runs.ray_engine import connected
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import DONE, FAILED, FINAL, STOPPED, WAITING, Standing, SweepFolder, Trial
from experiments.sweeps.population import PopulationScheduler, keep, take_over
from experiments.sweeps.process import POLL_SECONDS, Job, MetricReader, TrialProcess
from experiments.sweeps.session import Session

REPORT_SECONDS = 1.0
"""A trial reports at least as often, so that Ray can end it."""
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is noticed by the session, which ends in good order
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a run has no value before its first evaluation
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # metrics.jsonl is the log
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the table and the trial's log say it
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def run(session: Session, address: str | None) -> None:
    """Every trial that is left, until somebody asks for the end. Raises UsageError where the cluster is not there.

    Ray itself can fail, for one where a machine has no memory left: then it is begun anew, as often as a trial is.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for failures in range(session.sweep.retries + 1):
        try:
            return _run_once(session, address)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:200]
            if failures == session.sweep.retries:
                raise UsageError(f"Ray failed again and again ({said}): what was saved stays") from error
            session.say(f"Ray failed ({said}), and is begun anew")
            session.begin_anew()


def _run_once(session: Session, address: str | None) -> None:
    sweep = session.sweep
    members = {} if sweep.population is None else _whole_population(session)
    with _connected(address):
        _refuse_too_much(sweep)
        tuner = tune.Tuner(
            tune.with_resources(RayTrial, _resources(sweep)),
            param_space={"job": tune.grid_search(list(members))} if members else {},
            tune_config=tune.TuneConfig(
                search_alg=None if members else Handout(session),
                scheduler=PopulationScheduler(sweep, members) if members else _early_stopping(sweep, session),
                num_samples=1 if members else -1,
                max_concurrent_trials=sweep.at_once,
                reuse_actors=True,  # one takes seconds to start
                metric="value",
                mode=sweep.objective.mode,
                trial_name_creator=_name_of,
                trial_dirname_creator=_name_of,
            ),
            run_config=tune.RunConfig(
                name=time.strftime("%Y%m%d-%H%M%S"),
                storage_path=str(session.folder.path.absolute() / "ray"),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, num_to_keep=3),  # runs keep their own
                failure_config=tune.FailureConfig(max_failures=sweep.retries),
                stop=UntilAsked(session),
                callbacks=[Showing(session), Ends(session)] if members else [Showing(session)],
                verbose=0,
            ),
        )
        tuner.fit()


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(connected(address=address or "local", include_dashboard=False))
        except (RayError, ConnectionError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())[:300]
            raise UsageError(
                f"no Ray cluster at {address or 'this machine'} ({said}): 'ray start --head' begins one"
            ) from error
        yield


def _resources(sweep: Sweep) -> dict[str, float]:
    asked = sweep.resources
    wanted: dict[str, float] = {"cpu": asked.cpus, "gpu": asked.gpus, "TPU": asked.tpus}
    return {name: count for name, count in wanted.items() if count}


def _refuse_too_much(sweep: Sweep) -> None:
    """Ray would wait for ever for resources that no machine has."""
    wanted = {"CPU": sweep.resources.cpus, "GPU": sweep.resources.gpus, "TPU": sweep.resources.tpus}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= count for name, count in wanted.items()) for node in nodes):
        most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
        has = ", ".join(f"{count:g} {name}" for name, count in most.items())
        raise UsageError(f"no machine has the resources of a trial ({sweep.resources}): the largest has {has}")


def _name_of(trial: Any) -> str:
    """Of Ray's trial, the name of ours."""
    job = trial.config["job"]
    return job if isinstance(job, str) else job.trial.name


def _whole_population(session: Session) -> dict[str, Job]:
    """All that are left, by name, with the settings that they had last; the scheduler has to know all of them."""
    jobs = {}
    while (trial := session.queue.next()) is not None:
        last = session.folder.standing(trial.name)
        jobs[trial.name] = session.job(dataclasses.replace(trial, point=last.point) if last.point else trial)
    return jobs


def _early_stopping(sweep: Sweep, session: Session) -> AsyncHyperBandScheduler | None:
    early = sweep.early_stopping
    if early is None:
        return None
    return AsyncHyperBandScheduler(
        time_attr="step", grace_period=early.grace, reduction_factor=early.reduction, max_t=session.length,
        stop_last_trials=False,  # a run at its end ends by itself, with its last checkpoint and its report
    )  # fmt: skip


class _OfSession:
    """What Ray would copy and save with its own state, and what needs no saving: the folder has it all."""

    def __init__(self, session: Session):
        self.session = session

    def __deepcopy__(self, memo: object) -> Any:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Handout(_OfSession, Searcher):
    """Gives Ray the trials of a session's queue, and tells the queue of their ends."""

    def __init__(self, session: Session):
        _OfSession.__init__(self, session)
        Searcher.__init__(self, metric="value", mode=session.sweep.objective.mode)
        self._trials: dict[str, Trial] = {}

    def suggest(self, trial_id: str) -> Any:
        if self.session.stopping:
            return Searcher.FINISHED
        trial = self.session.queue.next()
        if trial is None:
            return Searcher.FINISHED
        self._trials[trial_id] = trial
        return {"job": self.session.job(trial)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        _end(self.session, self._trials[trial_id], bool((result or {}).get("over")), error)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


def _end(session: Session, trial: Trial, over: bool, error: bool) -> None:
    """Take down that Ray has done with a trial."""
    folder, standing = session.folder, session.folder.standing(trial.name)
    if error and standing.state not in FINAL:
        message = standing.message or "its machine was lost again and again"
        folder.write(trial, dataclasses.replace(standing, state=FAILED, message=message))
    elif not error and not over and not session.stopping:
        folder.mark_stopped(trial.name)
    session.finished(trial)


class Ends(_OfSession, tune.Callback):
    """Tells the session of the ends of trials that no Handout gave."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _end(self.session, trial.config["job"].trial, bool(trial.last_result.get("over")), error=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        _end(self.session, trial.config["job"].trial, over=False, error=True)


class UntilAsked(_OfSession, tune.Stopper):
    """Ends Ray's part when the session is to end."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self.session.stopping


class Showing(_OfSession, tune.Callback):
    """Draws the table while Ray works."""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self.session.show()


class RayTrial(tune.Trainable):
    """A trial in the process, on the machine and with the devices that Ray chose for it."""

    def setup(self, config: dict[str, Any]) -> None:
        self._job: Job = config["job"]
        self._folder = folder = SweepFolder(self._job.sweep_dir)
        self._sweep, before = folder.read(), folder.standing(self._job.trial.name)
        self._replay = _reports(folder, self._sweep, before, self._job) if before.state in (DONE, STOPPED) else None
        self._process: TrialProcess | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial once this one is over."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for something to report. Raises RuntimeError where the process died: Ray then starts it again."""
        if self._replay is not None:
            return next(self._replay)
        if self._process is None:
            self._process = TrialProcess(self._job, self._sweep, os.environ)
        process, until = self._process, time.monotonic() + REPORT_SECONDS
        before = len(process.reader.measured)
        while True:
            standing = process.poll()
            if standing.state == WAITING:
                raise RuntimeError(standing.message)
            news = len(process.reader.measured) > before
            if process.over and not news:  # the last value comes first: a population may wait for it
                return _report(standing, over=True) | {"done": True}
            if news or time.monotonic() > until:
                measured = process.reader.measured
                return {"over": False} | ({"step": measured[-1][0], "value": measured[-1][1]} if measured else {})
            time.sleep(POLL_SECONDS)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Of a population's trial, which may wait from here on, and from which others may go on."""
        self.cleanup()
        keep(self._folder.run_folder(self._job.trial.name), self._job.trial.name, checkpoint_dir)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Before the first step: its own folder holds all of its own."""
        if take_over(self._folder, self._job.trial.name, self._job.trial.point, checkpoint):
            self._replay = None

    def cleanup(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None


def _report(standing: Standing, over: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"over": over}
    return found if standing.value is None else found | {"step": standing.step, "value": standing.value}


def _reports(folder: SweepFolder, sweep: Sweep, standing: Standing, job: Job) -> Iterator[dict[str, Any]]:
    """What a trial that is over would have reported: a scheduler that begins anew compares others with it."""
    reader = MetricReader(folder.run_folder(job.trial.name), sweep.objective, sweep.step)
    reader.read()
    for step, value in reader.measured:
        yield {"step": step, "value": value, "over": True}
    yield _report(standing, over=True) | {"done": True}
