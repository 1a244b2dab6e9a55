"""LoRA against its definition, and actions read back from what they led to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import CONFIG, small_model

from tokenizer import OptimizerConfig, make_optimizer
from world_model import WorldModel, fit_params, init_transformer, token_train_step
from world_model.low_rank import low_rank
from world_model.training import losses

RANK, ALPHA = 2, 6.0
OPTIMIZER = OptimizerConfig(learning_rate=0.05, warmup_steps=0, weight_decay=0.01)


def tree(seed):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    block = {
        "attention": {"qkv": {"kernel": normal(6, 15)}, "output": {"kernel": normal(5, 6)}},
        "feed_forward": {"gate_and_up": {"kernel": normal(6, 8)}},
        "norm": {"scale": normal(6)},
    }
    return {"blocks": {"0": block}, "embedding": {"embedding": normal(9, 6)}, "reward": {"kernel": normal(6, 1)}}


TARGET = tree(1)


def loss(params):
    """Every number matters, and those of one matrix to each other."""
    return sum(
        jnp.sum(jnp.square(jnp.tanh(x) - y)) for x, y in zip(*map(jax.tree.leaves, (params, TARGET)), strict=True)
    )


def merged(base, factors):
    """W0 + alpha / rank * A B, written out."""
    change = {key: ALPHA / RANK * a @ b for key, (a, b) in factors.items()}
    made = jax.tree.map(jnp.copy, base)
    block = made["blocks"]["0"]
    # numbers are those of the leaves: attention/output, attention/qkv, gate_and_up, norm, embedding, reward
    block["attention"]["output"]["kernel"] += change["0.0"]
    block["attention"]["qkv"]["kernel"] += jnp.concatenate([change[f"1.{part}"] for part in range(3)], axis=1)
    block["feed_forward"]["gate_and_up"]["kernel"] += jnp.concatenate([change["2.0"], change["2.1"]], axis=1)
    made["embedding"]["embedding"] += change["4.0"]
    return made


def test_it_is_gradient_descent_on_the_factors_of_a_change_of_low_rank():
    base = tree(0)
    ours = low_rank(RANK, ALPHA, OPTIMIZER)
    params, state = base, ours.init(base)
    factors, whole = state.factors, {"reward/kernel": base["reward"]["kernel"]}
    plain = make_optimizer(OPTIMIZER)
    moments = plain.init({"factors": factors, "whole": whole})

    def defined(learned):
        made = merged(base, learned["factors"])
        made["reward"]["kernel"] = learned["whole"]["reward/kernel"]
        return loss(made)

    step, defined_step = jax.jit(ours.update), jax.jit(jax.grad(defined))
    learned = {"factors": factors, "whole": whole}
    for _ in range(6):
        changes, state = step(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, changes)
        updates, moments = plain.update(defined_step(learned), moments, learned)
        learned = optax.apply_updates(learned, updates)
    expected = merged(base, learned["factors"])
    expected["reward"]["kernel"] = learned["whole"]["reward/kernel"]
    for found, wanted in zip(*map(jax.tree.leaves, (params, expected)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-4)


def test_a_change_has_the_rank_it_may_have_and_norms_stay():
    base = tree(0)
    ours = low_rank(RANK, ALPHA, OPTIMIZER)
    params, state = base, ours.init(base)
    step = jax.jit(ours.update)
    for _ in range(4):
        changes, state = step(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, changes)
    qkv = (params["blocks"]["0"]["attention"]["qkv"]["kernel"], base["blocks"]["0"]["attention"]["qkv"]["kernel"])
    for part, before in zip(*(np.split(np.asarray(x), 3, axis=1) for x in qkv), strict=True):
        values = np.linalg.svd(part - before, compute_uv=False)
        assert values[RANK - 1] > 1e-3 and values[RANK] < 1e-4
    np.testing.assert_array_equal(params["blocks"]["0"]["norm"]["scale"], base["blocks"]["0"]["norm"]["scale"])
    assert not np.array_equal(params["reward"]["kernel"], base["reward"]["kernel"])


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(2, 5, 16, 16, 3), dtype=np.uint8)
    actions = jnp.asarray(rng.uniform(-1, 1, (2, 5, 3)), jnp.float32)
    return small_model().tokenize(frames)[0], actions, jnp.zeros((2, 5))


def test_a_transformer_tuned_by_lora_is_saved_merged(batch, tmp_path):
    config = dataclasses.replace(CONFIG, lora_rank=2)
    state = init_transformer(config, jax.random.key(0))
    before = np.asarray(state.params["blocks"][0]["attention"]["qkv"]["kernel"][...])
    for number in range(2):
        state, _ = token_train_step(config, state, *batch, jax.random.key(number))
    after = np.asarray(state.params["blocks"][0]["attention"]["qkv"]["kernel"][...])
    assert not np.array_equal(before, after)
    model = WorldModel(config, small_model().params.replace(transformer=state.params))
    model.save(tmp_path / "model")
    read = WorldModel.from_pretrained(tmp_path / "model").params.transformer
    np.testing.assert_array_equal(read["blocks"][0]["attention"]["qkv"]["kernel"][...], after)


def test_an_action_head_reads_from_every_token_of_a_frame_the_action_that_led_there(batch):
    config = dataclasses.replace(CONFIG, transformer=dataclasses.replace(CONFIG.transformer, action_head=True))
    params = fit_params(CONFIG, small_model().params, config).transformer
    tokens, actions, rewards = batch
    zero = losses(config, params, tokens, actions, rewards, None)
    layout = config.layout
    led = np.asarray(layout.future_actions(actions, 3))  # of frames 2, 3 and 4: those of frames 1, 2 and 3
    np.testing.assert_array_equal(led, actions[:, 1:4])
    np.testing.assert_allclose(zero["action_loss"], np.square(led).mean(), rtol=1e-5)
    params["action_recon"]["bias"][...] = jnp.array([0.5, -0.25, 0.0])
    moved = losses(config, params, tokens, actions, rewards, None)
    np.testing.assert_allclose(moved["action_loss"], np.square(led - [0.5, -0.25, 0.0]).mean(), rtol=1e-5)
    assert moved["cross_entropy"] == zero["cross_entropy"]
    with pytest.raises(ValueError, match="action_head reads actions back"):
        dataclasses.replace(config.transformer, action_size=0)
