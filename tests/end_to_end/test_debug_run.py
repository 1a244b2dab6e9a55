"""The whole loop as a user starts it: `ivideogpt train --preset debug`, on real Meta-World frames."""

import json
import os
import pathlib
import subprocess
import sys

import yaml

from experiments import presets
from world_model import WorldModel


def ivideogpt(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "experiments.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def lines_of(run: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_that_a_run_folder_promises(finished_run):
    for name in ("config.yaml", "metrics.jsonl", "checkpoints", "replay", "videos", "report.html"):
        assert (finished_run / name).exists(), name
    assert list((finished_run / "videos").glob("evaluation-*.mp4"))
    assert list((finished_run / "videos").glob("imagination-*.mp4"))
    html = (finished_run / "report.html").read_text()
    assert "data:video/mp4" in html
    assert "src=\"http" not in html
    model = WorldModel.from_pretrained(finished_run / "model")
    assert model.config == presets.get("debug").mbpo.world_model


def test_every_line_says_when_and_every_part_of_the_loop_has_its_line(finished_run):
    lines = lines_of(finished_run)
    for line in lines:
        assert {"agent_steps", "env_steps", "wall_seconds"} <= set(line)
        assert line["env_steps"] == 2 * line["agent_steps"]
    names = set().union(*lines)
    assert {"eval/success", "eval/return", "episode/return", "model/mse_imagined", "model/mse_repeat", "model/mse_swapped"} <= names
    for group in ("agent/", "tokenizer/", "transformer/", "imagined/"):
        assert any(name.startswith(group) for name in names), group


def test_every_real_episode_is_a_file(finished_run):
    episodes = sum("episode/return" in line for line in lines_of(finished_run))
    config = yaml.safe_load((finished_run / "config.yaml").read_text())["config"]
    assert len(list((finished_run / "replay" / "real").glob("*.npz"))) == episodes + config["demonstrations"]


def test_a_finished_run_started_again_changes_no_metric(finished_run):
    before = lines_of(finished_run)
    again = ivideogpt("train", "--preset", "debug", "--run-dir", str(finished_run))
    assert again.returncode == 0, again.stderr
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


def test_drqv2_is_the_same_loop_without_a_world_model(tmp_path):
    run = tmp_path / "drqv2"
    done = ivideogpt("train", "--preset", "debug", "--algorithm", "drqv2", "--run-dir", str(run))
    assert done.returncode == 0, done.stderr
    names = set().union(*lines_of(run))
    assert any(name.startswith("agent/") for name in names)
    assert not any(name.startswith(("tokenizer/", "transformer/", "model/")) for name in names)


def one_sentence(done: subprocess.CompletedProcess) -> str:
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_an_unknown_task_gets_the_closest_names():
    said = one_sentence(ivideogpt("train", "--preset", "debug", "--task", "plate-slid"))
    assert "unknown task 'plate-slid'" in said
    assert "plate-slide" in said


def test_an_unknown_preset_or_command_gets_the_closest_names():
    assert "did you mean laptop?" in one_sentence(ivideogpt("train", "--preset", "lptop"))
    assert "did you mean train" in one_sentence(ivideogpt("trian"))


def test_a_run_folder_of_another_config_names_the_difference(finished_run):
    said = one_sentence(ivideogpt("train", "--preset", "debug", "--seed", "7", "--run-dir", str(finished_run)))
    assert "seed was 0, now 7" in said


def test_a_damaged_demonstration_is_named(tmp_path, finished_run):
    source = next((finished_run / "demonstrations").glob("*.npz"))
    (tmp_path / "demos").mkdir()
    (tmp_path / "demos" / "broken.npz").write_bytes(source.read_bytes()[:1000])
    said = one_sentence(
        ivideogpt("train", "--preset", "debug", "--run-dir", str(tmp_path / "run"), "--demonstrations-dir", str(tmp_path / "demos"))
    )
    assert "broken.npz" in said


def test_a_horizon_beyond_the_transformers_positions_says_how_long_it_may_be(tmp_path):
    said = one_sentence(
        ivideogpt("train", "--preset", "debug", "--run-dir", str(tmp_path / "run"), "--mbpo.model.horizon", "5000")
    )
    assert "5000" in said
    assert "positions" in said


def test_tasks_lists_fifty():
    assert len(ivideogpt("tasks").stdout.split()) >= 50


def test_doctor_reports_the_renderer_and_the_devices():
    said = ivideogpt("doctor", env=os.environ | {"COLUMNS": "120"}).stdout
    assert "render" in said.lower()
    assert "cpu" in said.lower()
