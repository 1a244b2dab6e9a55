"""Several devices: the same losses as on one, arrays where the rules say, checkpoints that fit another number of
devices."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from experiments.errors import UsageError
from experiments.pretraining import presets
from experiments.pretraining.mesh import MeshConfig, check_batch, make_mesh, state_shardings
from experiments.runs.metrics_log import read_metrics
from world_model import WorldModel

pytestmark = pytest.mark.slow

SCRIPT = pathlib.Path(__file__).with_name("on_devices.py")


def simulated(count: int) -> dict[str, str]:
    """An environment with so many devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    return os.environ | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={count}"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def measured(data, tmp_path_factory):
    """Of runs on 1, 2, 4 and 8 simulated devices, and of one on 2 from a checkpoint of 8."""
    folder = tmp_path_factory.mktemp("mesh") / "checkpoints"
    done = subprocess.run([sys.executable, SCRIPT, data, folder], env=simulated(8), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mesh", ["8", "4x2", "2, transformer", "4, transformer"])
def test_the_losses_do_not_depend_on_the_number_of_devices(measured, mesh):
    alone = measured["losses"][mesh.replace(mesh.partition(",")[0], "1")]
    assert {"transformer 1", "transformer 2", "held out transformer"} <= set(alone)
    assert measured["losses"][mesh] == pytest.approx(alone, rel=1e-4)


def test_a_checkpoint_of_eight_devices_goes_on_with_two(measured):
    expected = {name: loss for name, loss in measured["losses"]["8"].items() if not name.startswith("tokenizer")}
    assert measured["restored"] == pytest.approx(expected, rel=1e-4)


def test_devices_share_the_optimizer_and_where_asked_the_parameters(measured):
    assert measured["divided"]["1"] == {"params": 1, "optimizer": 1}
    assert measured["divided"]["8"]["params"] == 1
    assert measured["divided"]["8"]["optimizer"] < 0.3
    assert measured["divided"]["4x2"]["params"] < 0.4  # told to share those, too


def test_matrices_of_the_transformer_are_divided_by_rules():
    mesh = AbstractMesh((4, 2), ("data", "model"))
    kernels = {
        "blocks": {"0": {"attention": {"qkv": {"kernel": (64, 192)}, "output": {"kernel": (64, 64)}},
                         "feed_forward": {"gate_and_up": {"kernel": (64, 512)}, "down": {"kernel": (256, 64)}}}},
        "head": {"kernel": (64, 1001)}, "norm": {"scale": (64,)},
    }  # fmt: skip
    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, "float32"), kernels, is_leaf=lambda x: isinstance(x, tuple))
    state = {"params": shapes, "optimizer": {"mu": shapes}}
    specs = jax.tree.map(lambda s: s.spec, state_shardings(mesh, MeshConfig(), state))
    block = specs["params"]["blocks"]["0"]
    assert block["attention"]["qkv"]["kernel"] == PartitionSpec(None, "model")
    assert block["attention"]["output"]["kernel"] == PartitionSpec("model", None)
    assert block["feed_forward"]["down"]["kernel"] == PartitionSpec("model", None)
    assert specs["params"]["head"]["kernel"] == PartitionSpec(None, None)  # 1001 columns cannot be halved
    moments = specs["optimizer"]["mu"]
    assert moments["blocks"]["0"]["feed_forward"]["gate_and_up"]["kernel"] == PartitionSpec("data", "model")
    assert moments["head"]["kernel"] == PartitionSpec("data", None)
    assert moments["norm"]["scale"] == PartitionSpec(None)  # too small to be worth it


def test_what_devices_cannot_share_is_one_sentence():
    with pytest.raises(UsageError, match="asks for 64 devices"):
        make_mesh(MeshConfig(data=64))
    with pytest.raises(UsageError, match=r"--mesh\.data 0 by"):
        make_mesh(MeshConfig(model=64))
    mesh = AbstractMesh((4, 1), ("data", "model"))
    check_batch(mesh, 8, 2, "tokenizer")
    with pytest.raises(UsageError, match="multiple of 8"):
        check_batch(mesh, 12, 2, "tokenizer")


def test_two_processes_train_as_one(data, tmp_path):
    """Each with two devices and its half of every batch; and once more, from the checkpoint of the first two
    updates."""
    config = presets.get("debug").world_model
    config = dataclasses.replace(config, tokenizer=dataclasses.replace(config.tokenizer, future_sample=None))
    WorldModel.init(config, jax.random.key(0)).save(tmp_path / "model")
    address = f"127.0.0.1:{free_port()}"

    def started(folder: pathlib.Path, count: int, devices: int) -> None:
        typed = [
            sys.executable, "-m", "experiments.cli", "pretrain", "transformer", "--tokenizer", tmp_path / "model",
            "--preset", "debug", "--data", data, "--run-dir", folder, "--validation-share", "0.4",
            "--transformer.batch", "4", "--transformer.steps", "4", "--evaluated-recordings", "0",
        ]  # fmt: skip
        hosts = ["--coordinator", address, "--processes", str(count), "--process"] if count > 1 else []
        running = [
            subprocess.Popen(
                [*typed, *hosts, *[str(i)][: len(hosts)]], env=simulated(devices), stderr=subprocess.PIPE, text=True
            )
            for i in range(count)
        ]
        for process in running:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said[-3000:]

    def found(folder: pathlib.Path) -> dict[str, float]:
        lines = read_metrics(folder / "metrics.jsonl")
        return {f"{line['updates']} {name}": line[name] for line in lines for name in line if "loss" in name}

    started(tmp_path / "one", 1, 4)
    started(tmp_path / "two", 2, 2)
    assert found(tmp_path / "two") == pytest.approx(found(tmp_path / "one"), rel=1e-4)
    assert len(read_metrics(tmp_path / "two" / "metrics.jsonl")) == len(
        read_metrics(tmp_path / "one" / "metrics.jsonl")
    )
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "4")
    started(tmp_path / "two", 2, 2)
    assert found(tmp_path / "two") == pytest.approx(found(tmp_path / "one"), rel=1e-4)
    WorldModel.from_pretrained(tmp_path / "two" / "model")


def test_two_processes_of_which_one_is_asked_to_end_save_the_same_update(data, tmp_path):
    run = tmp_path / "run"
    WorldModel.init(presets.get("debug").world_model, jax.random.key(0)).save(tmp_path / "model")

    def started(steps: int) -> list[subprocess.Popen]:
        typed = [
            sys.executable, "-m", "experiments.cli", "finetune", tmp_path / "model", "--mode", "transformer",
            "--preset", "debug", "--data", data, "--run-dir", run, "--validation-share", "0.4",
            "--checkpoint-every", "100000", "--validate-every", "100000", "--evaluated-recordings", "0",
            "--transformer.steps", str(steps),
        ]  # fmt: skip
        hosts = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process"]
        return [
            subprocess.Popen([*typed, *hosts, str(i)], env=simulated(1), stderr=open(tmp_path / f"{i}.log", "w"))
            for i in range(2)
        ]

    running, limit = started(4000), time.monotonic() + 200
    while (
        len(read_metrics(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []) < 2
        and time.monotonic() < limit
    ):
        time.sleep(0.1)
    running[1].terminate()
    assert [process.wait(timeout=200) for process in running] == [128 + signal.SIGTERM] * 2
    saved = [int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit()]
    for index in range(2):
        assert f"saved at update {saved[0]}" in (tmp_path / f"{index}.log").read_text()
