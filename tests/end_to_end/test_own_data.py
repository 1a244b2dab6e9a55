"""The README's chapter 'Train on your own data' from its first command to its last, at `debug` size on real frames."""

import json
import sys

import kill_many
import pytest
import yaml

from experiments import cli
from world_model import WorldModel

DEBUG = ("--preset", "debug", "--validation-share", "0.4")


@pytest.fixture
def ivideogpt(monkeypatch, capsys):
    """Types a command and returns what it printed."""

    def type_(*words) -> str:
        monkeypatch.setattr(sys, "argv", ["ivideogpt", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return type_


def test_from_episodes_of_ones_own_to_an_agent_that_learns_in_imagination(ivideogpt, tmp_path):
    data, runs, episodes = tmp_path / "data", tmp_path / "runs", tmp_path / "episodes"
    ivideogpt("collect-demos", "--task", "handle-press", "--out", episodes, "--episodes", 4)
    assert "4 episodes with 4 numbers an action and rewards" in ivideogpt("convert-data", "npz", episodes, data)
    on = [*DEBUG, "--data", f"{data}@step=2", "--run-dir"]
    ivideogpt("pretrain", "tokenizer", *on, runs / "tokenizer")
    ivideogpt("pretrain", "transformer", "--tokenizer", runs / "tokenizer", *on, runs / "model")
    ivideogpt("finetune", runs / "model", "--mode", "full", "--trajectories", 2, *on, runs / "tuned")
    few = ["--without", "fvd", "--horizon", 3, "--videos", 2, "--samples", 2]
    ivideogpt("evaluate", runs / "tuned", *few, "--out", runs / "tuned" / "evaluation")
    found = json.loads((runs / "tuned" / "evaluation" / "evaluation.json").read_text())
    assert found["metrics"]["psnr"]["greedy"] > 0
    assert "<video" in (runs / "tuned" / "evaluation" / "evaluation.html").read_text()
    ivideogpt("predict", runs / "tuned", "--data", data, "--horizon", 3, "--out", runs / "predicted")
    assert list((runs / "predicted" / "videos").glob("*.mp4"))
    ivideogpt("report", runs / "model", runs / "tuned", "--csv", runs / "table.csv")
    assert "best_psnr" in (runs / "table.csv").read_text()
    kill_many.finish(runs / "agent", "debug", ["--pretrained", str(runs / "tuned"), "--demonstrations-dir", str(episodes), "--held-out", "1"])
    config = yaml.safe_load((runs / "agent" / "config.yaml").read_text())["config"]
    assert config["mbpo"]["world_model"]["tokenizer"]["freeze_codebooks"]
    assert WorldModel.from_pretrained(runs / "agent" / "model").config.transformer.reward_head
