"""Trackers get what metrics.jsonl gets; a package that is missing costs no work. None of this needs a network."""

import importlib.util
import struct
import sys
import types

import pytest

from agent.events import Clock
from experiments import cli
from experiments.errors import UsageError
from experiments.runs import tracking
from experiments.runs.metrics_log import Metrics, keep_first, read_metrics
from experiments.runs.run_folder import RunFolder
from experiments.training import presets


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.claim(presets.get("debug").record()):
        yield folder


class Recording:
    """Stands in for the clients of Trackio and Weights & Biases: what it was told, in order."""

    offline = True

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments, **named):
            self.calls.append((name, arguments, named))
            return self

        return call

    def logged(self):
        return [(arguments[0], named.get("step")) for name, arguments, named in self.calls if name == "log"]


@pytest.fixture
def client(monkeypatch):
    """The same recording client under both names."""
    recording = Recording()
    for name in ("trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, recording)
    return recording


def write(folder, trackers, steps, **values):
    with Metrics(folder.metrics, listeners=[tracker.write for tracker in trackers]) as metrics:
        for step in steps:
            metrics.write(Clock(step, 2 * step), {"agent/loss": 1.0 / step} | values)


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_is_told_every_number_and_nothing_else(folder, client, name):
    with tracking.track([name, name], folder) as trackers:
        assert len(trackers) == 1
        write(folder, trackers, (1, 2), curve=[1.0, 2.0], word="text", unknown=float("nan"))
    told = [values for values, _ in client.logged()]
    assert [values["agent/loss"] for values in told] == [1.0, 0.5]
    assert {"curve", "word", "unknown"}.isdisjoint(told[0]) and told[1]["env_steps"] == 4
    assert [name for name, _, _ in client.calls][-1] == "finish"
    (begun,) = [named for called, _, named in client.calls if called == "init"]
    assert begun["resume"] == "allow" and begun["config"]["task"] == "handle-press"


def identities(client):
    return [named["id"] for called, _, named in client.calls if called == "init"]


def test_a_run_that_goes_on_is_the_same_run_and_another_one_is_not(folder, client, tmp_path):
    other = RunFolder(tmp_path / "elsewhere" / "run")
    with other.claim(presets.get("debug").record()):
        other.config.write_text(other.config.read_text().replace("started: '20", "started: '19"))
        for each in (folder, folder, other):
            with tracking.track(["wandb"], each):
                pass
    first, again, another = identities(client)
    assert first == again != another


def test_updates_are_the_axis_of_a_run_without_an_agent():
    line = {"agent_steps": 0, "env_steps": 0, "wall_seconds": 1.0, "updates": 7, "tokenizer/loss": 0.5}
    assert tracking.step_of(line) == 7
    assert tracking.step_of({"agent_steps": 3}) == 3


def scalars(folder):
    """Values of `agent/loss` by step in the event files, read without TensorBoard."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted((folder.tracking / "tensorboard").iterdir()):
        raw, at = path.read_bytes(), 0
        while at < len(raw):
            (length,) = struct.unpack("<Q", raw[at : at + 8])
            event = Event.FromString(raw[at + 12 : at + 12 + length])
            for each in event.summary.value:
                if each.tag == "agent/loss":
                    found[event.step] = each.simple_value
            at += 16 + length
    return found


def test_tensorboard_shows_a_run_without_what_a_kill_made_void(folder):
    assert importlib.util.find_spec("tensorboardX"), "this test needs tensorboardX, of the extra 'test'"
    with tracking.track(["tensorboard"], folder) as trackers:
        assert trackers[0].where == f"tensorboard --logdir {folder.path / 'tracking' / 'tensorboard'}"
        write(folder, trackers, (1, 2, 3))
    assert scalars(folder) == {1: 1.0, 2: 0.5, 3: pytest.approx(1 / 3)}
    keep_first(folder.metrics, 2)
    with tracking.track(["tensorboard"], folder) as trackers:
        assert len(scalars(folder)) == 3  # until the run goes on, what is there stays
        write(folder, trackers, (4,))
    assert scalars(folder) == {1: 1.0, 2: 0.5, 4: 0.25}


def test_metrics_are_in_the_file_before_a_tracker_hears_of_them(folder):
    seen = []
    listener = types.SimpleNamespace(write=lambda line: seen.append((line, read_metrics(folder.metrics)[-1])))
    write(folder, [listener], (1, 2))
    assert all(line == written for line, written in seen) and len(seen) == 2


@pytest.mark.parametrize("name", tracking.PACKAGES)
def test_a_missing_package_is_one_sentence_before_the_work_begins(tmp_path, monkeypatch, capsys, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda module: None if module == tracking.PACKAGES[name] else find(module)
    )
    code = cli.run(["train", "--preset", "debug", "--run-dir", str(tmp_path / "run"), "--tracking", name])
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and not (tmp_path / "run").exists()
    assert f"--tracking {name} needs the package" in said and f"pip install 'ivideogpt-jax[{name}]'" in said


def test_a_service_that_cannot_be_reached_is_one_sentence(folder, monkeypatch):
    def refuse(**_):
        raise RuntimeError("api_key not configured\nand more")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=refuse, Settings=lambda **_: None))
    with (
        pytest.raises(UsageError, match=r"cannot begin \(api_key not configured\): log in") as error,
        tracking.track(["wandb"], folder),
    ):
        pass
    assert "\n" not in str(error.value)


def test_a_run_says_first_where_its_curves_are(folder, client):
    with tracking.track(["trackio", "wandb"], folder) as trackers:
        said = tracking.say_where(folder, trackers)
    path = folder.path
    assert said == (
        f"curves: ivideogpt report {path} (at any time, from metrics.jsonl); trackio show --project ivideogpt; "
        f"wandb sync {path}/tracking/wandb/offline-run-*"
    )


def test_tracking_tells_no_runs_apart_and_may_change(tmp_path):
    plain, tracked = presets.get("debug"), presets.get("debug")
    assert "tracking" not in tracked.select({"tracking", "demonstrations"})
    folder = RunFolder(tmp_path / "run")
    with folder.claim(plain.record()):
        pass
    with folder.claim(tracked.record() | {"tracking": ["wandb"]}, may_change=("tracking",)):
        assert folder.read()["config"]["tracking"] == ["wandb"]
