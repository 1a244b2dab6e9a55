"""Planning: what is read off a compiled program, and that the plan is that of the program."""

import json
import os
import subprocess
import sys

import pytest

from experiments import device_kinds
from experiments.errors import UsageError
from experiments.pretraining import plan_run

HLO = """
  %g = (f32[4,8]{1,0}, bf16[16]{0}) all-reduce(%a, %b), replica_groups={{0,1}}
  %s = (f32[2,8]{1,0}, f32[4,8]{1,0}) all-gather-start(%a), dimensions={0}
  %d = f32[4,8]{1,0} all-gather-done(%s)
  ROOT %x = f32[4,8]{1,0} add(%d, %g)
"""


def test_collectives_are_counted_once_with_the_bytes_of_their_results():
    found = plan_run.collectives(HLO)
    assert found["all-reduce"] == {"count": 1, "bytes": 4 * 8 * 4 + 16 * 2}
    assert found["all-gather"]["count"] == 1
    assert set(found) == {"all-reduce", "all-gather"}


def planned(*typed: str) -> subprocess.CompletedProcess:
    quickly = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [sys.executable, "-m", "experiments.cli", "plan-run", "--preset", "debug", *typed]
    return subprocess.run(command, env=quickly, capture_output=True, text=True)


def test_two_devices_halve_the_work_of_each_and_sum_all_gradients():
    one, two = (
        json.loads(planned("--devices", count, "--device-kind", "h100", "--batch", "4", "--json").stdout)
        for count in ("1", "2")
    )
    assert one["flops"] == two["flops"] and two["seconds_arithmetic"] == pytest.approx(one["seconds_arithmetic"] / 2)
    assert one["collectives"] == {} and one["fits"]
    assert two["collectives"]["all-reduce"]["bytes"] >= 4 * two["parameters"]
    assert one["state_bytes"] >= 3 * 4 * one["parameters"]  # the parameters and Adam's two moments


def test_what_cannot_be_planned_is_one_sentence():
    done = planned("--devices", "3", "--device-kind", "h100", "--batch", "4")
    assert done.returncode == 2 and "cannot share a batch of 4" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(UsageError, match="no slice of v5e has 3 devices"):
        plan_run.devices_of(device_kinds.get("v5e"), 3)
    with pytest.raises(UsageError, match="unknown device kind"):
        device_kinds.get("v55")
    assert device_kinds.get("v5p").slice_of(64) == "4x4x4"
