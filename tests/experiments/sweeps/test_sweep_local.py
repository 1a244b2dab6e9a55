"""Trials as processes, one after the other: killed, stopped, refused, and gone on with."""

import dataclasses
import os
import signal
import time

import pytest
from sweeping import PROGRAM

from experiments.errors import UsageError
from experiments.runs.preemption import Preempted, StopRequest
from experiments.sweeps import local
from experiments.sweeps.config import Objective
from experiments.sweeps.folder import SweepFolder, Trial
from experiments.sweeps.process import Job, MetricReader, TrialProcess, first_devices


def test_every_point_runs_with_every_seed_and_the_best_is_told(sweeping):
    found = sweeping()
    found.run(local.run)
    assert found.states == dict.fromkeys(("0000-seed0", "0000-seed1", "0001-seed0", "0001-seed1"), "done")
    assert found.folder.standing("0001-seed1").value == pytest.approx(10.1)
    assert "0001-seed1" in found.folder.page.read_text()


def test_a_trial_that_is_killed_goes_on_from_what_it_had(sweeping):
    found = sweeping(seeds=[0])
    found.tell("die-at", 100)
    found.run(local.run)
    assert found.states == {"0000-seed0": "done", "0001-seed0": "done"}
    assert found.folder.standing("0000-seed0").attempts == 2
    assert len(found.folder.run_folder("0000-seed0").metrics.read_text().splitlines()) == 10


def test_a_trial_that_its_command_refuses_is_given_up_with_its_sentence(sweeping):
    found = sweeping(space={"drqv2.learning-rate": {"grid": [1e-4, 2.0]}}, seeds=[0])
    found.run(local.run)
    assert found.states == {"0000-seed0": "done", "0001-seed0": "failed"}
    assert found.folder.standing("0001-seed0").message == "ivideogpt: learning_rate is too high"
    assert len(found.started("0001-seed0")) == 1


def test_a_stopped_sweep_goes_on_with_the_same_trials(sweeping):
    found, stop = sweeping(seeds=[0]), StopRequest()
    found.tell("seconds", 0.1)
    found.when(40, ["0000-seed0"], lambda: setattr(stop, "made", True))
    found.run(local.run, stop)
    assert found.states == {"0000-seed0": "paused"}
    before = found.folder.run_folder("0000-seed0").metrics.read_text()
    found.tell("seconds", 0)
    found.run(local.run)
    assert found.states == {"0000-seed0": "done", "0001-seed0": "done"}
    assert found.folder.run_folder("0000-seed0").metrics.read_text().startswith(before)
    assert len(found.started("0000-seed0")) == 2
    found.run(local.run)  # nothing is left
    assert len(found.started("0000-seed0")) == 2


def test_the_stop_command_ends_a_sweep(sweeping, ivideogpt):
    found = sweeping(seeds=[0])
    found.tell("seconds", 0.1)
    found.when(20, ["0000-seed0"], lambda: ivideogpt("sweep", "stop", found.folder.path))
    found.run(local.run)
    assert found.states == {"0000-seed0": "paused"}
    assert not found.folder.stop_file.exists()


def test_a_trial_saves_itself_when_its_watcher_is_killed(sweeping):
    found = sweeping(seeds=[0])
    found.tell("seconds", 0.2)
    with found.folder.claim(found.sweep):
        pass
    job = Job(str(found.folder.path), Trial(0, 0, {"drqv2.batch": 8}), os.getcwd(), PROGRAM)
    watcher = os.fork()
    if watcher == 0:
        process = TrialProcess(job, found.sweep, os.environ)
        while process.poll():
            time.sleep(0.05)
    while found.folder.standing("0000-seed0").step < 20:
        time.sleep(0.02)
    os.kill(watcher, signal.SIGKILL)
    os.waitpid(watcher, 0)
    found.tell("seconds", 0)
    (started,) = found.started("0000-seed0")
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{started['pid']}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{started['pid']}")
    found.run(local.run)
    assert found.states == {"0000-seed0": "done", "0001-seed0": "done"}


def test_a_folder_belongs_to_one_sweep_but_may_have_more_samples(sweeping):
    random = {"kind": "random", "samples": 1, "seed": 0}
    first = sweeping(search=random, seeds=[0])
    first.run(local.run)
    with pytest.raises(UsageError, match=r"holds another sweep \(space.drqv2.batch.grid was"):
        sweeping(search=random, seeds=[0], space={"drqv2.batch": {"grid": [8]}}).run(local.run)
    more = sweeping(search=random | {"samples": 2}, seeds=[0])
    more.run(local.run)
    assert len(more.states) == 4 and len(more.started("0000-seed0")) == 1


def test_two_processes_cannot_hand_out_one_sweep(sweeping):
    found = sweeping()
    with found.folder.claim(found.sweep), pytest.raises(UsageError, match="is being run by another process"):
        sweeping().run(local.run)


def test_a_population_needs_ray(sweeping):
    with pytest.raises(UsageError, match="population compares trials while they run"):
        sweeping(seeds=[0], population={"interval": 20}).run(local.run)


def test_early_stopping_needs_ray(sweeping):
    with pytest.raises(UsageError, match="use --backend ray"):
        sweeping(early_stopping={"grace": 20}).run(local.run)


def test_a_metric_is_read_where_the_file_says(tmp_path):
    folder = SweepFolder(tmp_path).run_folder("one")
    folder.path.mkdir(parents=True)
    stamps = '{"agent_steps": %d, "env_steps": 0, "wall_seconds": 0, "eval/return": %s}\n'
    folder.metrics.write_text(stamps % (10, 1) + stamps % (20, 2) + stamps % (30, "null") + '{"agent_st')
    reader = MetricReader(folder, Objective("eval/return", "max"), "agent_steps")
    early = MetricReader(folder, Objective("eval/return", "max", at=15), "agent_steps")
    assert reader.read() and early.read() and not reader.read()
    assert (reader.value, early.value, reader.step) == (2, 1, 30)
    folder.metrics.write_text(stamps % (10, 7))  # it resumed, and had less
    assert reader.read() and (reader.value, reader.step) == (7, 10)


def test_a_trial_alone_sees_as_many_devices_as_it_asks_for(sweeping):
    sweep = sweeping(resources={"gpus": 1, "tpus": 2}).sweep
    assert first_devices(sweep, {}) == {"CUDA_VISIBLE_DEVICES": "0", "TPU_VISIBLE_CHIPS": "0,1"}
    assert first_devices(sweep, {"CUDA_VISIBLE_DEVICES": "5,6"})["CUDA_VISIBLE_DEVICES"] == "5"
    assert first_devices(dataclasses.replace(sweep, resources=sweeping().sweep.resources), {}) == {}


def test_a_request_to_stop_is_an_exit_code_that_schedulers_know(sweeping):
    found, stop = sweeping(), StopRequest()
    stop.made = True
    with pytest.raises(Preempted, match="with every trial saved"):
        found.run(lambda session: session.refuse_to_go_on(), stop)


def test_the_page_is_drawn_beside_the_trials(sweeping, monkeypatch):
    monkeypatch.setattr("experiments.sweeps.session.PAGE_SECONDS", 0)
    found = sweeping(seeds=[0])
    found.run(local.run)
    assert found.states == {"0000-seed0": "done", "0001-seed0": "done"}
    assert "0001-seed0" in found.folder.page.read_text()
