"""The README's chapter 'Train on your own data' from its first command to its last, at `debug` size on real frames."""

import json

import pytest
import yaml

from world_model import WorldModel

pytestmark = pytest.mark.slow

DEBUG = ("--preset", "debug", "--validation-share", "0.4")


@pytest.fixture
def done(ivideogpt):
    """Types a command that succeeds, and returns what it printed."""

    def type_(*words) -> str:
        left = ivideogpt(*words)
        assert left.code == 0, left.err
        return left.out

    return type_


def test_from_episodes_of_ones_own_to_an_agent_that_learns_in_imagination(done, tmp_path):
    data, runs, episodes = tmp_path / "data", tmp_path / "runs", tmp_path / "episodes"
    done("collect-demos", "--task", "handle-press", "--out", episodes, "--episodes", 4)
    assert "4 episodes with 4 numbers an action and rewards" in done("convert-data", "npz", episodes, data)
    on = [*DEBUG, "--data", f"{data}@step=2", "--run-dir"]
    done("pretrain", "tokenizer", *on, runs / "tokenizer")
    done("pretrain", "transformer", "--tokenizer", runs / "tokenizer", *on, runs / "model")
    done("finetune", runs / "model", "--mode", "full", "--trajectories", 2, *on, runs / "tuned")
    few = ["--without", "fvd", "--horizon", 3, "--videos", 2, "--samples", 2]
    done("evaluate", runs / "tuned", *few, "--out", runs / "tuned" / "evaluation")
    found = json.loads((runs / "tuned" / "evaluation" / "evaluation.json").read_text())
    assert found["metrics"]["psnr"]["greedy"] > 0
    assert "<video" in (runs / "tuned" / "evaluation" / "evaluation.html").read_text()
    done("predict", runs / "tuned", "--data", data, "--horizon", 3, "--out", runs / "predicted")
    assert list((runs / "predicted" / "videos").glob("*.mp4"))
    done("report", runs / "model", runs / "tuned", "--csv", runs / "table.csv")
    assert "best_psnr" in (runs / "table.csv").read_text()
    start = ["--pretrained", runs / "tuned", "--demonstrations-dir", episodes, "--held-out", 1]
    done("train", "--preset", "debug", *start, "--run-dir", runs / "agent")
    config = yaml.safe_load((runs / "agent" / "config.yaml").read_text())["config"]
    assert config["mbpo"]["world_model"]["tokenizer"]["freeze_codebooks"]
    assert WorldModel.from_pretrained(runs / "agent" / "model").config.transformer.reward_head
