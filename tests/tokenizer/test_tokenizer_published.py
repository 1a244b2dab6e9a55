"""The published layout: names, shapes, and nothing lost on the way there and back."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tokenizer import TokenizerConfig, abstract_params, merge, published
from tokenizer.published import PublishedError

CONFIG = TokenizerConfig(
    resolution=16,
    channels=(8, 16),
    norm_groups=4,
    layers_per_block=1,
    latent_channels=6,
    future_patch=4,
    max_attention_resolution=8,
    context_codes=20,
    future_codes=30,
    attention_heads=2,
)
FSQ = dataclasses.replace(
    CONFIG, channels=(16,), stem_patch=4, future_patch=2, quantizer="fsq", context_codes=1000, future_codes=1000
)


def params_of(config):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), abstract_params(config)
    )


@functools.partial(jax.jit, static_argnames="config")
def reconstructed(config, params):
    model = merge(config, params)
    frames = jax.random.uniform(jax.random.key(0), (1, config.context_frames + 1, 16, 16, 3))
    context = model.encode_context(frames[:, :-1])
    tokens = model.encode_future(frames[:, -1:], context)
    return context.tokens_bcn, tokens, model.decode_future(tokens, context)


@pytest.mark.parametrize("config", [CONFIG, FSQ], ids=["published", "laptop"])
def test_export_and_import_give_identical_parameters_and_outputs(config):
    params = params_of(config)
    tensors = published.export_params(config, params)
    again = published.import_params(config, tensors)
    for (path, ours), (_, theirs) in zip(nnx.to_flat_state(params), nnx.to_flat_state(again), strict=True):
        np.testing.assert_array_equal(ours[...], theirs[...], err_msg=str(path))
    for ours, theirs in zip(reconstructed(config, params), reconstructed(config, again), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_number_is_exported_exactly_once():
    params = params_of(CONFIG)
    exported = np.concatenate([x.ravel() for x in published.export_params(CONFIG, params).values()])
    ours = np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(params)])
    np.testing.assert_array_equal(np.sort(exported), np.sort(ours))


def test_names_and_shapes_are_the_published_ones():
    tensors = published.export_params(CONFIG, params_of(CONFIG))
    expected = {
        "encoder.conv_in.weight": (8, 3, 3, 3),
        "encoder.down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3),
        "encoder.down_blocks.0.downsamplers.0.conv.weight": (8, 8, 3, 3),
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (16, 8, 1, 1),
        "encoder.mid_block.resnets.1.norm2.bias": (16,),
        "encoder.conv_norm_out.weight": (16,),
        "encoder.conv_out.weight": (6, 16, 3, 3),
        "decoder.conv_in.weight": (16, 6, 3, 3),
        "decoder.up_blocks.0.upsamplers.0.conv.weight": (16, 16, 3, 3),
        "decoder.up_blocks.1.resnets.1.conv2.bias": (8,),
        "cond_encoder.mid_block.attentions.0.to_out.0.weight": (16, 16),
        "cond_encoder.mid_block.attentions.0.group_norm.weight": (16,),
        "cond_encoder.cross_att_blocks.0.att.in_proj_weight": (24, 8),
        "cond_encoder.cross_att_blocks.1.att.in_proj_bias": (48,),
        "cond_encoder.cross_att_blocks.0.kv_pos_emb": (128, 8),
        "cond_decoder.cross_att_blocks.0.q_pos_emb": (64, 16),
        "cond_decoder.cross_att_blocks.0.att.out_proj.weight": (16, 16),
        "cond_decoder.cross_att_blocks.0.kv_norm.weight": (16,),
        "quant_conv.weight": (6, 6, 1, 1),
        "post_quant_conv.bias": (6,),
        "quant_linear.weight": (6, 96),
        "post_quant_linear.weight": (96, 6),
        "quantize.embedding.weight": (20, 6),
        "dynamics_quantize.embedding.weight": (30, 6),
    }
    assert {name: tensors[name].shape for name in expected} == expected
    assert "encoder.mid_block.attentions.0.to_q.weight" not in tensors


def test_a_missing_an_extra_and_a_misshapen_tensor_are_named_with_both_shapes():
    tensors = published.export_params(CONFIG, params_of(CONFIG))
    name = "quant_conv.weight"
    missing = {key: value for key, value in tensors.items() if key != name}
    with pytest.raises(PublishedError, match=r"quant_conv.weight.*missing.*\(6, 6, 1, 1\)"):
        published.import_params(CONFIG, missing)
    with pytest.raises(PublishedError, match=r"quant_conv.weight.*\(6, 6, 1, 1\).*\(6, 6\)"):
        published.import_params(CONFIG, tensors | {name: tensors[name][:, :, 0, 0]})
    with pytest.raises(PublishedError, match=r"stranger.*\(2, 3\).*none"):
        published.import_params(CONFIG, tensors | {"stranger": np.zeros((2, 3))})


def test_a_published_config_says_the_same_there_and_back():
    assert published.to_config(published.from_config(CONFIG)) == dataclasses.replace(CONFIG, attention_heads=4)
    with pytest.raises(PublishedError, match="relu"):
        published.to_config(published.from_config(CONFIG) | {"act_fn": "relu"})
    incomplete = published.from_config(CONFIG)
    del incomplete["patch_size"]
    with pytest.raises(PublishedError, match="patch_size"):
        published.to_config(incomplete)


def test_another_context_length_keeps_the_key_positions_of_the_last_frames():
    params = params_of(CONFIG)
    for frames in (1, 2, 3):
        config, changed = published.with_context_frames(CONFIG, params, frames)
        assert config.context_frames == frames
        for (path, expected), (_, found) in zip(
            nnx.to_flat_state(abstract_params(config)), nnx.to_flat_state(changed), strict=True
        ):
            assert expected.shape == found.shape, path
        jax.eval_shape(functools.partial(reconstructed, config), changed)
    more = published.with_context_frames(CONFIG, params, 4)
    _, back = published.with_context_frames(*more, 2)
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(ours, theirs)
