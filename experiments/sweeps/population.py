"""Population-based training (Jaderberg et al., 2017) by Ray Tune's scheduler: which trial goes on from which, and how
run folders change hands."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as RayTuneTrial
from ray.tune.schedulers import PopulationBasedTraining

from experiments.runs.run_folder import LOCK, RunFolder, write_atomically
from experiments.sweeps.config import Sweep
from experiments.sweeps.folder import SweepFolder
from experiments.sweeps.process import Job
from experiments.sweeps.space import Bounds, Space, Values

NOT_COPIED = (LOCK, "videos", "tracking", "report.html", "model", "evaluation")
"""Of a run folder: what nobody needs who goes on from it."""


class PopulationScheduler(PopulationBasedTraining):
    """Ray's, of trials that are jobs: a trial that goes on from another one keeps its own name and folder."""

    def __init__(self, sweep: Sweep, jobs: Mapping[str, Job]):
        """jobs: by the names of trials; Ray makes trials of the names, since it would look for settings in jobs."""
        assert sweep.population is not None
        self._jobs = jobs
        self._domains = {domain.name: domain for domain in sweep.space}
        super().__init__(
            time_attr="step", perturbation_interval=sweep.population.interval,
            quantile_fraction=sweep.population.quantile, hyperparam_mutations={"point": _mutations(sweep.space)},
            synch=True,  # or trials would be compared with those that have not come as far, where few run at once
            require_attrs=False, log_config=False,
        )  # fmt: skip

    def __deepcopy__(self, memo: object) -> PopulationScheduler:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {}  # what Ray would save: the sweep's folder has it all

    def on_trial_add(self, tune_controller: Any, trial: RayTuneTrial) -> None:
        job = self._jobs[trial.config["job"]]
        trial.config |= {"job": job, "point": dict(job.trial.point)}
        super().on_trial_add(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> RayTuneTrial | None:
        chosen, live = super().choose_trial_to_run(tune_controller), tune_controller.get_live_trials()
        if chosen is None and live and all(trial.status == RayTuneTrial.PAUSED for trial in live):
            # They wait for one that was given up meanwhile, or is at its end.
            self._next_perturbation_sync += self._perturbation_interval
            return super().choose_trial_to_run(tune_controller)
        return chosen

    def _get_new_config(
        self, trial: RayTuneTrial, trial_to_clone: RayTuneTrial
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        explored, operations = super()._get_new_config(trial, trial_to_clone)
        point = {name: _within(self._domains[name], value) for name, value in explored["point"].items()}
        job = trial.config["job"]
        return {
            "job": dataclasses.replace(job, trial=dataclasses.replace(job.trial, point=point)),
            "point": point,
        }, operations


def _mutations(space: Space) -> dict[str, Any]:
    makers = {"uniform": tune.uniform, "log-uniform": tune.loguniform, "integer": tune.randint}
    return {
        domain.name: list(domain.values) if isinstance(domain, Values) else makers[domain.kind](domain.low, domain.high)
        for domain in space
    }


def _within(domain: Values | Bounds, value: Any) -> Any:
    """A value that was multiplied by Ray's factors, which know no bounds."""
    return min(max(value, domain.low), domain.high) if isinstance(domain, Bounds) else value


def keep(run: RunFolder, name: str, checkpoint: str | os.PathLike) -> None:
    """Put a run, in whose folder nothing is at work, into a checkpoint of Ray's."""
    place = pathlib.Path(checkpoint)
    if run.path.exists():
        shutil.copytree(run.path, place / "run", ignore=shutil.ignore_patterns(*NOT_COPIED))
    write_atomically(place / "kept.json", json.dumps({"name": name, "id": uuid.uuid4().hex}))


def take_over(folder: SweepFolder, name: str, point: Mapping[str, Any], checkpoint: str | os.PathLike) -> bool:
    """Let a trial go on from a checkpoint, where that is another trial's and was not taken over already; returns
    whether it does. A line in population.jsonl says who went on from whom, with which settings."""
    place, mark = pathlib.Path(checkpoint), folder.ledger / f"{name}.took"
    kept = json.loads((place / "kept.json").read_text())
    if kept["name"] == name or not (place / "run").exists() or (mark.exists() and mark.read_text() == kept["id"]):
        return False
    run, new = folder.run_folder(name).path, folder.path / "trials" / f".{name}.new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(place / "run", new)
    shutil.rmtree(run, ignore_errors=True)
    os.replace(new, run)
    write_atomically(mark, kept["id"])
    with open(folder.path / "population.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"trial": name, "from": kept["name"], "point": dict(point)}) + "\n")
    return True
