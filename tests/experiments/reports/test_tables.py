"""Tables of runs: their columns say what a run was, as its settings were parsed and never as they were typed."""

import csv
import io
import json

import pytest
import yaml
from noise_data import write_set

from agent.events import Clock
from experiments import cli
from experiments.envs import rendering
from experiments.envs.registry import suite_of
from experiments.errors import UsageError
from experiments.reports import protocols, tables
from experiments.runs.metrics_log import Metrics
from experiments.runs.run_folder import RunFolder, RunFolderError
from experiments.training import presets

TRAINING = {"data": [{"folder": "data/reach"}], "source": "model", "preset": "debug", "seed": 0, "trajectories": 5}


@pytest.fixture
def train_settings(monkeypatch):
    """What `ivideogpt train` with these words hands to the run as its settings."""
    given = []
    monkeypatch.setattr(rendering, "choose_backend", lambda: None)
    monkeypatch.setattr(
        "experiments.training.run.train", lambda *arguments, restart, change: given.append(arguments[-1])
    )

    def settings(*words):
        assert cli.run(["train", "--preset", "debug", *words]) == 0
        return given.pop()

    return settings


def test_a_training_run_is_told_the_settings_that_were_typed_under_their_own_names(train_settings):
    assert train_settings("--task", "reach", "--seed", "3", "--run-dir", "runs/x") == {}
    assert train_settings("--schedule.agent-steps", "50", "--schedule.evaluation-episodes=2") == {}
    assert train_settings("--pretrained", "laptop-metaworld", "--from-scratch", "--algorithm", "mbpo") == {}
    typed = ("--mbpo.model.horizon=3", "--schedule.random_agent_steps", "50", "--mbpo.agent.learning-rate", "1e-3")
    assert train_settings(*typed, "--demonstrations", "2") == {
        "demonstrations": 2,
        "mbpo.agent.learning_rate": 0.001,
        "mbpo.model.horizon": 3,
        "schedule.random_agent_steps": 50,
    }
    assert train_settings("--algorithm", "drqv2", "--drqv2.network.no-critic-layer-norm") == {
        "drqv2.network.critic_layer_norm": False
    }
    assert train_settings("--demonstrations-dir", "own") == {"demonstrations_dir": "own"}


def test_a_fine_tuning_run_is_told_its_settings_and_what_it_is(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr("experiments.pretraining.command.run", lambda *arguments, restart: given.append(arguments))
    words = ["--data", str(write_set(tmp_path / "set")), "--preset", "debug", "--run-dir", str(tmp_path / "run")]
    words += ["--seed", "1", "--trajectories", "2", "--transformer.steps", "3", "--transformer.batch", "5"]
    assert cli.run(["pretrain", "tokenizer", *words, "--no-augmentation"]) == 0
    assert cli.run(["finetune", "laptop-metaworld", "--mode", "transformer", *words]) == 0
    (new, *_, of_new), (tuned, *_, of_tuned) = given
    assert of_new == {"augmentation": False, "transformer.batch": 5}
    assert of_tuned == {"transformer.batch": 5}
    assert (new.kind, tuned.kind) == ("pretrain", "finetune")


def write_run(folder, config, settings=(), command="", lines=({"eval/success": 1.0, "eval/return": 5.0},)):
    run = RunFolder(folder)
    with run.claim(config, command, settings=dict(settings)), Metrics(run.metrics) as metrics:
        for line in lines:
            metrics.write(Clock(), {"eval/episodes": 20} | line)
    return run


def write_training(folder, kind="finetune", tokenizer=0, transformer=0, **changes):
    config = (
        TRAINING | {"kind": kind, "tokenizer": {"steps": tokenizer}, "transformer": {"steps": transformer}} | changes
    )
    evaluated = {"updates": 5, "validation/tokenizer/future_mse": 0.1}
    return write_run(folder, config, {"transformer.batch": 5}, lines=[evaluated | {"model/mse_imagined": 0.2}])


def test_the_columns_say_what_an_agents_run_was_and_the_command_comes_last(tmp_path):
    settings = {
        "mbpo.model.horizon": 3,
        "mbpo.world_model.tokenizer.fsq_levels": (8, 5),
        "demonstrations_dir": "my own",
    }
    experiment = presets.get("demo")
    first = write_run(tmp_path / "a", experiment.record(), settings, "as it was typed\n--seed 'no")
    other = write_run(tmp_path / "b", presets.get("debug", "drqv2").record())
    text = tables.as_csv([first, other])
    head = text.partition("\n")[0].split(",")
    assert head[:7] == ["kind", "task", "algorithm", "preset", "seed", "pretrained", "settings"]
    assert head[-2:] == ["command", "commit"]
    mine, theirs = csv.DictReader(io.StringIO(text, newline=""))
    assert (mine["kind"], mine["algorithm"], mine["preset"], mine["seed"]) == ("agent", "mbpo", "demo", "0")
    assert (mine["pretrained"], theirs["pretrained"], theirs["algorithm"]) == ("laptop-metaworld", "", "drqv2")
    assert mine["settings"].split(" ") == [
        "demonstrations_dir=my%20own", "mbpo.model.horizon=3", "mbpo.world_model.tokenizer.fsq_levels=[8,5]",
    ]  # fmt: skip
    assert theirs["settings"] == "" and mine["command"] == "as it was typed\n--seed 'no"


@pytest.mark.parametrize(
    ("beginning", "run"),
    [
        ("from scratch", {"kind": "pretrain", "source": None, "tokenizer": 4}),
        ("from scratch", {"kind": "pretrain", "source": "runs/tokenizer", "transformer": 4}),
        ("zero-shot", {}),
        ("tokenizer", {"tokenizer": 4}),
        ("transformer", {"transformer": 4}),
        ("full", {"tokenizer": 4, "transformer": 4}),
    ],
)
def test_a_beginning_is_what_was_there_and_which_part_learned(tmp_path, beginning, run):
    (row,) = tables.rows(write_training(tmp_path, **run))
    assert beginning in tables.BEGINNINGS and row["beginning"] == beginning
    assert tuple(row)[: len(tables.TRAINING)] == tables.TRAINING and tuple(row)[-2:] == ("command", "commit")
    assert (row["kind"], row["data"], row["settings"]) == (run.get("kind", "finetune"), "reach", "transformer.batch=5")


def test_agents_and_models_have_a_table_each(tmp_path):
    agent = write_run(tmp_path / "a", presets.get("debug").record())
    with pytest.raises(UsageError, match="make a --csv of each"):
        tables.as_csv([agent, write_training(tmp_path / "b")])


def test_a_damaged_run_is_refused_in_a_sentence_that_names_the_file(tmp_path):
    lacking = presets.get("debug").record()
    del lacking["seed"]
    with pytest.raises(RunFolderError, match=r"config\.yaml is damaged: it has no seed"):
        tables.rows(write_run(tmp_path / "a", lacking))
    run = write_training(tmp_path / "b", transformer=1)
    (run.path / "evaluation").mkdir()
    odd = {"protocol": {"samples": 1}, "metrics": {"mse": {"best_of_1": ["x"]}}}
    texts = ("{", "[]", json.dumps({"protocol": {}}), json.dumps({"protocol": {"samples": 1}, "metrics": 3}))
    for text in (*texts, json.dumps(odd), "[" * 10**5, "\x00\xff"):  # the last three: fault 14
        (run.path / "evaluation" / "evaluation.json").write_text(text)
        with pytest.raises(RunFolderError, match=r"evaluation\.json is damaged: 'ivideogpt evaluate"):
            tables.rows(run)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda record: record["sessions"][0].pop("commit"), "a session has version, command, started and commit"),
        (lambda record: record["sessions"].append(None), "a session has version"),
        (lambda record: record["sessions"][0].update(started=3), "a session has version"),
        (lambda record: record["config"].update(data="reach"), "string indices must be integers"),
        (lambda record: record["config"].update(data=[{"folder": None}]), "not NoneType"),
        (
            lambda record: record["config"]["tokenizer"].update(steps="text"),
            "tokenizer.steps is 'text', no whole number",
        ),
    ],
)
def test_a_configuration_of_other_kinds_of_values_is_refused_by_tables_and_pages(tmp_path, ivideogpt, change, fault):
    run = write_training(tmp_path / "run")
    record = run.read()
    change(record)
    run.config.write_text(yaml.safe_dump(record))
    for words in ((), ("--csv", tmp_path / "table.csv")):
        said = ivideogpt("report", run.path, *words).sentence
        assert said.startswith(f"ivideogpt: {run.config} is damaged: ") and fault in said


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"eval/success": 0.5, "eval/episodes": 20}, "it has eval/success and no eval/return"),
        ({"eval/success": None, "eval/return": 1.0}, "eval/success is nan, no number"),
        ({"agent/critic_loss": "text"}, "agent/critic_loss is 'text', no number"),
        ({"agent/critic_loss": 10**400}, "agent/critic_loss is 1000"),
        ({"outlier/value": {"a": 1}}, "outlier/value is {'a': 1}, no number"),
        ({"model/mse_copy_last": 0.1}, "it has model/mse_copy_last and no model/mse_imagined"),
        ({"model/mse_imagined_by_horizon": 0.1}, "model/mse_imagined_by_horizon is 0.1, no list of numbers"),
        ({"model/mse_imagined_by_horizon": [0.1, []]}, "no list of numbers"),
        ({"state_fingerprint": 3}, "state_fingerprint is 3, no text"),
    ],
)
def test_a_line_that_cannot_be_drawn_is_named_by_tables_and_pages(tmp_path, ivideogpt, line, fault):
    run = write_run(tmp_path / "run", presets.get("debug").record())
    stamps = {"agent_steps": 1, "env_steps": 2, "wall_seconds": 3.0}
    with open(run.metrics, "a") as file:
        file.write(json.dumps(stamps | line) + "\n")
    for words in ((), ("--csv", tmp_path / "table.csv")):
        said = ivideogpt("report", run.path, *words).sentence
        assert f"{run.metrics}, line 2 is damaged (" in said and fault in said


def test_an_evaluation_of_a_model_says_after_how_many_updates(tmp_path, ivideogpt):
    run = write_run(
        tmp_path / "run",
        TRAINING | {"kind": "finetune", "tokenizer": {"steps": 1}, "transformer": {"steps": 1}},
        lines=[{"validation/tokenizer/future_mse": 0.1}],
    )
    assert "line 1 is damaged (it has no updates)" in ivideogpt("report", run.path).sentence


def test_a_run_of_an_earlier_version_has_no_table_and_no_page(tmp_path, capsys):
    old = write_run(tmp_path, presets.get("debug").record())
    old.config.write_text(old.config.read_text().replace("schedule:", "earlier:"))
    assert (
        cli.run(["report", str(tmp_path)]) == cli.run(["report", str(tmp_path), "--csv", str(tmp_path / "t.csv")]) == 2
    )
    (one, other) = capsys.readouterr().err.splitlines()
    assert (
        one == other == f"ivideogpt: {tmp_path} was written by an earlier version: start again with another --run-dir"
    )


def test_what_a_table_says_of_a_protocol_is_read_back_as_it_was():
    said = dict(suite_of("reach").protocol) | {"camera": "corner, flipped"}
    assert protocols.read(tables.as_words(said)) == said
