"""A run that starts from a world model of somebody else's."""

import dataclasses

import jax
import numpy as np
import pytest
from borders import Dot

from agent.mbpo import MBPO
from experiments import presets
from experiments.config import checked
from experiments.errors import UsageError
from experiments.pretrained import located, read_model, start_from_pretrained
from world_model import WorldModel

DEBUG = presets.get("debug")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of other sizes than the preset's, without actions and rewards, as published ones are."""
    config = DEBUG.mbpo.world_model
    plain = dataclasses.replace(
        config.transformer, action_size=0, reward_head=False, layers=config.transformer.layers + 1
    )
    place = tmp_path_factory.mktemp("model") / "model"
    WorldModel.init(dataclasses.replace(config, transformer=plain), jax.random.key(3)).save(place)
    return place


def test_a_run_has_the_models_sizes_and_starts_from_its_weights(folder):
    experiment, params = start_from_pretrained(dataclasses.replace(DEBUG, pretrained=str(folder)))
    transformer = experiment.mbpo.world_model.transformer
    assert transformer.layers == DEBUG.mbpo.world_model.transformer.layers + 1
    assert (transformer.action_size, transformer.reward_head) == (4, True)
    run = MBPO(experiment.mbpo, Dot(), [], [], 0, pretrained=params)
    jax.tree.map(np.testing.assert_array_equal, run.model.params, params)
    given = WorldModel.from_pretrained(folder)
    jax.tree.map(np.testing.assert_array_equal, run.model.params.tokenizer, given.params.tokenizer)
    layers = dict(run.model.params.transformer)
    for name, layer in dict(given.params.transformer).items():
        jax.tree.map(np.testing.assert_array_equal, layers.pop(name), layer)
    assert set(layers) == {"action", "reward"}
    assert not any(np.asarray(x).any() for name in layers for x in jax.tree.leaves(layers[name]))


def test_without_a_folder_nothing_changes():
    assert start_from_pretrained(DEBUG) == (DEBUG, None)


def test_what_does_not_fit_is_one_sentence(folder, tmp_path):
    named = dataclasses.replace(DEBUG, pretrained=str(folder))
    with pytest.raises(UsageError, match="is for --algorithm mbpo"):
        start_from_pretrained(checked(dataclasses.replace(named, algorithm="drqv2")))
    with pytest.raises(UsageError, match="no such file"):
        start_from_pretrained(dataclasses.replace(DEBUG, pretrained=str(tmp_path)))
    with pytest.raises(UsageError, match="nor a kept model"):
        start_from_pretrained(dataclasses.replace(DEBUG, pretrained=str(tmp_path / "nowhere")))
    far = dataclasses.replace(named.mbpo, model=dataclasses.replace(named.mbpo.model, horizon=1000))
    with pytest.raises(UsageError, match=str(folder)):
        start_from_pretrained(dataclasses.replace(named, mbpo=far))


def test_a_run_stands_for_its_model_once_it_is_finished(folder, tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UsageError, match="has no model yet: a run has one once it is finished"):
        read_model(str(tmp_path))
    (tmp_path / "model").symlink_to(folder)
    assert read_model(str(tmp_path)).config == read_model(str(folder)).config
    with pytest.raises(UsageError, match="those are laptop-metaworld"):
        read_model("laptop")


def test_the_kept_model_is_small_fits_the_demo_and_is_found_by_its_name():
    demo = presets.get("demo")
    experiment, params = start_from_pretrained(demo)
    preset = demo.mbpo.world_model
    tokenizer = dataclasses.replace(preset.tokenizer, still_weight=0.01)  # all that differs: what it was trained with at last
    assert experiment.mbpo.world_model == dataclasses.replace(preset, tokenizer=tokenizer)
    folder = located(demo.pretrained)
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 10_000_000
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(params))
