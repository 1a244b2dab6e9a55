"""Folders in the published layout, of many sizes: all of each is read, and nothing of it twice."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tokenizer import TokenizerConfig, abstract_params
from world_model import TransformerConfig, WorldModel, WorldModelConfig, WorldModelParams, folder, modules

SMALL = TokenizerConfig(
    resolution=32,
    channels=(8, 16, 16),
    norm_groups=4,
    layers_per_block=1,
    latent_channels=6,
    max_attention_resolution=8,
    context_codes=20,
    future_codes=30,
)
LARGE = dataclasses.replace(
    SMALL, resolution=256, channels=(4, 4, 8, 8, 12), max_attention_resolution=32, context_codes=77, future_codes=1
)
LLAMA = TransformerConfig(layers=2, width=16, heads=2, feed_forward=24)


def variant(tokenizer: TokenizerConfig = SMALL, **changed) -> WorldModelConfig:
    sizes = {name: changed.pop(name) for name in tuple(changed) if hasattr(LLAMA, name)}
    return WorldModelConfig(dataclasses.replace(tokenizer, **changed), dataclasses.replace(LLAMA, **sizes))


VARIANTS = {
    "one context frame": variant(context_frames=1),
    "two, with actions": variant(context_frames=2, action_size=4),
    "three, with actions and rewards": variant(context_frames=3, action_size=7, reward_head=True),
    "rewards alone": variant(reward_head=True),
    "other widths": variant(channels=(32, 64), norm_groups=32, latent_channels=3, width=24, heads=3, layers=1),
    "no attention in a large map": variant(max_attention_resolution=4),
    "mid attention in both pairs": variant(context_mid_attention=True, layers_per_block=2),
    "256 px": variant(LARGE, action_size=1),
}


def write_published(path, config: WorldModelConfig) -> int:
    """Write config.json and tensors as published, every number in them another one; returns how many there are."""
    shapes = WorldModelParams(abstract_params(config.tokenizer), modules.abstract(config.transformer, config.layout))
    folder.save(path, config, jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes))
    (path / folder.CONFIG).unlink()
    count = 0
    for file in (folder.TOKENIZER, folder.TRANSFORMER):
        tensors = load_file(path / file)
        for name, tensor in tensors.items():
            tensors[name] = np.arange(count, count + tensor.size, dtype=np.float32).reshape(tensor.shape)
            count += tensor.size
        save_file(tensors, path / file)
    return count


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def published(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "model"
    return request.param, path, write_published(path, request.param)


def test_every_number_of_a_published_folder_is_used_exactly_once(published):
    config, path, count = published
    model = WorldModel.from_pretrained(path)
    assert model.config == config
    read = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(model.params)])
    np.testing.assert_array_equal(np.sort(read), np.arange(count, dtype=np.float32))


def test_a_folder_of_our_own_holds_the_published_tensors_bit_for_bit(published, tmp_path):
    config, path, _ = published
    WorldModel.from_pretrained(path).save(tmp_path / "ours")
    assert WorldModel.from_pretrained(tmp_path / "ours").config == config
    for file in (folder.TOKENIZER, folder.TRANSFORMER):
        theirs, ours = load_file(path / file), load_file(tmp_path / "ours" / file)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            np.testing.assert_array_equal(ours[name], tensor, err_msg=name)


def test_what_was_read_is_shaped_as_the_model_needs_it(published):
    config, path, _ = published
    model = WorldModel.from_pretrained(path)
    side, c = config.tokenizer.resolution, config.tokenizer.context_frames
    frames = np.zeros((1, c + 1, side, side, 3), np.uint8)
    actions = np.zeros((1, c + 1, config.transformer.action_size), np.float32)

    def run():
        tokens, _ = model.tokenize(frames)
        return model.detokenize(tokens), *model.score(tokens, actions)

    reconstructed, logits, rewards = jax.eval_shape(run)
    assert reconstructed.shape == frames.shape
    assert logits.shape == (1, config.layout.frame_length, config.layout.vocabulary)
    assert (rewards is not None) == config.transformer.reward_head


def test_a_published_folder_is_goal_conditioned_where_its_reader_says_so(tmp_path):
    write_published(tmp_path / "theirs", VARIANTS["two, with actions"])
    plain, told = (WorldModel.from_pretrained(tmp_path / "theirs", goal_conditioned=goal) for goal in (None, True))
    assert told.config == dataclasses.replace(plain.config, goal_conditioned=True)
    assert not plain.config.goal_conditioned
    told.save(tmp_path / "ours")
    assert WorldModel.from_pretrained(tmp_path / "ours").config == told.config


@pytest.mark.parametrize("which", ["tokenizer", "transformer"])
def test_each_tensor_is_missed_by_its_name(tmp_path, which):
    config = VARIANTS["three, with actions and rewards"]
    write_published(tmp_path / "model", config)
    file = tmp_path / "model" / {"tokenizer": folder.TOKENIZER, "transformer": folder.TRANSFORMER}[which]
    tensors = load_file(file)
    for name in list(tensors)[:: 9 if which == "tokenizer" else 1]:
        save_file({other: tensor for other, tensor in tensors.items() if other != name}, file)
        with pytest.raises(
            ValueError, match=rf"^{which} tensor '{name}' is missing: expected shape \(.*\), found none"
        ):
            WorldModel.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            folder.TOKENIZER_CONFIG,
            {"latent_channels": 5},
            r"tokenizer tensor '.*': expected shape \(.*\), found \(.*\)",
        ),
        (
            folder.TOKENIZER_CONFIG,
            {"num_vq_embeddings": 21},
            r"'quantize.embedding.weight': .*\(21, 6\), found \(20, 6\)",
        ),
        (folder.TOKENIZER_CONFIG, {"block_out_channels": [8, 18, 16]}, "norm_groups 4 does not divide 18 channels"),
        (folder.TOKENIZER_CONFIG, {"block_out_channels": None}, "tokenizer/config.json: "),
        (folder.TOKENIZER_CONFIG, {"norm_num_groups": 0}, "tokenizer/config.json: "),
        (folder.TRANSFORMER_CONFIG, {"hidden_size": 20}, r"expected shape \(52, 20\), found \(52, 16\)"),
        (folder.TRANSFORMER_CONFIG, {"num_hidden_layers": 3}, r"'llm.model.layers.2.\S+' is missing: .* found none"),
        (folder.TRANSFORMER_CONFIG, {"num_hidden_layers": 1}, r"'llm.model.layers.1.\S+' of shape .* no place here"),
        (folder.TRANSFORMER_CONFIG, {"num_hidden_layers": 0}, "transformer/config.json: a transformer of 0 layers"),
        (folder.TRANSFORMER_CONFIG, {"num_attention_heads": 0, "num_key_value_heads": 0}, "transformer/config.json: "),
        (folder.TRANSFORMER_CONFIG, {"vocab_size": 50}, "vocab_size is 50, but the tokenizer's .* are 52"),
    ],
)
def test_a_config_that_disagrees_with_the_weights_is_refused(tmp_path, file, changes, message):
    write_published(tmp_path / "model", VARIANTS["two, with actions"])
    path = tmp_path / "model" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=message) as refused:
        WorldModel.from_pretrained(tmp_path / "model")
    assert type(refused.value).__name__ == "PublishedError"
