"""The whole loop as a user starts it: `ivideogpt train --preset debug`, on real Meta-World frames."""

import json
import pathlib
import subprocess
import sys

import pytest
import yaml

from experiments.training import presets
from world_model import WorldModel

pytestmark = pytest.mark.slow


def lines_of(run: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_that_a_run_folder_promises(finished_run):
    for name in ("config.yaml", "metrics.jsonl", "checkpoints", "replay", "videos", "report.html"):
        assert (finished_run / name).exists(), name
    assert list((finished_run / "videos").glob("evaluation-*.mp4"))
    assert list((finished_run / "videos").glob("imagination-*.mp4"))
    html = (finished_run / "report.html").read_text()
    assert "data:video/mp4" in html
    assert 'src="http' not in html
    model = WorldModel.from_pretrained(finished_run / "model")
    assert model.config == presets.get("debug").algorithm.world_model


def test_every_line_says_when_and_every_part_of_the_loop_has_its_line(finished_run):
    lines = lines_of(finished_run)
    for line in lines:
        assert {"agent_steps", "env_steps", "wall_seconds"} <= set(line)
        assert line["env_steps"] == 2 * line["agent_steps"]
    names = set().union(*lines)
    assert {
        "eval/success",
        "eval/return",
        "episode/return",
        "model/mse_imagined",
        "model/mse_copy_last",
        "model/mse_shuffled_actions",
    } <= names
    for group in ("agent/", "tokenizer/", "transformer/", "imagined/"):
        assert any(name.startswith(group) for name in names), group


def test_every_real_episode_is_a_file(finished_run):
    episodes = sum("episode/return" in line for line in lines_of(finished_run))
    config = yaml.safe_load((finished_run / "config.yaml").read_text())["config"]
    assert len(list((finished_run / "replay" / "real").glob("*.npz"))) == episodes + config["demonstrations"]


def test_a_finished_run_started_again_changes_no_metric(finished_run, ivideogpt):
    before = lines_of(finished_run)
    assert ivideogpt("train", "--preset", "debug", "--run-dir", finished_run).code == 0
    assert lines_of(finished_run) == before


def test_the_last_line_is_the_fingerprint_of_the_state(finished_run):
    *before, last = lines_of(finished_run)
    assert len(last["state_fingerprint"]) == 64
    assert not any("state_fingerprint" in line for line in before)


def test_sizes_of_the_replays_and_the_folder_are_told(finished_run):
    line = [line for line in lines_of(finished_run) if "bytes/run_folder" in line][-1]
    frames = 3 * 101 * 64 * 64 * 3  # a demonstration and two episodes
    assert frames < line["bytes/real_replay"] < 1.01 * frames
    assert line["bytes/imagined_replay"] > 0
    assert line["bytes/run_folder"] > 0


def test_drqv2_is_the_same_loop_without_a_world_model(tmp_path, ivideogpt):
    run = tmp_path / "drqv2"
    assert ivideogpt("train", "--preset", "debug", "--algorithm", "drqv2", "--run-dir", run).code == 0
    names = set().union(*lines_of(run))
    assert any(name.startswith("agent/") for name in names)
    assert not any(name.startswith(("tokenizer/", "transformer/", "model/")) for name in names)


def test_a_run_imagines_whole_frames_at_once_and_is_gone_on_from_by_another(tmp_path, ivideogpt):
    run, tuned = tmp_path / "frames", tmp_path / "tuned"
    decoding = ["--mbpo.world-model.transformer.decoding", "frames", "--mbpo.world-model.frame-sample", 2]
    assert ivideogpt("train", "--preset", "debug", *decoding, "--run-dir", run).code == 0
    names = set().union(*lines_of(run))
    assert {"model/mse_imagined", "model/mse_shuffled_actions", "imagined/reward", "transformer/cross_entropy"} <= names
    again = ivideogpt("train", "--preset", "debug", "--pretrained", run, "--run-dir", tuned, "--seed", 1)
    assert again.code == 0, again.err
    config = WorldModel.from_pretrained(tuned / "model").config
    assert (config.transformer.decoding, config.frame_sample) == ("frames", 2)


def test_the_command_itself_ends_with_one_sentence_and_its_exit_code():
    command = [sys.executable, "-m", "experiments.cli", "train", "--preset", "lptop"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ivideogpt: unknown preset 'lptop': did you mean laptop?\n"


def test_an_unknown_task_gets_the_closest_names(ivideogpt, tmp_path):
    said = ivideogpt("train", "--preset", "debug", "--task", "plate-slid", "--run-dir", tmp_path / "run").sentence
    assert "unknown task 'plate-slid': did you mean plate-slide" in said


def test_an_unknown_command_gets_the_closest_names(ivideogpt):
    assert "did you mean train" in ivideogpt("trian").sentence


def test_a_run_folder_of_another_config_names_the_difference(finished_run, ivideogpt):
    said = ivideogpt("train", "--preset", "debug", "--seed", 7, "--run-dir", finished_run).sentence
    assert "seed was 0, now 7" in said


def test_a_run_folder_of_another_algorithm_names_the_difference(finished_run, ivideogpt):
    said = ivideogpt("train", "--preset", "debug", "--algorithm", "drqv2", "--run-dir", finished_run).sentence
    assert "algorithm was 'mbpo', now 'drqv2'" in said


def test_a_damaged_demonstration_is_named(tmp_path, finished_run, ivideogpt):
    source = next((finished_run / "demonstrations").glob("*.npz"))
    (tmp_path / "demos").mkdir()
    (tmp_path / "demos" / "broken.npz").write_bytes(source.read_bytes()[:1000])
    typed = ["--run-dir", tmp_path / "run", "--demonstrations-dir", tmp_path / "demos"]
    assert "broken.npz" in ivideogpt("train", "--preset", "debug", *typed).sentence


def test_a_horizon_beyond_the_transformers_positions_says_how_long_it_may_be(tmp_path, ivideogpt):
    typed = ["--run-dir", tmp_path / "run", "--mbpo.model.horizon", 5000]
    assert "the longest horizon that fits is" in ivideogpt("train", "--preset", "debug", *typed).sentence
