"""Trials as the tasks of an array: submitted, requeued, and the script that Slurm would be given."""

import time

import pytest

from experiments.errors import UsageError
from experiments.sweeps import on_slurm
from experiments.sweeps.folder import Trial

submitit = pytest.importorskip("submitit")


def wait_for(found, states, seconds=60):
    until = time.monotonic() + seconds
    while list(found.states.values()) != states and time.monotonic() < until:
        time.sleep(0.1)
    assert list(found.states.values()) == states


def test_an_array_of_three_tasks_runs_to_its_end(sweeping):
    found = sweeping(seeds=[0], space={"drqv2.batch": {"grid": [8, 16, 32]}})
    found.run(lambda session: on_slurm.submit(session, "local"))
    wait_for(found, ["done"] * 3)
    found.run(lambda session: on_slurm.submit(session, "local"))  # nothing is left to submit
    assert len(found.started("0000-seed0")) == 1


def test_a_task_that_is_preempted_saves_itself_and_is_submitted_again(sweeping):
    found = sweeping(seeds=[0], space={})
    found.tell("seconds", 0.2)
    jobs = []

    def submit(session):
        jobs.append(session.job(Trial(0, 0, {})))

    found.run(submit)
    task = on_slurm.SlurmTrial(jobs[0])
    task._process = on_slurm.TrialProcess(jobs[0], found.sweep)
    while task._process.poll().step < 40:
        time.sleep(0.05)
    again = task.checkpoint()
    assert found.states == {"0000-seed0": "paused"}
    found.tell("seconds", 0)
    assert again.function() == "done"
    assert len(found.started("0000-seed0")) == 2


def test_the_script_asks_for_an_array_with_a_signal_before_the_end(sweeping):
    found = sweeping(at_once=3, resources={"cpus": 4, "gpus": 1}, slurm={"partition": "gpu", "time": 90})
    script = on_slurm.script(found.sweep, found.folder)
    for line in ("--array=0-3%3", "--cpus-per-task=4", "--gpus-per-node=1", "--partition=gpu", "--time=90",
                 "--signal=USR2@120", "--requeue", "--open-mode=append"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script, script


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slurm": {"partitoin": "gpu"}}, "partitoin"),
        ({"early_stopping": {"grace": 20}}, "use --backend ray"),
        ({"search": {"kind": "optuna", "samples": 2, "sampler": "tpe"}}, "Optuna waits for results"),
    ],
)
def test_what_an_array_cannot_do_is_refused(sweeping, changes, said):
    found = sweeping(**changes)
    with pytest.raises(UsageError, match=said):
        on_slurm.script(found.sweep, found.folder)
