"""What was asked for becomes what runs: by the simulator, by a pre-trained model, and by what was typed beside it."""

import dataclasses
import pathlib

import jax
import numpy as np
import pytest
from safe_points import Dot

from agent.dreamerv3 import DreamerConfig
from agent.loop import Inputs
from agent.mbpo import MBPO
from experiments.errors import UsageError
from experiments.training import presets
from experiments.training.command import parse
from experiments.training.config import Experiment
from experiments.training.resolve import SimulatorFacts, resolve
from experiments.training.start import starting_params
from experiments.weights.bundled import load_model
from world_model import WorldModel, pretrained

DEBUG = presets.get("debug")
FACTS = SimulatorFacts(action_size=4, resolution=64, demonstrated=True)
TRANSFORMER = "mbpo.world_model.transformer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of other sizes than the preset's, without actions and rewards, as published ones are."""
    config = DEBUG.algorithm.world_model
    plain = dataclasses.replace(
        config.transformer, action_size=0, reward_head=False, layers=config.transformer.layers + 1
    )
    path = tmp_path_factory.mktemp("model") / "model"
    WorldModel.init(dataclasses.replace(config, transformer=plain), jax.random.key(3)).save(path)
    return path


@pytest.fixture
def named(folder):
    return dataclasses.replace(DEBUG, pretrained=str(folder))


def with_transformer(experiment: Experiment, **changes) -> Experiment:
    world_model = experiment.algorithm.world_model
    transformer = dataclasses.replace(world_model.transformer, **changes)
    world_model = dataclasses.replace(world_model, transformer=transformer)
    return dataclasses.replace(experiment, algorithm=dataclasses.replace(experiment.algorithm, world_model=world_model))


def test_networks_take_the_action_size_and_the_resolution_of_the_simulator():
    facts = SimulatorFacts(action_size=6, resolution=32, demonstrated=False)
    dreamer = resolve(Experiment("here", DreamerConfig()), facts)
    assert dreamer.algorithm.model.action_size == 6
    assert dreamer.demonstrations == 0
    mbpo = resolve(DEBUG, facts).algorithm
    assert mbpo.agent.action_size == mbpo.world_model.transformer.action_size == 6
    assert mbpo.agent.resolution == 32


def test_what_is_resolved_stays_as_it_is():
    once = resolve(DEBUG, FACTS)
    assert resolve(once, FACTS) == once


def test_a_run_has_the_models_sizes_and_starts_from_its_weights(named, folder):
    given = WorldModel.from_pretrained(folder)
    experiment = resolve(named, FACTS, given.config)
    wanted = experiment.algorithm.world_model
    assert wanted.transformer.layers == DEBUG.algorithm.world_model.transformer.layers + 1
    assert (wanted.transformer.action_size, wanted.transformer.reward_head) == (4, True)
    params = starting_params(given, wanted)
    run = MBPO(experiment.algorithm, experiment.schedule, Inputs(Dot(), [], 0, pretrained=params))
    jax.tree.map(np.testing.assert_array_equal, run.model.params, params)
    jax.tree.map(np.testing.assert_array_equal, run.model.params.tokenizer, given.params.tokenizer)
    layers = dict(run.model.params.transformer)
    for name, layer in dict(given.params.transformer).items():
        jax.tree.map(np.testing.assert_array_equal, layers.pop(name), layer)
    assert set(layers) == {"action", "reward"}
    assert not any(np.asarray(x).any() for name in layers for x in jax.tree.leaves(layers[name]))


def test_settings_that_were_typed_stand_beside_the_models_own(named, folder):
    """Fault 2: compute dtype, dropout and the like were dropped without a word."""
    model = WorldModel.from_pretrained(folder).config
    asked = with_transformer(named, dropout=0.25, recompute=True, compute_dtype="bfloat16")
    typed = {f"{TRANSFORMER}.dropout", f"{TRANSFORMER}.compute_dtype"}
    found = resolve(asked, FACTS, model, typed).algorithm.world_model.transformer
    assert (found.dropout, found.compute_dtype, found.recompute) == (0.25, "bfloat16", False)
    assert found.layers == model.transformer.layers


def test_a_typed_setting_that_contradicts_the_weights_or_the_simulator_is_refused_by_name(named, folder):
    model = WorldModel.from_pretrained(folder).config
    with pytest.raises(
        UsageError, match=rf"{folder}: these weights are of another transformer: leave layers as the model"
    ):
        resolve(with_transformer(named, layers=5), FACTS, model, {f"{TRANSFORMER}.layers"})
    with pytest.raises(
        UsageError, match=r"--mbpo\.world-model\.transformer\.action-size is 7, but handle-press has 4: leave"
    ):
        resolve(with_transformer(DEBUG, action_size=7), FACTS, None, {f"{TRANSFORMER}.action_size"})


def test_what_does_not_fit_is_one_sentence(named, folder, tmp_path):
    model = WorldModel.from_pretrained(folder).config
    drqv2 = dataclasses.replace(presets.get("debug", "drqv2"), pretrained=str(folder))
    with pytest.raises(UsageError, match="is for --algorithm mbpo, drqv2 has no such world model"):
        resolve(drqv2, FACTS, model)
    with pytest.raises(UsageError, match="no such file"):
        load_model(str(tmp_path))
    with pytest.raises(UsageError, match="no bundled checkpoint"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="predicts from a goal"):
        resolve(named, FACTS, dataclasses.replace(model, goal_conditioned=True))


def test_an_offline_run_needs_something_to_learn_from():
    schedule = dataclasses.replace(DEBUG.schedule, agent_steps=0, evaluate_first_policy=True)
    offline = dataclasses.replace(DEBUG, schedule=schedule)
    assert resolve(offline, FACTS).schedule == schedule
    with pytest.raises(UsageError, match="there is nothing to learn from: record episodes"):
        resolve(offline, dataclasses.replace(FACTS, demonstrated=False))


def test_a_run_stands_for_its_model_once_it_is_finished(folder, tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UsageError, match="has no model yet: a run has one once it is finished"):
        load_model(str(tmp_path))
    (tmp_path / "model").symlink_to(folder)
    assert load_model(str(tmp_path)).config == load_model(str(folder)).config
    with pytest.raises(UsageError, match="those are laptop-metaworld"):
        load_model("laptop")


def test_the_bundled_checkpoint_is_small_fits_the_demo_and_is_found_by_its_name():
    demo = presets.get("demo")
    model = load_model(demo.pretrained)
    found = resolve(demo, FACTS, model.config).algorithm.world_model
    assert (found.tokenizer, found.transformer) == (model.config.tokenizer, model.config.transformer)
    assert found.of_decoding == model.config.of_decoding
    assert found.transformer_optimizer == demo.algorithm.world_model.transformer_optimizer
    folder = pretrained.find(demo.pretrained)
    assert isinstance(folder, pathlib.Path)
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 20_000_000
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(starting_params(model, found)))


@pytest.mark.parametrize("preset", ["demo", "laptop-imagination"])
@pytest.mark.parametrize("algorithm", ["drqv2", "dreamerv3"])
def test_another_algorithm_of_a_preset_does_not_start_from_its_world_model(preset, algorithm):
    assert parse(["--preset", preset]).experiment.pretrained == "laptop-metaworld"
    asked = parse(["--preset", preset, "--algorithm", algorithm]).experiment
    assert asked.pretrained is None
    resolve(asked, FACTS)


def test_with_and_without_imagination_a_preset_learns_as_often_before_the_first_step():
    imagining, alone = (presets.get("laptop-imagination", name) for name in ("mbpo", "drqv2"))
    agent, imagined = imagining.algorithm.agent, imagining.algorithm.model.imagined_updates
    assert imagined > 0
    assert alone.algorithm == dataclasses.replace(agent, initial_updates=agent.initial_updates + imagined)


@pytest.mark.parametrize("name", ["drqv2.batch", "learning-rate", "drqv2.learning-rat"])
def test_a_run_goes_on_with_another_value_of_rates_and_weights_alone(name, ivideogpt):
    typed = ["--preset", "debug", "--algorithm", "drqv2", "--run-dir", "unused", "--change", name]
    assert (
        f"--change {name}: a run goes on with another value of its learning_rate" in ivideogpt("train", *typed).sentence
    )
