"""`ivideogpt import-weights`: what it writes, and that it writes nothing where anything is wrong."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments import cli
from tokenizer import TokenizerConfig, abstract_params
from world_model import TransformerConfig, WorldModel, WorldModelConfig, WorldModelParams, folder, modules

CONFIG = WorldModelConfig(
    tokenizer=TokenizerConfig(
        resolution=16,
        channels=(8, 16),
        norm_groups=4,
        layers_per_block=1,
        latent_channels=6,
        future_patch=4,
        context_codes=20,
        future_codes=30,
    ),
    transformer=TransformerConfig(layers=1, width=16, heads=2, feed_forward=24, max_positions=256),
)


@pytest.fixture
def source(tmp_path):
    """An action-free folder as published, with made-up weights."""
    rng = np.random.default_rng(0)
    shapes = WorldModelParams(abstract_params(CONFIG.tokenizer), modules.abstract(CONFIG.transformer, CONFIG.layout))
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    path = tmp_path / "in" / "source"
    folder.save(path, CONFIG, params)
    (path / folder.CONFIG).unlink()
    return path


@pytest.fixture
def ivideogpt(monkeypatch, capsys):
    """Type a command: its exit code and what it prints, on stdout or on stderr."""

    def typed(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ivideogpt", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code, err if left.value.code else out

    return typed


def test_it_says_what_was_found_and_writes_a_folder_of_our_own(ivideogpt, source, tmp_path):
    code, said = ivideogpt("import-weights", source, tmp_path / "out" / "model")
    assert code == 0
    facts = dict(line.split(None, 1) for line in said.replace(" frames", "-frames").splitlines())
    assert facts["resolution"] == "16 x 16"
    assert facts["context-frames"] == "2"
    assert "64 context, 4 future" in said
    assert f"{sum(tensor.size for tensor in load_file(source / folder.TOKENIZER).values()):,}" in facts["tokenizer"]
    assert f"{sum(tensor.size for tensor in load_file(source / folder.TRANSFORMER).values()):,}" in facts["transformer"]
    assert "none (action-free)" in said
    assert facts["reward"].split() == ["head", "no"]
    theirs, ours = WorldModel.from_pretrained(source), WorldModel.from_pretrained(tmp_path / "out" / "model")
    assert ours.config == theirs.config == CONFIG
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_it_makes_a_model_of_another_context_length_and_action_size(ivideogpt, source, tmp_path):
    code, said = ivideogpt("import-weights", source, tmp_path / "out", "--context-frames", 3, "--action-size", 5)
    assert code == 0, said
    model = WorldModel.from_pretrained(tmp_path / "out")
    assert (model.config.tokenizer.context_frames, model.config.transformer.action_size) == (3, 5)
    assert not np.any(model.params.transformer["action"]["kernel"][...])
    assert model.params.tokenizer["future_encoder"]["cross_attentions"][0]["context_positions"].shape == (192, 8)


@pytest.mark.parametrize(("name", "options"), [("ivideogpt-oxe-64-goal-cond", []), ("other", ["--goal-conditioned"])])
def test_a_goal_conditioned_model_is_known_by_its_published_name_or_by_the_flag(
    ivideogpt, source, tmp_path, name, options
):
    code, said = ivideogpt("import-weights", source.rename(source.with_name(name)), tmp_path / "out", *options)
    assert code == 0, said
    assert "2, the first of them the goal" in said
    assert WorldModel.from_pretrained(tmp_path / "out").config.goal_conditioned


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def change(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def settings(path, **changed):
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


WRONG = {
    "truncated tokenizer": (
        lambda source: cut(source / folder.TOKENIZER),
        ["diffusion_pytorch_model.safetensors: damaged or truncated"],
    ),
    "truncated transformer": (
        lambda source: cut(source / folder.TRANSFORMER),
        ["model.safetensors: damaged or truncated"],
    ),
    "empty file": (lambda source: (source / folder.TRANSFORMER).write_bytes(b""), ["damaged or truncated"]),
    "truncated config": (lambda source: cut(source / folder.TRANSFORMER_CONFIG), ["transformer/config.json: no JSON"]),
    "config of another kind": (
        lambda source: (source / folder.TOKENIZER_CONFIG).write_text("[]"),
        ["tokenizer/config.json: expected a JSON object"],
    ),
    "no config": (lambda source: (source / folder.TOKENIZER_CONFIG).unlink(), ["tokenizer/config.json: no such file"]),
    "missing tensor": (
        lambda source: change(source / folder.TOKENIZER, lambda tensors: tensors.pop("quant_conv.weight")),
        ["'quant_conv.weight' is missing", "(6, 6, 1, 1)", "none"],
    ),
    "extra tensor": (
        lambda source: change(
            source / folder.TRANSFORMER, lambda tensors: tensors.update({"stranger": np.ones((2, 3), np.float32)})
        ),
        ["'stranger'", "(2, 3)", "none"],
    ),
    "misshapen tensor": (
        lambda source: change(
            source / folder.TRANSFORMER, lambda tensors: tensors.update({"model.norm.weight": np.ones(15, np.float32)})
        ),
        ["'model.norm.weight'", "(16,)", "(15,)"],
    ),
    "disagreeing config": (
        lambda source: settings(source / folder.TOKENIZER_CONFIG, latent_channels=7),
        ["expected shape (16, 7, 3, 3)", "found (16, 6, 3, 3)"],
    ),
    "disagreeing parts": (
        lambda source: settings(source / folder.TRANSFORMER_CONFIG, vocab_size=53),
        ["vocab_size is 53", "52"],
    ),
}


@pytest.mark.parametrize(("damage", "named"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(ivideogpt, source, tmp_path, damage, named):
    damage(source)
    code, said = ivideogpt("import-weights", source, tmp_path / "out" / "model")
    assert code == 2
    assert said.count("\n") == 1
    assert [part for part in named if part not in said] == [], said
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_there_before_stays_where_the_new_one_is_wrong(ivideogpt, source, tmp_path):
    assert ivideogpt("import-weights", source, tmp_path / "model")[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}
    cut(source / folder.TRANSFORMER)
    assert ivideogpt("import-weights", source, tmp_path / "model")[0] == 2
    assert before == {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--context-frames", 0], "context_frames must be positive"),
        (["--context-frames", 4], "4 context frames take 259 of the transformer's 256 positions"),
        (["--action-size", -1], "action size can grow, not become -1"),
    ],
)
def test_a_change_that_cannot_be_is_refused(ivideogpt, source, tmp_path, options, named):
    code, said = ivideogpt("import-weights", source, tmp_path / "out", *options)
    assert (code, said.count("\n")) == (2, 1)
    assert named in said
    assert not (tmp_path / "out").exists()


def test_nothing_else_is_overwritten(ivideogpt, source, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place in ("notes", "file"):
        code, said = ivideogpt("import-weights", source, tmp_path / place)
        assert (code, said.count("\n")) == (2, 1)
    code, said = ivideogpt("import-weights", source, source)
    assert code == 2
    assert "where the weights come from" in said
    assert not (source / folder.CONFIG).exists()


def test_a_source_that_is_nowhere_is_named(ivideogpt, tmp_path):
    code, said = ivideogpt("import-weights", tmp_path / "nowhere", tmp_path / "out")
    assert code == 2
    assert f"{tmp_path / 'nowhere'}: no such folder" in said


def test_a_hub_name_without_the_hub_package_says_what_to_install(ivideogpt, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, said = ivideogpt("import-weights", "thuml/ivideogpt-oxe-64-act-free", tmp_path / "out")
    assert (code, said.count("\n")) == (2, 1)
    assert "pip install 'ivideogpt-jax[hub]', or give a folder" in said


def test_a_hub_name_is_fetched_and_only_the_files_that_are_read(ivideogpt, monkeypatch, source, tmp_path):
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, sorted(allow_patterns)))
        if "nowhere" in name:
            raise OSError("404 Client Error\nRepository Not Found")
        return str(source)

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert ivideogpt("import-weights", "thuml/ivideogpt-oxe-64-act-free", tmp_path / "out")[0] == 0
    assert asked == [("thuml/ivideogpt-oxe-64-act-free", sorted(folder.FILES))]
    code, said = ivideogpt("import-weights", "thuml/nowhere", tmp_path / "other")
    assert (code, said.count("\n")) == (2, 1)
    assert "404 Client Error" in said
