"""Every preset's updates, rollouts and policies can be built: traced on the CPU with abstract arrays, none allocated.

One layer stands for those that are alike. Tokenizers share a trace where they differ in numbers alone (rates, frames),
in precision, or in LPIPS and the discriminator, which are traced at 256 pixels.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

import tokenizer
import world_model
from agent.drqv2 import imagination_policy, init, train_step
from agent.drqv2.learner import LearnerBatch
from agent.mbpo import MBPOConfig
from experiments.benchmarks.hot_paths import zero_perceptual
from experiments.pretraining import presets as pretraining
from experiments.training import presets as training

SEGMENTS = 2
KEY = jax.eval_shape(lambda: jax.random.key(0))


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def segments(model, frames):
    side = model.tokenizer.resolution
    return (
        shape(SEGMENTS, frames, side, side, 3, dtype=jnp.uint8),
        shape(SEGMENTS, frames, model.transformer.action_size),
        shape(SEGMENTS, frames),
    )


def thin(model):
    """A world model of the same kind, with one layer for those that are alike and the same rates for all."""
    vqgan = model.tokenizer.future_pair == "vqgan"
    few = {"layers_per_block": 1, "mid_layers": 1} if vqgan and model.tokenizer.mid_layers else {}
    if model.tokenizer.resolution == 256:
        few |= {"adversarial_weight": 0.8, "adversarial_start_step": 1}
    else:
        few |= {"perceptual_weight": 0.0, "context_frames": 2}
    part = dataclasses.replace(
        model.tokenizer, **few, discriminator_rate=1e-4, future_sample=3, dropout=0.1 * bool(model.tokenizer.dropout),
        compute_dtype="float32" if model.tokenizer.quantizer == "fsq" else "bfloat16", shuffle_frames=False,
    )  # fmt: skip
    rates = {name: dataclasses.replace(getattr(model, name), learning_rate=1e-4, decay_steps=None, warmup_steps=1)
             for name in ("tokenizer_optimizer", "transformer_optimizer")}  # fmt: skip
    transformer = dataclasses.replace(model.transformer, layers=1)
    return dataclasses.replace(model, tokenizer=part, transformer=transformer, **rates)


@functools.cache
def traced_tokenizer(config, optimizer, frames=6):
    """Shapes of the state after an update, and after a turn of the discriminator where it takes some."""
    model = world_model.WorldModelConfig(config, segment_frames=max(frames, config.context_frames + 1))
    state = jax.eval_shape(functools.partial(tokenizer.init, config, optimizer), KEY)
    perceptual = jax.eval_shape(lambda: zero_perceptual(model))
    drawn = segments(model, frames)[0]
    update = functools.partial(tokenizer.train_step, config, optimizer)
    after, metrics = jax.eval_shape(update, state, drawn, KEY, perceptual)
    assert jax.tree.structure(after) == jax.tree.structure(state) and metrics["loss"].shape == ()
    if config.has_turns:
        turn = functools.partial(tokenizer.discriminator_step, config, optimizer)
        after, metrics = jax.eval_shape(turn, state, drawn, KEY)
        assert jax.tree.structure(after) == jax.tree.structure(state) and "discriminator_loss" in metrics


@functools.cache
def traced_transformer(model, frames):
    state = jax.eval_shape(functools.partial(world_model.init_transformer, model), KEY)
    update = functools.partial(world_model.transformer_train_step, model)
    frozen = tokenizer.abstract_params(model.tokenizer)
    after, metrics = jax.eval_shape(update, state, frozen, *segments(model, frames), KEY)
    assert jax.tree.structure(after) == jax.tree.structure(state) and metrics["loss"].shape == ()


@pytest.mark.parametrize("name", pretraining.names())
def test_the_updates_of_every_preset_of_pretrain_and_finetune_can_be_traced(name):
    preset = pretraining.get(name)
    model = preset.scheduled
    frames = preset.tokenizer.segment_frames or model.segment_frames
    assert model.tokenizer.context_frames + (model.tokenizer.future_sample or 1) <= frames
    model.check_horizon(model.trained_horizon)
    traced_tokenizer(thin(model).tokenizer, thin(model).tokenizer_optimizer)
    traced_transformer(thin(model), model.segment_frames)


@pytest.mark.parametrize("name", training.names())
def test_an_agent_of_every_preset_can_be_traced(name):
    config = training.get(name).algorithm
    assert isinstance(config, MBPOConfig)
    model, agent = thin(config.world_model), dataclasses.replace(config.agent, resolution=config.resolution)
    if name not in ("paper-64", "medium-64", "paper-256"):  # the tokenizers of pre-training
        traced_tokenizer(model.tokenizer, model.tokenizer_optimizer)
    traced_transformer(model, model.segment_frames)
    traced_agent(model, agent, config.model.temperature, 2)


@functools.cache
def traced_agent(model, agent, temperature, horizon):
    """A rollout under the policy, and an update of the learner."""
    side, rows = agent.resolution, (1, SEGMENTS)
    state = jax.eval_shape(functools.partial(init, agent), KEY)
    params = world_model.WorldModelParams(
        tokenizer.abstract_params(model.tokenizer),
        jax.eval_shape(functools.partial(world_model.init_transformer, model), KEY).params,
    )
    stacks = shape(SEGMENTS, agent.stack, side, side, 3, dtype=jnp.uint8)

    def imagined(params, parameters, stacks, key):
        policy = imagination_policy(agent, parameters, jnp.float32(0.1))
        return world_model.imagine(model, params, stacks, policy, key, horizon, temperature, 100)

    frames = jax.eval_shape(imagined, params, state.parameters, stacks, KEY).frames_bfhwc
    assert frames.shape == (SEGMENTS, horizon, side, side, 3)
    observed = shape(*rows, agent.stack, side, side, 3, dtype=jnp.uint8)
    fields = {field: shape(*rows) for field in ("rewards_b", "discounts_b", "demonstrations_b")}
    batch = LearnerBatch(
        observations_bshwc=observed, next_observations_bshwc=observed, actions_ba=shape(*rows, agent.action_size),
        **{name: value for name, value in fields.items() if name in LearnerBatch._fields},
    )  # fmt: skip
    learn = functools.partial(train_step, agent)
    after, _ = jax.eval_shape(learn, state, batch, shape(), KEY)
    assert jax.tree.structure(after) == jax.tree.structure(state)
