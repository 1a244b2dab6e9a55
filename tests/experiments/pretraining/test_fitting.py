"""What a preset becomes for a model that is there and for the data that it learns from."""

import dataclasses

import jax
import pytest
from noise_data import write_set

import world_model
from experiments.data.loader import DatasetSpec
from experiments.errors import UsageError
from experiments.pretraining import presets
from experiments.pretraining.fitting import for_data, of_model

DEBUG = presets.get("debug").world_model


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Data of several kinds, by name."""
    root = tmp_path_factory.mktemp("sets")
    kinds = {"four": (4, True), "six": (6, True), "silent": (4, False), "filmed": (0, False)}
    return {name: DatasetSpec(write_set(root / name, *kind, recordings=2)) for name, kind in kinds.items()}


@pytest.mark.parametrize("name", [name for name in presets.names() if "laptop" not in name and name != "debug"])
def test_a_preset_of_the_paper_reaches_the_model_and_leaves_its_architecture(name):
    preset = presets.get(name)
    with_lpips = dataclasses.replace(DEBUG.tokenizer, perceptual_weight=1.0)  # which an adversary is weighed against
    model = dataclasses.replace(DEBUG, tokenizer=with_lpips)
    found, wanted = of_model(preset, model).world_model, preset.world_model
    assert found.tokenizer.context_frames == wanted.tokenizer.context_frames
    assert (found.tokenizer.compute_dtype, found.transformer.compute_dtype) == ("bfloat16", "bfloat16")
    assert found.tokenizer.adversarial_weight == wanted.tokenizer.adversarial_weight
    assert found.segment_frames == wanted.segment_frames
    assert found.transformer_optimizer == wanted.transformer_optimizer
    for part, names in {
        "tokenizer": ("channels", "context_codes", "l1_weight"),
        "transformer": ("layers", "width"),
    }.items():
        assert all(getattr(getattr(found, part), name) == getattr(getattr(DEBUG, part), name) for name in names)


def test_only_pre_training_at_256_pixels_has_an_adversary_as_the_published_scripts_do():
    weights = {name: presets.get(name).world_model.tokenizer for name in presets.names()}
    assert [name for name, tokenizer in weights.items() if tokenizer.adversarial_weight] == ["paper-256"]
    assert weights["paper-256"].adversarial_start_step == 125_000  # 250000 turns


def test_a_goal_preset_makes_a_model_of_frames_one_with_a_goal():
    assert of_model(presets.get("goal-cond-64"), DEBUG).world_model.goal_conditioned


@pytest.mark.parametrize(
    ("names", "action_size", "reward_head"),
    [
        (["four"], 4, True),
        (["six"], 6, True),
        (["four", "six"], 6, True),
        (["silent"], 4, False),
        (["filmed"], 0, False),
    ],
)
def test_actions_and_rewards_are_those_of_the_data(sets, names, action_size, reward_head, capsys):
    found = for_data(presets.get("debug"), [sets[name] for name in names], None).world_model.transformer
    assert (found.action_size, found.reward_head) == (action_size, reward_head)
    said = capsys.readouterr().out
    assert ("no rewards" in said) == (not reward_head)
    assert ("actions" in said) == (action_size != 4)


def test_a_model_keeps_its_actions_and_an_action_free_preset_takes_none(sets):
    six = dataclasses.replace(DEBUG, transformer=dataclasses.replace(DEBUG.transformer, action_size=6))
    kept = for_data(of_model(presets.get("debug"), six), [sets["four"]], six)
    assert kept.world_model.transformer.action_size == 6
    assert for_data(presets.get("paper-64"), [sets["four"]], None).world_model.transformer.action_size == 0


def test_small_pictures_are_enlarged_and_the_command_says_so(sets, capsys):
    for_data(presets.get("paper-64"), [sets["four"]], None)
    assert "enlarged" not in capsys.readouterr().out
    for_data(presets.get("paper-256"), [sets["four"]], None)
    assert "holds pictures of 64x64 pixels, which are enlarged to 256" in capsys.readouterr().out


def test_a_goal_stays_with_the_model():
    goal = dataclasses.replace(DEBUG, goal_conditioned=True)
    assert of_model(presets.get("debug"), goal).world_model.goal_conditioned
    with pytest.raises(UsageError, match="a goal-conditioned model's context"):
        of_model(presets.get("bair-64"), goal)


def test_weights_fit_other_context_frames_and_data_without_rewards_and_no_other_architecture():
    params = world_model.init(DEBUG, jax.random.key(0)).params
    transformer = dataclasses.replace(DEBUG.transformer, action_size=6, reward_head=False)
    tokenizer = dataclasses.replace(DEBUG.tokenizer, context_frames=1, compute_dtype="bfloat16")
    wanted = dataclasses.replace(DEBUG, tokenizer=tokenizer, transformer=transformer)
    fitted = world_model.fit_params(DEBUG, params, wanted)
    expected = jax.eval_shape(lambda key: world_model.init(wanted, key).params, jax.random.key(0))
    assert jax.tree.map(lambda leaf: leaf.shape, fitted) == jax.tree.map(lambda leaf: leaf.shape, expected)
    with pytest.raises(ValueError, match="another transformer: leave layers as the model has them"):
        wider = dataclasses.replace(DEBUG.transformer, layers=2)
        world_model.fit_params(DEBUG, params, dataclasses.replace(DEBUG, transformer=wider))
    with pytest.raises(ValueError, match="its action size can grow, not become 2"):
        smaller = dataclasses.replace(DEBUG.transformer, action_size=2)
        world_model.fit_params(DEBUG, params, dataclasses.replace(DEBUG, transformer=smaller))


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["--tokenizer.steps", "-5"], "steps is -5, expected at least 0"),
        (["--tokenizer.batch", "0"], "batch is 0, expected at least 1"),
    ],
)
def test_pretrain_says_in_one_sentence_what_it_cannot_use(ivideogpt, data, tmp_path, typed, sentence):
    """Faults 12 and 14: the first ended as a success, with a model that nobody had trained."""
    said = ivideogpt(
        "pretrain", "tokenizer", "--preset", "debug", "--data", data, "--run-dir", tmp_path / "run", *typed
    )
    assert (said.code, said.sentence) == (2, f"ivideogpt: {sentence}")
    assert not (tmp_path / "run").exists()


def test_a_model_keeps_its_decoding_whatever_the_preset_was_made_for():
    found = of_model(presets.get("laptop-frames"), DEBUG).world_model
    assert (found.transformer.decoding, found.frame_sample) == ("tokens", None)
    frames = presets.get("laptop-frames").world_model
    found = of_model(presets.get("laptop-finetune"), frames).world_model
    assert (found.transformer.decoding, found.frame_masking, found.frame_sample) == ("frames", 0.0, 2)
