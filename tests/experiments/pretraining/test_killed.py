"""A training process that is killed, or asked to end, at any moment goes on and ends like one that never was."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from experiments.runs.metrics_log import read_metrics

pytestmark = pytest.mark.slow

STEPS = 40


def command(data, folder, *more) -> list[str]:
    typed = [
        "pretrain",
        "tokenizer",
        "--preset",
        "debug",
        "--data",
        data,
        "--validation-share",
        "0.4",
        "--run-dir",
        folder,
    ]
    often = ["--tokenizer.steps", STEPS, "--checkpoint-every", "10", "--validate-every", "20"]
    return [sys.executable, "-m", "experiments.cli", *map(str, [*typed, *often, *more])]


def finished(data, folder) -> None:
    subprocess.run(command(data, folder), check=True, capture_output=True, timeout=600)


def steps_of(folder: pathlib.Path) -> list[int]:
    return [int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    limit = time.monotonic() + 300
    while not happened() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)


def stopped(data, folder, after: int, by: signal.Signals) -> tuple[int, str]:
    """Begin, send a signal once there is a checkpoint of `after` updates or more, and return exit code and errors."""
    errors = folder.with_suffix(".log")
    with open(errors, "w") as log:
        process = subprocess.Popen(command(data, folder), stdout=subprocess.DEVNULL, stderr=log)
    wait_for(lambda: max(steps_of(folder), default=0) >= after, process)
    process.send_signal(by)
    return process.wait(timeout=300), errors.read_text()


def alive_in(group: int) -> list[str]:
    """What still runs of a group of processes; those that nobody has taken leave of are dead."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, fields = stat.read_text().rpartition(")")
            state, _, its_group = fields.split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(name)
    return found


def test_ctrl_c_saves_and_workers_say_nothing(data, tmp_path):
    """Fault 7: nothing was saved, a worker printed its traceback, and shared memory leaked."""
    errors = tmp_path / "errors.log"
    with open(errors, "w") as log:
        process = subprocess.Popen(
            command(data, tmp_path / "run", "--workers", "1"), stdout=log, stderr=log, start_new_session=True
        )
    wait_for(lambda: max(steps_of(tmp_path / "run"), default=0) >= 10, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(timeout=300) == 128 + signal.SIGINT
    step = max(steps_of(tmp_path / "run"))
    *_, last = errors.read_text().splitlines()
    assert last == f"ivideogpt: stopped by Ctrl-C, saved at update {step}; the same command goes on from there"
    assert "Traceback" not in errors.read_text() and "leaked" not in errors.read_text()
    limit = time.monotonic() + 20
    while (left := alive_in(process.pid)) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not left


def outcome(folder: pathlib.Path) -> tuple[list[dict], dict[str, bytes]]:
    lines = [{k: v for k, v in line.items() if k != "wall_seconds"} for line in read_metrics(folder / "metrics.jsonl")]
    return lines, {path.name: path.read_bytes() for path in (folder / "model").rglob("*.safetensors")}


def test_a_run_that_is_killed_and_then_asked_to_end_ends_like_one_that_was_left_alone(data, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert stopped(data, run, 1, signal.SIGKILL)[0] == -signal.SIGKILL
    code, said = stopped(data, run, 20, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert f"saved at update {max(steps_of(run))}" in said
    for folder in (run, whole):
        finished(data, folder)
    assert outcome(run) == outcome(whole)
