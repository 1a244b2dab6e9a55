"""Training runs on a data set: what is left behind, which part learns, and that a stopped one ends like one that was
not."""

import dataclasses
import shutil
import sys

import jax
import numpy as np
import pytest
import yaml
from noise_data import write_set

import world_model
from agent.events import CheckpointDue
from experiments import cli
from experiments.data.loader import DatasetSpec
from experiments.errors import UsageError
from experiments.pretraining import presets, run
from experiments.pretraining.command import MODES
from experiments.pretraining.config import Stage
from experiments.pretraining.mesh import MeshConfig
from experiments.runs.checkpoints import CheckpointError
from experiments.runs.metrics_log import read_metrics
from world_model import WorldModel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(data):
    return dataclasses.replace(presets.get("debug"), data=(DatasetSpec(data),), ema_decay=0.5, validation_share=0.4)


@pytest.fixture(scope="module")
def params(config):
    return world_model.init(config.world_model, jax.random.key(0)).params


@pytest.fixture(scope="module")
def whole(config, params, tmp_path_factory):
    """The folder of a run through both stages."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run.pretrain(config, params, folder, "")
    return folder


def values(folder):
    lines = read_metrics(folder / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name != "wall_seconds"} for line in lines]


def same(one, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), one, other)))


def stopped_at(step, config, params, folder, monkeypatch):
    record = run._record

    def dies(event, trainer, *others):
        record(event, trainer, *others)
        if isinstance(event, CheckpointDue) and trainer.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "_record", dies)
        run.pretrain(config, params, folder, "")


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_a_stopped_run_ends_like_one_that_was_never_stopped(config, params, whole, tmp_path, monkeypatch, stop):
    stopped_at(stop, config, params, tmp_path / "stopped", monkeypatch)
    run.pretrain(config, params, tmp_path / "stopped", "")
    assert values(tmp_path / "stopped") == values(whole)
    ended, expected = (WorldModel.from_pretrained(folder / "model") for folder in (tmp_path / "stopped", whole))
    assert same(ended.params, expected.params)


def test_a_run_leaves_a_model_pictures_and_a_judgement_of_both_parts(whole):
    last = next(line for line in reversed(values(whole)) if "validation/tokenizer/loss" in line)
    assert last["updates"] == 8
    assert {"validation/tokenizer/future_codes_used", "validation/transformer/token_accuracy_top_5"} <= set(last)
    assert {"model/mse_imagined", "model/mse_copy_last", "model/mse_shuffled_actions"} <= set(last)
    assert {path.name for path in (whole / "videos").iterdir()} >= {
        "reconstruction-8.mp4", "imagination-8.mp4", "imagination-8.png",
    }  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_only_the_part_that_a_mode_names_learns(config, params, tmp_path, mode):
    stages = {name: Stage(2 if name in MODES[mode] else 0, 2) for name in ("tokenizer", "transformer")}
    settings = dataclasses.replace(config, **stages, ema_decay=None, source="somewhere", validate_every=5)
    model = WorldModel.from_pretrained(run.pretrain(settings, params, tmp_path / "run", ""))
    learned = {name: not same(getattr(model.params, name), getattr(params, name)) for name in stages}
    assert learned == {name: name in MODES[mode] for name in stages}
    assert "validation/transformer/loss" in values(tmp_path / "run")[-1]


def test_a_single_recording_is_learned_from_and_nothing_is_judged(config, params, tmp_path, capsys):
    single = write_set(tmp_path / "single", recordings=1)
    settings = dataclasses.replace(config, data=(DatasetSpec(single),), transformer=Stage(0, 2), tokenizer=Stage(2, 2))
    run.pretrain(settings, params, tmp_path / "run", "")
    assert "not evaluated" in capsys.readouterr().err
    assert not any(name.startswith("validation/") for line in values(tmp_path / "run") for name in line)


def test_a_model_without_actions_and_rewards_imagines_and_is_judged(config, tmp_path):
    filmed = write_set(tmp_path / "filmed", action_size=0, rewards=False)
    transformer = dataclasses.replace(config.world_model.transformer, action_size=0, reward_head=False)
    model = dataclasses.replace(config.world_model, transformer=transformer)
    settings = dataclasses.replace(
        config, data=(DatasetSpec(filmed, step=2),), world_model=model, horizon=1, source="somewhere"
    )
    settings = dataclasses.replace(settings, tokenizer=Stage(0, 2), transformer=Stage(2, 2))
    run.pretrain(settings, world_model.init(model, jax.random.key(0)).params, tmp_path / "run", "")
    last = values(tmp_path / "run")[-1]
    assert {"model/mse_imagined", "model/mse_copy_last"} <= set(last)
    assert not {"model/mse_shuffled_actions", "model/reward_mae"} & set(last)
    assert (tmp_path / "run" / "videos" / "imagination-2.png").exists()


def test_a_goal_conditioned_model_learns_and_is_judged_with_the_goal_first(config, params, tmp_path):
    model = dataclasses.replace(config.world_model, goal_conditioned=True)
    settings = dataclasses.replace(config, world_model=model, horizon=3, ema_decay=None)
    settings = dataclasses.replace(settings, tokenizer=Stage(2, 2), transformer=Stage(2, 2))
    trainer = run.Trainer(settings, params)
    frames = np.random.default_rng(0).integers(256, size=(2, 6, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(trainer._arrange(frames), frames[:, [5, 0, 1, 2, 3, 4]])
    trainer.enter("transformer")  # whose tokens are put into order when they are made
    np.testing.assert_array_equal(trainer._arrange(frames), frames)
    made = WorldModel.from_pretrained(run.pretrain(settings, params, tmp_path / "run", ""))
    assert made.config.goal_conditioned
    assert "model/mse_shuffled_actions" in values(tmp_path / "run")[-1]


def test_a_run_goes_on_on_another_mesh(config, params, whole, tmp_path, monkeypatch):
    stopped_at(2, config, params, tmp_path / "moved", monkeypatch)
    settings = dataclasses.replace(config, mesh=MeshConfig(shard_parameters=True))
    run.pretrain(settings, params, tmp_path / "moved", "")
    assert values(tmp_path / "moved") == values(whole)


def test_a_cosine_takes_as_long_as_its_stage(config):
    scheduled = dataclasses.replace(config, transformer=Stage(70, 2, cosine=True), tokenizer=Stage(30, 2)).scheduled
    assert scheduled.transformer_optimizer.decay_steps == 70
    assert scheduled.tokenizer_optimizer.decay_steps is None


def command(monkeypatch, capsys, *typed) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["ivideogpt", *map(str, typed)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err


def test_commands_from_a_data_set_to_a_tuned_model(data, tmp_path, monkeypatch, capsys):
    on = ["--preset", "debug", "--validation-share", "0.4", "--data", data, "--run-dir"]
    tokenizer = tmp_path / "tokenizer"
    assert command(monkeypatch, capsys, "pretrain", "tokenizer", *on, tokenizer)[0] == 0
    again, said = command(monkeypatch, capsys, "pretrain", "tokenizer", *on, tokenizer)
    assert (again, "going on from update 4" in said) == (0, True)
    whole = tmp_path / "whole"
    typed = ["pretrain", "transformer", "--tokenizer", tokenizer / "model", *on, whole]
    assert command(monkeypatch, capsys, *typed)[0] == 0
    model = WorldModel.from_pretrained(whole / "model")
    assert same(model.params.tokenizer, WorldModel.from_pretrained(tokenizer / "model").params.tokenizer)
    assert model.config.tokenizer == WorldModel.from_pretrained(tokenizer / "model").config.tokenizer
    other = write_set(tmp_path / "other", action_size=6)
    tuned = ["finetune", whole, "--mode", "transformer", "--trajectories", 2, *on[:4], "--data", other]
    assert command(monkeypatch, capsys, *tuned, "--run-dir", tmp_path / "tuned")[0] == 0
    assert WorldModel.from_pretrained(tmp_path / "tuned" / "model").config.transformer.action_size == 6


def test_help_shows_options_and_settings(monkeypatch, capsys):
    for name in ("pretrain", "finetune"):
        monkeypatch.setattr(sys, "argv", ["ivideogpt", name, "--preset", "debug", "--help"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr().out
        assert ended.value.code == 0
        assert all(flag in said for flag in ("--mixture", "--world-model.transformer.layers", "--tokenizer.steps"))


def test_the_mixture_is_trained_on_at_its_weights_and_steps(tmp_path, monkeypatch, capsys):
    for name, size in (("bridge", 7), ("viola", 4)):
        write_set(tmp_path / "sets" / name, action_size=size, rewards=False)
    typed = ["pretrain", "tokenizer", "--preset", "debug", "--mixture", tmp_path / "sets", "--sets", "bridge", "viola"]
    assert command(monkeypatch, capsys, *typed, "--run-dir", tmp_path / "run", "--tokenizer.steps", 2)[0] == 0
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["config"]
    assert [(part["step"], round(part["weight"], 2)) for part in config["data"]] == [(2, 12.75), (7, 0.55)]
    assert (
        config["world_model"]["transformer"]["action_size"],
        config["world_model"]["transformer"]["reward_head"],
    ) == (7, False)


def test_what_does_not_fit_is_one_sentence(data, config, tmp_path, monkeypatch, capsys):
    on = ["--data", data, "--run-dir", tmp_path / "run", "--preset", "debug"]
    code, said = command(monkeypatch, capsys, "pretrain", "transformer", *on)
    assert code == 2 and "--tokenizer FOLDER" in said
    code, said = command(monkeypatch, capsys, "finetune", tmp_path / "nowhere", *on)
    assert code == 2 and "no such folder, no bundled checkpoint" in said
    code, said = command(monkeypatch, capsys, "pretrain", "tokenizer", *on[:-1], "debgu")
    assert code == 2 and "did you mean debug" in said
    code, said = command(monkeypatch, capsys, "pretrain", "tokenizer", "--data", tmp_path / "no set", *on[2:])
    assert code == 2 and "is no data set" in said
    code, said = command(monkeypatch, capsys, "pretrain", "tokenizer", *on, "--trajectories", 6)
    assert code == 2 and "the data has 4 to learn from" in said
    bad = {
        "silent": (4, False, "no rewards to learn"),
        "six": (6, True, "actions of 6 numbers"),
        "filmed": (0, True, "no actions"),
    }
    for name, (actions, rewards, sentence) in bad.items():
        folder = write_set(tmp_path / name, actions, rewards)
        with pytest.raises(UsageError, match=sentence):
            run.check_data(dataclasses.replace(config, data=(DatasetSpec(folder),)))


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(
    config, params, whole, tmp_path, monkeypatch, capsys
):
    """Fault 8: other weights were taken, and the run ended otherwise. Without any checkpoint it began at zero."""
    folder = tmp_path / "run"
    stopped_at(6, config, params, folder, monkeypatch)  # in the second stage; the checkpoint before is of the first
    checkpoints = folder / "checkpoints"
    steps = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
    assert len(steps) > 1
    largest = max((checkpoints / str(steps[-1]) / "state").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    run.pretrain(config, params, folder, "")
    said = capsys.readouterr().err
    assert f"checkpoint {steps[-1]} is damaged" in said
    assert f"going on from update {steps[-2]} of" in said
    assert values(folder) == values(whole)
    assert same(WorldModel.from_pretrained(folder / "model").params, WorldModel.from_pretrained(whole / "model").params)
    for path in checkpoints.iterdir():
        shutil.rmtree(path)
    with pytest.raises(CheckpointError, match="--restart"):
        run.pretrain(config, params, folder, "")
    assert values(folder) == values(whole)
    run.pretrain(config, params, folder, "", restart=True)
    assert values(folder) == values(whole)
