"""An algorithm, a simulator and a converter of somebody's own: a file each, and one line in one registry."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import yaml

from agent.episodes import RandomActions
from agent.loop import Counts, Loop
from agent.replay import Replay, load_episode
from experiments import cli
from experiments.data.converters import registry as converters
from experiments.data.converters.source import EpisodeRef, Source
from experiments.data.recording import make_recording
from experiments.data.store import Store
from experiments.envs import registry as simulators
from experiments.envs.demonstrations import collect_random
from experiments.envs.simulator import PixelSimulator, Suite
from experiments.runs.metrics_log import read_metrics
from experiments.training import algorithms

# --- a simulator ----------------------------------------------------------------------------------------------------


class Lamp(PixelSimulator):
    """Six steps of a lamp that two actions make brighter or darker; the reward is its brightness."""

    def __init__(self, task: str, render_quality: str = "fast", resolution: int = 64):
        super().__init__(task, action_size=2, resolution=resolution, action_repeat=3, episode_agent_steps=6)

    def _begin(self, seed):
        self.brightness = seed % 100

    def _advance(self, action, last):
        self.brightness = float(np.clip(self.brightness + 40 * action.sum(), 0, 255))
        return self.brightness / 255, last and self.brightness > 200

    def render(self):
        return np.full(self.observation_space.shape, self.brightness, np.uint8)

    def save_state(self):
        return {"brightness": self.brightness, "agent_steps": self._agent_steps}

    def restore_state(self, state):
        self.brightness, self._agent_steps = state["brightness"], state["agent_steps"]


LAMPS = Suite("lamps", "lamp/", Lamp, lambda: ("lamp/desk", "lamp/street"))

# --- an algorithm ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class BrightConfig:
    """Always the same action."""

    level: float = 0.5
    action_size: int = 1
    resolution: int = 16

    @property
    def world_model(self) -> None:
        return None

    def for_simulator(self, action_size: int, resolution: int) -> BrightConfig:
        return dataclasses.replace(self, action_size=action_size, resolution=resolution)


class Bright(Loop[Counts]):
    def __init__(self, config, schedule, inputs):
        replay = Replay(inputs.folder and inputs.folder / "real", 1, 1, 0.99, schedule.replay_episodes)
        super().__init__(schedule, inputs, replay, Counts(), 1, config.action_size)
        self.config = config

    def arrays(self):
        return {"level": np.float32(self.config.level)}

    def take(self, arrays):
        pass

    def _prepare(self):
        return iter(())

    def _act(self, observations_nhwc, step):
        return np.full((len(observations_nhwc), self.config.action_size), self.config.level, np.float32)

    _act_best = _act

    def _catch_up(self, episodes, step):
        pass


@pytest.fixture
def lamps(monkeypatch):
    monkeypatch.setattr(simulators, "SUITES", (*simulators.SUITES, LAMPS))


@pytest.fixture
def bright(monkeypatch):
    monkeypatch.setitem(algorithms.ALGORITHMS, "bright", algorithms.Algorithm(BrightConfig, Bright))


SHORT = ["--preset", "debug", "--schedule.agent-steps", "12", "--schedule.random-agent-steps", "6"]


def test_a_simulator_and_an_algorithm_of_ones_own_train_from_the_command_line(lamps, bright, tmp_path, capsys):
    run = tmp_path / "run"
    typed = ["--algorithm", "bright", "--task", "lamp/desk", "--bright.level", "0.9", "--run-dir", str(run)]
    assert cli.run(["train", *SHORT, *typed]) == 0
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["agent_steps"] for line in lines if "eval/success" in line] == [0, 12]
    assert lines[-1]["env_steps"] == 36
    assert "level: 0.9" in (run / "config.yaml").read_text()
    assert load_episode(run / "replay" / "real" / "000001.npz").actions.shape == (6, 2)
    assert (run / "report.html").exists()
    assert cli.run(["tasks", "--suite", "lamps"]) == 0
    assert capsys.readouterr().out.endswith("lamp/desk\nlamp/street\n")


def test_another_algorithms_settings_are_not_taken(bright, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.run(["train", *SHORT, "--algorithm", "bright", "--mbpo.model.horizon", "3", "--run-dir", str(tmp_path)])
    assert "--mbpo.model.horizon" in capsys.readouterr().err
    assert cli.run(["train", "--algorithm", "brigt", "--run-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "ivideogpt: unknown algorithm 'brigt': did you mean bright?\n"


@pytest.mark.slow
def test_mbpo_runs_in_a_simulator_without_a_scripted_policy_at_the_models_resolution(lamps, tmp_path):
    """Faults 3 and 1: it ended in a bare KeyError, and with a model of other than 64 pixels in the policy's shapes."""
    run = tmp_path / "run"
    typed = ["--task", "lamp/street", "--run-dir", str(run), "--mbpo.model.start-agent-steps", "6"]
    model = ["--mbpo.model.horizon", "2", "--mbpo.world-model.segment-frames", "4"]
    model += ["--mbpo.world-model.tokenizer.resolution", "32"]
    assert cli.run(["train", *SHORT, *typed, *model]) == 0
    assert len(list((run / "held_out" / "random").glob("*.npz"))) == 4
    assert any("model/mse_imagined" in line for line in read_metrics(run / "metrics.jsonl"))
    agent = yaml.safe_load((run / "config.yaml").read_text())["config"]["mbpo"]["agent"]
    assert (agent["resolution"], agent["action_size"]) == (32, 2)


def test_episodes_of_another_task_are_refused_in_one_sentence(lamps, tmp_path, capsys):
    """Fault 4: they ended in a numpy traceback."""
    list(collect_random(Lamp("lamp/desk", resolution=20), tmp_path / "recorded", 2, 0, RandomActions(), "episodes"))
    for flag in ("--demonstrations-dir", "--held-out-dir"):
        typed = ["--task", "lamp/desk", flag, str(tmp_path / "recorded"), "--run-dir", str(tmp_path / flag)]
        assert cli.run(["train", *SHORT, *typed]) == 2
        assert "pictures (20, 20, 3) and actions of 2 numbers differ from those of lamp/desk" in capsys.readouterr().err


def test_a_converter_of_ones_own_is_a_format_of_the_command(monkeypatch, tmp_path, capsys):
    def open_counting(source: pathlib.Path, options) -> Source:
        """JSON files that hold a number of frames."""
        paths = sorted(source.glob("*.json"))

        def read(path):
            count = json.loads(path.read_text())
            return lambda: make_recording(np.full((count, options.resolution, options.resolution, 3), count, np.uint8))

        return Source(len(paths), [EpisodeRef(path.name, read(path)) for path in paths])

    monkeypatch.setitem(converters.FORMATS, "counting", open_counting)
    (tmp_path / "in").mkdir()
    for count in (3, 5):
        (tmp_path / "in" / f"{count}.json").write_text(str(count))
    assert cli.run(["convert-data", "counting", str(tmp_path / "in"), str(tmp_path / "out"), "--resolution", "8"]) == 0
    assert Store(tmp_path / "out").lengths.tolist() == [3, 5]
    assert "2 episodes" in capsys.readouterr().out
