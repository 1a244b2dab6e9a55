"""World models on disk."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tokenizer import TokenizerConfig, abstract_params
from world_model import (
    TransformerConfig,
    WorldModel,
    WorldModelConfig,
    WorldModelParams,
    folder,
    modules,
    published,
)
from world_model.folder import TRANSFORMER, from_plain

PUBLISHED_NAMES = {
    "model.embed_tokens.weight": (46, 32),
    "lm_head.weight": (46, 32),
    "model.norm.weight": (32,),
    **{
        f"model.layers.{i}.{name}.weight": shape
        for i in (0, 1)
        for name, shape in {
            "input_layernorm": (32,),
            "post_attention_layernorm": (32,),
            "self_attn.q_proj": (32, 32),
            "self_attn.k_proj": (32, 32),
            "self_attn.v_proj": (32, 32),
            "self_attn.o_proj": (32, 32),
            "mlp.gate_proj": (48, 32),
            "mlp.up_proj": (48, 32),
            "mlp.down_proj": (32, 48),
        }.items()
    },
}
BESIDE = {
    "action_linear.weight": (32, 3),
    "action_linear.bias": (32,),
    "reward_linear.weight": (1, 32),
    "reward_linear.bias": (1,),
}


@pytest.fixture
def saved(model, tmp_path) -> pathlib.Path:
    model.save(tmp_path / "model")
    return tmp_path / "model"


def _assert_equal(one: WorldModel, another: WorldModel) -> None:
    assert one.config == another.config
    assert jax.tree.structure(one.params) == jax.tree.structure(another.params)
    jax.tree.map(np.testing.assert_array_equal, one.params, another.params)


def test_a_saved_model_is_read_back_bit_for_bit(model, saved, frames):
    again = WorldModel.from_pretrained(saved)
    _assert_equal(model, again)
    np.testing.assert_array_equal(model.tokenize(frames)[0], again.tokenize(frames)[0])


def test_a_laptop_kind_of_model_is_read_back_too(tmp_path, config):
    tokenizer = dataclasses.replace(
        config.tokenizer, quantizer="fsq", fsq_levels=(4, 3), context_codes=12, future_codes=12, context_residual=True
    )
    config = dataclasses.replace(config, tokenizer=tokenizer)
    shapes = WorldModelParams(abstract_params(tokenizer), modules.abstract(config.transformer, config.layout))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)
    model = WorldModel(config, params)
    model.save(tmp_path / "laptop")
    _assert_equal(model, WorldModel.from_pretrained(tmp_path / "laptop"))


def test_half_the_bytes_hold_the_same_model_rounded(model, saved, tmp_path, frames):
    model.save(tmp_path / "half", dtype="float16")
    sizes = [
        sum(path.stat().st_size for path in folder.rglob("*.safetensors")) for folder in (saved, tmp_path / "half")
    ]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    again = WorldModel.from_pretrained(tmp_path / "half")
    assert again.config == model.config
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, np.float16(b).astype(np.float32)), again.params, model.params
    )
    again.save(tmp_path / "again")
    _assert_equal(WorldModel.from_pretrained(tmp_path / "again"), again)


def test_the_tensors_have_the_published_names_and_shapes(config, saved):
    shapes = {name: tensor.shape for name, tensor in load_file(saved / TRANSFORMER).items()}
    assert shapes == {f"llm.{name}": shape for name, shape in PUBLISHED_NAMES.items()} | BESIDE
    action_free = dataclasses.replace(config.transformer, action_size=0, reward_head=False)
    assert published._expected_shapes(action_free, config.layout) == PUBLISHED_NAMES


def test_the_published_layout_alone_is_enough_where_it_can_say_the_configuration(model, saved, config):
    (saved / folder.CONFIG).unlink()
    tokenizer = saved / folder.TOKENIZER_CONFIG
    assert json.loads(tokenizer.read_text())["num_dyn_embeddings"] == 20
    tensors, document = load_file(saved / TRANSFORMER), json.loads((saved / folder.TRANSFORMER_CONFIG).read_text())
    assert document["vocab_size"] == 46
    assert published.to_config(document, tensors, 46) == config.transformer


def test_matrices_stand_transposed_and_fused_ones_in_their_order(config, model):
    tensors = published.export_params(config.transformer, model.params.transformer)
    block = model.params.transformer["blocks"][1]
    qkv = np.asarray(block["attention"]["qkv"]["kernel"][...])
    for i, name in enumerate("qkv"):
        weight = tensors[f"llm.model.layers.1.self_attn.{name}_proj.weight"]
        np.testing.assert_array_equal(weight.T, qkv[:, 32 * i : 32 * (i + 1)])
    gate_and_up = np.asarray(block["feed_forward"]["gate_and_up"]["kernel"][...])
    np.testing.assert_array_equal(tensors["llm.model.layers.1.mlp.up_proj.weight"].T, gate_and_up[:, 48:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("llm.lm_head.weight"),
            r"'llm.lm_head.weight' is missing: expected shape \(46, 32\), found none",
        ),
        (
            lambda t: t.update({"llm.model.norm.weight": np.zeros(31, np.float32)}),
            r"'llm.model.norm.weight': expected shape \(32,\), found \(31,\)",
        ),
        (
            lambda t: t.update({"llm.model.layers.2.extra": np.zeros((4, 5), np.float32)}),
            r"'llm.model.layers.2.extra' of shape \(4, 5\) has no place here: expected none",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_with_both_shapes(saved, change, message):
    tensors = load_file(saved / TRANSFORMER)
    change(tensors)
    save_file(tensors, saved / TRANSFORMER)
    with pytest.raises(ValueError, match=message):
        WorldModel.from_pretrained(saved)


def test_a_truncated_file_and_a_missing_one_are_named(saved):
    path = saved / TRANSFORMER
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model.safetensors: damaged or truncated"):
        WorldModel.from_pretrained(saved)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"transformer/model.safetensors: no such file"):
        WorldModel.from_pretrained(saved)


def test_a_setting_that_is_not_computed_here_is_refused():
    document = published.from_config(TransformerConfig(), 10) | {"num_key_value_heads": 4}
    with pytest.raises(ValueError, match=r"\{'num_key_value_heads': 4\} is not what this transformer computes"):
        published.to_config(document, {}, 10)
    del document["hidden_size"]
    with pytest.raises(ValueError, match="hidden_size missing"):
        published.to_config(document, {}, 10)


def test_a_save_that_fails_leaves_what_was_there(model, saved, monkeypatch):
    def fail(*arguments, **named):
        raise OSError("no space left on device")

    before = (saved / TRANSFORMER).read_bytes()
    monkeypatch.setattr(folder, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        model.save(saved)
    assert (saved / TRANSFORMER).read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_saving_again_replaces_the_model_and_nothing_else_is_replaced(model, saved, tmp_path):
    model.save(saved)
    _assert_equal(model, WorldModel.from_pretrained(saved))
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "diary.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something else than a world model"):
        model.save(notes)
    assert (notes / "diary.txt").read_text() == "mine"


def test_a_configuration_survives_json_and_unknown_names_are_refused(config):
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    assert from_plain(WorldModelConfig, plain) == config
    assert from_plain(TokenizerConfig, plain["tokenizer"]) == config.tokenizer
    with pytest.raises(ValueError, match="TransformerConfig has no depth"):
        from_plain(WorldModelConfig, {"transformer": {"depth": 3}})


@pytest.mark.parametrize("name", [folder.TOKENIZER, folder.TRANSFORMER])
def test_weights_that_changed_since_they_were_written_are_refused(saved, name):
    """Fault 8: every flipped bit was taken."""
    path = saved / name
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path.name}: changed since it was written"):
        WorldModel.from_pretrained(saved)
    document = json.loads((saved / folder.CONFIG).read_text())
    del document[folder.CHECKSUMS]
    (saved / folder.CONFIG).write_text(json.dumps(document))
    WorldModel.from_pretrained(saved)  # as earlier versions wrote it


def test_weights_that_are_no_numbers_are_refused(saved):
    """Fault 14: NaN was taken."""
    tensors = load_file(saved / TRANSFORMER)
    tensors["llm.lm_head.weight"][3, 4] = np.nan
    save_file(tensors, saved / TRANSFORMER)
    (saved / folder.CONFIG).write_text(json.dumps(_without_checksums(saved)))
    with pytest.raises(ValueError, match=r"tensor 'llm.lm_head.weight' holds numbers that are not finite"):
        WorldModel.from_pretrained(saved)


def _without_checksums(saved: pathlib.Path) -> dict:
    document = json.loads((saved / folder.CONFIG).read_text())
    del document[folder.CHECKSUMS]
    return document


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("transformer", "max_positions", "x", "max_positions is 'x', expected a whole number"),
        ("transformer", "max_positions", 1.5, "max_positions is 1.5, expected a whole number"),
        ("transformer", "max_positions", -3, "max_positions is -3, expected at least 1"),
        ("transformer", "dropout", True, "dropout is True, expected a number"),
        ("transformer", "dropout", float("nan"), "dropout is nan, expected a number"),
        ("transformer", "reward_head", 1, "reward_head is 1, expected true or false"),
        ("transformer", "compute_dtype", "int3", "compute_dtype is 'int3', expected 'float32' or 'bfloat16'"),
        ("tokenizer", "channels", [8, "x"], r"channels is \[8, 'x'\], expected a list, each a whole number"),
        ("tokenizer", "motion_floor", "x", "motion_floor is 'x', expected a number or null"),
        (None, "tokenizer", 1e308, r"tokenizer is 1e\+308, expected settings by their names"),
        (None, "transformer", None, "transformer is None, expected settings by their names"),
        (None, "sha256", ["x"], "sha256 is not what holds the checksums of the weights"),
    ],
)
def test_a_setting_of_another_kind_is_refused_by_its_name(saved, part, name, value, said):
    """Fault 14: text was taken for a number, and a number for settings."""
    path = saved / folder.CONFIG
    document = json.loads(path.read_text())
    (document if part is None else document[part])[name] = value
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"world_model.json: {said}$"):
        WorldModel.from_pretrained(saved)
