"""`ivideogpt plan` from the words to the page, on a simulator of one's own and on Meta-World."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import small
from PIL import Image

from experiments.envs import registry as simulators
from experiments.envs.simulator import PixelSimulator, Suite
from experiments.errors import UsageError
from experiments.planning.goals import recorded_tasks
from experiments.reports.statistics import bounds_of_mean


class Pusher(PixelSimulator):
    """A bright square that two actions move; success is the right edge."""

    def __init__(self, task: str, render_quality: str = "fast", resolution: int = 64):
        super().__init__(task, action_size=3, resolution=resolution, action_repeat=1, episode_agent_steps=12)

    def _begin(self, seed):
        self.at, self.goal = np.array([3.0, 3.0 + seed % 8]) * self.observation_space.shape[0] / 16, None

    def _advance(self, action, last):
        side = self.observation_space.shape[0]
        self.at = np.clip(self.at + side / 8 * action[:2], 0, side - 1)
        if self.goal is not None:
            return 0.0, bool(np.abs(self.at - self.goal).max() < side / 16)
        return 0.0, bool(self.at[0] > 0.7 * side)

    def render(self):
        y, x = np.mgrid[: self.observation_space.shape[0], : self.observation_space.shape[0]]
        distance = np.abs(x - self.at[0]) + np.abs(y - self.at[1])
        return np.repeat(np.clip(255 - 3 * distance, 0, 255)[..., None], 3, -1).astype(np.uint8)

    def scripted_policy(self):
        return lambda: np.array([1.0, 0.0, 0.0])

    def save_state(self):
        return {"at": self.at.copy(), "goal": self.goal, "agent_steps": self._agent_steps}

    def restore_state(self, state):
        self.at, self.goal, self._agent_steps = state["at"].copy(), state["goal"], state["agent_steps"]

    def exploring_policy(self, rng):
        return lambda: rng.uniform(-1, 1, 3)

    def set_goal(self, state):
        self.goal = state["at"].copy()


@pytest.fixture
def pusher(monkeypatch):
    suite = Suite("pusher", "push/", Pusher, lambda: ("push/right",))
    monkeypatch.setattr(simulators, "SUITES", (*simulators.SUITES, suite))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    small.small_frames_model().save(folder)
    return folder


def read(folder):
    with open(folder / "plan.csv", newline="") as file:
        return json.loads((folder / "plan.json").read_text()), list(csv.DictReader(file))


@pytest.mark.parametrize(("planner", "cost"), [("cem", ["pixels"]), ("mppi", ["codes", "reward=0.1"])])
def test_the_debug_model_plans_and_everything_is_written(ivideogpt, pusher, model, tmp_path, planner, cost):
    typed = ["--task", "push/right", "--model", model, "--preset", "debug", "--planner", planner, "--cost", *cost]
    done = ivideogpt("plan", *typed, "--agreement", 3, "--videos", 1, "--out", tmp_path / "out")
    assert done.code == 0 and "of 2 (" in done.out and "agreement" in done.out
    found, rows = read(tmp_path / "out")
    assert found["episodes"] == len(rows) == 2 and found["protocol"]["planner"]["samples"] == 4
    assert [row["episode"] for row in rows] == ["0", "1"] and rows[0]["plans"] == "2"
    assert -1 <= float(rows[0]["agreement_first"]) <= 1
    assert [path.name for path in (tmp_path / "out" / "videos").iterdir()] == ["000.mp4"]
    page = (tmp_path / "out" / "plan.html").read_text()
    assert "data:video/mp4;base64," in page and 'src="http' not in page


def test_the_simulator_as_model_arrives_and_the_lower_bounds_do_less(ivideogpt, pusher, tmp_path):
    errors = {}
    for model in ("simulator", "copy-last", "random"):
        typed = ["--task", "push/right", "--model", model, "--preset", "debug", "--agent-steps", 8, "--samples", 24]
        typed += ["--elites", 4, "--iterations", 3, "--episodes", 3, "--videos", 0]
        assert ivideogpt("plan", *typed, "--out", tmp_path / model).code == 0
        found, rows = read(tmp_path / model)
        errors[model] = found["goal_error_left"]
        if model == "simulator":
            assert found["successes"] == 3 and found["success_interval"][0] > 0.4
            assert all(int(row["agent_steps"]) <= 8 for row in rows)
    assert errors["simulator"] < 0.6 * min(errors["copy-last"], errors["random"])


def test_the_same_words_come_to_the_same(ivideogpt, pusher, tmp_path):
    typed = ["--task", "push/right", "--model", "copy-last", "--preset", "debug", "--videos", 0]
    tables = []
    for name in ("one", "other"):
        assert ivideogpt("plan", *typed, "--out", tmp_path / name).code == 0
        tables.append([{**row, "seconds_each_plan": "", "command": ""} for row in read(tmp_path / name)[1]])
    assert tables[0] == tables[1]


def test_a_state_that_an_episode_came_to_may_be_the_goal(ivideogpt, pusher, tmp_path):
    typed = ["--task", "push/right", "--model", "simulator", "--preset", "pusht-laptop", "--episodes", 3]
    typed += ["--goal-agent-steps", 4, "--agent-steps", 6, "--samples", 24, "--horizon", 2, "--videos", 0]
    assert ivideogpt("plan", *typed, "--out", tmp_path / "out").code == 0
    found, rows = read(tmp_path / "out")
    assert found["goal"] == rows[0]["goal"] == "recorded, 4 ahead"
    assert found["successes"] >= 2 and all(int(row["agent_steps"]) <= 6 for row in rows)
    assert len({row["goal_error_start"] for row in rows}) == 3
    beyond = ivideogpt("plan", *typed, "--goal-agent-steps", 13, "--out", tmp_path / "beyond")
    assert "an episode of push/right has 12 agent steps: no goal is 13 ahead in it" in beyond.sentence


def test_where_no_state_can_be_a_goal_that_is_said(pusher, monkeypatch):
    env = Pusher("push/right", resolution=16)
    monkeypatch.setattr(Pusher, "set_goal", PixelSimulator.set_goal)
    with pytest.raises(UsageError, match="push/right does not know when a state is reached"):
        list(recorded_tasks(env, 1, 0, 2, 2))
    monkeypatch.setattr(Pusher, "exploring_policy", PixelSimulator.exploring_policy)
    with pytest.raises(UsageError, match="push/right has no exploring policy"):
        list(recorded_tasks(env, 1, 0, 2, 2))


def test_a_picture_may_be_the_goal_if_it_fits(ivideogpt, pusher, tmp_path):
    for side in (64, 32):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / f"{side}.png")
    typed = ["--task", "push/right", "--model", "random", "--preset", "debug", "--out", tmp_path / "out", "--goal"]
    assert ivideogpt("plan", *typed, tmp_path / "64.png").code == 0
    assert "32 x 32 pixels, the task's pictures are 64 x 64" in ivideogpt("plan", *typed, tmp_path / "32.png").sentence
    assert "is no picture" in ivideogpt("plan", *typed, tmp_path / "none.png").sentence


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "debg"], "did you mean debug?"),
        (["--cost", "pixel"], "expected some of pixels, codes, lpips, reward"),
        (["--cost", "pixels=much"], "expected a number behind the ="),
        (["--temperature", "1"], "--temperature is for --planner mppi"),
        (["--elites", "70"], "70 elites of 64 samples"),
        (["--cost", "codes"], "copy-last as model has no codes to compare"),
        (["--batch", "0"], "--batch 0: expected at least 1"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(ivideogpt, pusher, tmp_path, words, said):
    typed = ["--task", "push/right", "--model", "copy-last", "--out", tmp_path / "out"]
    assert said in ivideogpt("plan", *typed, *words).sentence
    assert not (tmp_path / "out").exists()


def test_a_mean_lies_within_its_interval():
    values = np.random.default_rng(0).normal(size=40)
    low, high = bounds_of_mean([values])
    assert low < values.mean() < high and high - low < 1


def test_settings_of_presets_are_whole():
    from experiments.planning.config import METHODS, PRESETS

    for preset in PRESETS.values():
        assert METHODS["mppi"](preset.planner).temperature and METHODS["cem"](preset.planner) == preset.planner
        assert dataclasses.replace(preset).planner.execute <= preset.planner.horizon
