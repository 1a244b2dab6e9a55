"""A sweep's file is checked whole before anything starts."""

import collections
import pathlib

import pytest
import yaml
from sweeping import RAW

from experiments.errors import UsageError
from experiments.runs import run_folder
from experiments.sweeps import config, targets
from experiments.training import command

EXAMPLE = pathlib.Path(targets.__file__).with_name("example.yaml")
COMPARISONS = [EXAMPLE.with_name("imagination.yaml"), EXAMPLE.with_name("imagination_cloning.yaml")]
ABLATIONS = [EXAMPLE.with_name("ablation_simulator.yaml"), EXAMPLE.with_name("ablation_learned.yaml")]


def changed(**changes):
    return RAW | {name.replace("_", "-"): value for name, value in changes.items()}


PRETRAIN = {
    "command": "pretrain",
    "preset": "debug",
    "fixed": {"part": "tokenizer", "data": ["data/mine"]},
    "space": {"world-model.tokenizer.dropout": {"uniform": [0, 0.5]}},
    "search": {"kind": "random", "samples": 2},
    "metric": {"name": "validation/tokenizer/future_mse", "mode": "min"},
}


TAU = {"drqv2.tau": {"grid": [0.01, 0.1]}}
POPULATION = changed(population={"interval": 50}, seeds=[0], space=TAU)


@pytest.mark.parametrize(
    "raw",
    [RAW, POPULATION, PRETRAIN, *(yaml.safe_load(path.read_text()) for path in (EXAMPLE, *COMPARISONS, *ABLATIONS))],
    ids=("train", "population", "pretrain", "example", "imagination", "cloning", "simulator", "learned"),
)
def test_a_sweep_that_can_run_passes(raw):
    assert targets.check(config.parse(raw, "test.yaml")) > 0


def settings_of(path):
    """Those of each trial with the first seed, by their dotted names."""
    sweep = config.load(path)
    trials = (targets.words(sweep, point, sweep.seeds[0])[1:] for point in targets.points_of(sweep))
    return [run_folder.flat(command.parse(words).experiment.record()) for words in trials]


@pytest.mark.parametrize(("path", "imagination"), list(zip(ABLATIONS, ("simulator", "learned"), strict=True)))
def test_an_ablation_begins_with_a_run_of_the_comparison_and_learns_as_often_throughout(path, imagination):
    (compared,) = (
        settings
        for settings in settings_of(COMPARISONS[0])
        if settings["task"] == "door-open" and settings.get("mbpo.model.imagination") == imagination
    )
    begin, *others = settings_of(path)
    shorter_or_from_elsewhere = {name: compared[name] for name in ("schedule.agent_steps", "pretrained")}
    assert begin | shorter_or_from_elsewhere == compared
    updates = {each["mbpo.agent.initial_updates"] + each["mbpo.model.imagined_updates"] for each in (begin, *others)}
    assert updates == {1800} and len(others) >= 3
    per_rollout = {
        each["mbpo.agent.updates_per_agent_step"] * each["mbpo.model.rollout_every_env_steps"]
        for each in (begin, *others)
    }
    assert per_rollout == {8 * 20}


@pytest.mark.parametrize("path", COMPARISONS)
def test_who_imagines_in_a_comparison_learns_as_often_and_with_the_same_settings_as_who_does_not(path):
    by_task = collections.defaultdict(list)
    for settings in settings_of(path):
        by_task[settings["task"]].append(settings)
    assert len(by_task) >= 2
    for found in by_task.values():
        assert [each["algorithm"] for each in found] == ["drqv2", "mbpo", "mbpo", "mbpo", "dreamerv3"]
        assert {each.get("mbpo.model.imagination") for each in found} == {None, "learned", "simulator", "copy-last"}
        learners = []
        for each, prefix in zip(found[:4], ("drqv2.", *["mbpo.agent."] * 3), strict=True):
            learner = {name.removeprefix(prefix): value for name, value in each.items() if name.startswith(prefix)}
            learner["initial_updates"] += each.get("mbpo.model.imagined_updates", 0)
            learners.append(learner)
        assert all(learner == learners[0] for learner in learners)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (changed(seed=3), "the file has no 'seed': did you mean seeds"),
        (changed(command="play"), "command is 'play', expected one of train, pretrain, finetune"),
        (changed(metric={"name": "eval/return"}), "metric says no mode"),
        (changed(metric={"name": "eval/return", "mode": "highest"}), "mode is 'highest'"),
        (changed(metric={"name": "eval/retrun", "mode": "max"}), "'eval/retrun': did you mean eval/return"),
        (changed(metric={"name": "model/mse_imagined", "mode": "min"}), "no such run writes the metric"),
        (changed(metric={"name": "eval/return", "mode": "max", "at": 300}), "at is 300, but a run ends at 200"),
        (changed(fixed={"algorithm": "drqv2", "drqv2.batchsize": 8}), "'drqv2.batchsize': did you mean drqv2.batch"),
        (changed(fixed={"algorithm": "drqv"}), "unknown algorithm 'drqv': did you mean drqv2"),
        (changed(fixed={"algorithm": "drqv2", "mbpo": {"model": {"horizon": 3}}}), "no setting 'mbpo.model.horizon'"),
        (changed(fixed={"algorithm": "drqv2", "seed": 3}), "seed is no setting of a sweep: list seeds beside"),
        (changed(fixed={"algorithm": "drqv2", "drqv2.batch": 8}), "both fixed and in the space"),
        (changed(space={"drqv2.batch": {"grid": [8, 0]}}), "batch is 0, expected at least 1"),
        (changed(space={"drqv2.batch": {"grid": [8, "many"]}}), "many"),
        (changed(preset="debugg"), "unknown preset 'debugg': did you mean debug"),
        (changed(search={"kind": "random"}), "samples says how many"),
        (changed(search={"kind": "ablation"}, early_stopping={"grace": 100, "reduction": 3}), "compares whole runs"),
        (changed(search={"kind": "optuna", "samples": 4}), "sampler names one of Optuna's"),
        (changed(search={"kind": "optuna", "samples": 4, "sampler": "tpe"}), "write choice instead of grid"),
        (changed(seeds=[0, 0]), "one is there twice"),
        (changed(seeds=3), "expected whole numbers"),
        (changed(at_once="two"), "at-once is 'two', expected a whole number"),
        (changed(population={"interval": 50}), "share one seed"),
        (changed(population={"interval": 50}, seeds=[0]), "drqv2.batch: a run cannot go on with another value of it"),
        (changed(population={"interval": 50, "quantile": 0.7}, seeds=[0]), "quantile is 0.7"),
        (changed(population={"interval": 500}, seeds=[0], space=TAU), "interval is 500, but a run ends at 200"),
        (changed(population={"interval": 50}, seeds=[0], space={"drqv2.tau": 0.1}), "at least two trials"),
        (PRETRAIN | {"population": {"interval": 50}}, "only runs of train go on with other settings"),
        (changed(early_stopping={"grace": 500}), "grace is 500, but a run ends at 200"),
        (changed(resources={"gpu": 1}), "resources has no 'gpu': did you mean gpus"),
        (PRETRAIN | {"fixed": {"data": ["data/mine"]}}, "pretrain needs a part"),
        (PRETRAIN | {"metric": {"name": "validation/transformer/loss", "mode": "min"}}, "no such run writes"),
        ("a line", "the file is 'a line'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_that_says_where(raw, said):
    with pytest.raises(UsageError) as refused:
        targets.check(config.parse(raw, "test.yaml"))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_command_checks_first_and_starts_nothing(tmp_path, ivideogpt):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(changed(space={"drqv2.batch": {"grid": [8, 0]}})))
    said = ivideogpt("sweep", file, "--sweep-dir", tmp_path / "out", "--backend", "local")
    assert said.code == 2 and "batch is 0" in said.sentence
    assert not (tmp_path / "out").exists()
    assert "is not there" in ivideogpt("sweep", tmp_path / "other.yaml").sentence


def test_a_dry_run_says_the_commands(tmp_path, ivideogpt):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(RAW))
    said = ivideogpt("sweep", file, "--dry-run")
    assert said.out.splitlines() == [
        f"ivideogpt train --preset debug --algorithm drqv2 --drqv2.batch {batch} --seed {seed}"
        for batch in (8, 16)
        for seed in (0, 1)
    ]


def test_values_are_typed_as_the_parser_takes_them():
    fixed = {"algorithm": "mbpo", "mbpo.world-model.transformer.place-embedding": False, "render-quality": "full"}
    sweep = config.parse(changed(fixed=fixed, space={}), "test.yaml")
    words = targets.words(sweep, {"mbpo.agent.network.channels": 8}, 3)
    assert "--mbpo.world-model.transformer.no-place-embedding" in words
    asked = targets.describe("train", words[1:])
    assert asked.length == 200
