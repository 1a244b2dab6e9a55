"""Estimates: what is read off a compiled program, and that the figures are those of the program."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from small import CONFIG, TOKENIZER

import tokenizer
from experiments.benchmarks import device_kinds
from experiments.benchmarks import estimate as estimate_room
from experiments.benchmarks.estimate import (
    EstimateOptions,
    apply_options,
    as_text,
    collectives,
    devices_of,
    estimate_update,
    steps_with_adversary,
)
from experiments.benchmarks.flops import flops
from experiments.errors import UsageError
from experiments.pretraining import presets
from experiments.pretraining.config import Pretraining, Stage

HLO = """
  %g = (f32[4,8]{1,0}, bf16[16]{0}) all-reduce(%a, %b), replica_groups={{0,1}}
  %s = (f32[2,8]{1,0}, f32[4,8]{1,0}) all-gather-start(%a), dimensions={0}
  %d = f32[4,8]{1,0} all-gather-done(%s)
  ROOT %x = f32[4,8]{1,0} add(%d, %g)
"""


def test_collectives_are_counted_once_with_the_bytes_of_their_results():
    found = collectives(HLO)
    assert found["all-reduce"] == {"count": 1, "bytes": 4 * 8 * 4 + 16 * 2}
    assert found["all-gather"]["count"] == 1
    assert set(found) == {"all-reduce", "all-gather"}


def estimate(*typed: str) -> subprocess.CompletedProcess:
    """In a process of its own: how many devices there are is decided once."""
    quickly = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = [
        sys.executable,
        "-m",
        "experiments.cli",
        "estimate",
        "--preset",
        "debug",
        "--device-kind",
        "h100",
        *typed,
    ]
    return subprocess.run(command, env=quickly, capture_output=True, text=True)


@pytest.mark.slow
def test_two_devices_halve_the_work_of_each_and_sum_all_gradients():
    one, two = (json.loads(estimate("--devices", n, "--batch", "4", "--json").stdout) for n in ("1", "2"))
    assert one["flops"] == two["flops"] and two["seconds_arithmetic"] == pytest.approx(one["seconds_arithmetic"] / 2)
    assert one["collectives"] == {} and one["fits"]
    assert two["collectives"]["all-reduce"]["bytes"] >= 4 * two["parameters"]
    assert one["state_bytes"] >= 3 * 4 * one["parameters"]  # the parameters and Adam's two moments


ALONE = dataclasses.replace(
    TOKENIZER, resolution=24, context_frames=1, future_sample=1, mid_layers=0, future_mid_attention=False
)
ADVERSARIAL = dataclasses.replace(ALONE, adversarial_weight=0.8, adversarial_start_step=4)
H100 = device_kinds.get("h100")


def narrow_perceptual(_):
    """Weights in LPIPS's structure: fewer of them are compiled sooner."""
    blocks = [((jnp.zeros((3, 3, inputs, 4)), jnp.zeros(4)),) for inputs in (3, 4, 4, 4, 4)]
    return tokenizer.PerceptualWeights(tuple(blocks), tuple(jnp.zeros(4) for _ in blocks))


@pytest.mark.slow
def test_a_discriminator_counts_from_the_step_on_with_which_it_plays_its_turns_among_it(monkeypatch):
    """Its turns had no part in memory, arithmetic and time, and its term counted in a run that it never joins."""
    monkeypatch.setattr(estimate_room, "zero_perceptual", narrow_perceptual)
    run = Pretraining("small", dataclasses.replace(CONFIG, tokenizer=ADVERSARIAL), Stage(10, 2), Stage(0, 1))
    found = estimate_update(run, "tokenizer", H100, jax.devices()[:1], "")
    key = jax.eval_shape(lambda: jax.random.key(0))
    frames = jax.ShapeDtypeStruct((2, CONFIG.segment_frames, 24, 24, 3), jnp.uint8)
    perceptual = jax.eval_shape(lambda: narrow_perceptual(CONFIG))

    def arithmetic(config, update, *others):
        state = jax.eval_shape(lambda key: tokenizer.init(config, CONFIG.tokenizer_optimizer, key), key)
        return flops(update.trace(config, CONFIG.tokenizer_optimizer, state, frames, key, *others))

    alone, together = (arithmetic(config, tokenizer.train_step, perceptual) for config in (ALONE, ADVERSARIAL))
    turn = arithmetic(ADVERSARIAL, tokenizer.discriminator_step)
    assert found.flops == alone and found.adversary.flops == together - alone + turn > turn
    assert found.adversary.steps == 6
    assert found.run_seconds == pytest.approx(10 * found.seconds + 6 * found.adversary.seconds)
    assert "in the last 6 steps, its own turns among it" in as_text(found)


def test_a_discriminator_that_a_run_never_comes_to_costs_no_time():
    """As that of paper-256, which the published script begins where the paper's tokenizer ends."""
    published = presets.get("paper-256")
    assert steps_with_adversary(published, "tokenizer") == 0 == steps_with_adversary(published, "transformer")
    longer = apply_options(published, EstimateOptions(part="tokenizer", steps=500_000))
    assert steps_with_adversary(longer, "tokenizer") == 375_000


def test_options_reach_the_preset():
    typed = EstimateOptions(part="tokenizer", devices=4, model=2, batch=12, shard_parameters=True, recompute=True)
    config = apply_options(presets.get("debug"), typed)
    assert config.tokenizer.batch == 12 and config.transformer == presets.get("debug").transformer
    assert (config.mesh.model, config.mesh.shard_parameters) == (2, True)
    assert config.world_model.tokenizer.recompute and not config.world_model.transformer.recompute
    assert apply_options(presets.get("debug"), EstimateOptions()) == presets.get("debug")


def test_what_is_advised_is_an_option_of_this_command():
    """Fault 17: it advised --transformer.batch, an option of pretrain alone."""
    refused = estimate("--devices", "3", "--batch", "4")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "cannot share a batch of 4 segments: set --batch to a multiple of 3, or --devices" in refused.stderr


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"batch": 0}, "--batch 0: expected at least 1"),
        ({"steps": 0}, "--steps 0: expected at least 1"),
        ({"devices": 0}, "--devices 0: expected at least 1"),
        ({"model": -1}, "--model -1: expected at least 1"),
        ({"devices": 2, "model": 3}, "--model 3: there are only 2 devices"),
    ],
)
def test_numbers_that_do_not_fit_are_one_sentence(typed, sentence):
    """Fault 14: none of these was refused in words of this command."""
    with pytest.raises(UsageError, match=sentence):
        apply_options(presets.get("debug"), EstimateOptions(**typed))


def test_devices_that_nobody_sells_are_one_sentence():
    with pytest.raises(UsageError, match="no slice of v5e has 3 devices"):
        devices_of(device_kinds.get("v5e"), 3)
    with pytest.raises(UsageError, match="unknown device kind"):
        device_kinds.get("v55")
    assert device_kinds.get("v5p").slice_of(64) == "4x4x4"
