"""aMUSEd's VQ-VAE in both pairs: what `diffusers` computes with made-up weights in that layout (tests/parity)."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments.errors import UsageError
from experiments.weights.import_weights import import_vqvae, import_weights
from tokenizer import OptimizerConfig, init, merge
from tokenizer.amused import import_both_pairs, to_config
from tokenizer.published import PublishedError
from world_model import TransformerConfig, WorldModel

DOCUMENT = {
    "_class_name": "VQModel", "act_fn": "silu", "block_out_channels": [8, 12], "in_channels": 3, "latent_channels": 4,
    "layers_per_block": 1, "mid_block_add_attention": False, "norm_num_groups": 4, "norm_type": "group",
    "num_vq_embeddings": 16, "out_channels": 3, "vq_embed_dim": None,
}  # fmt: skip
CONFIG = to_config(DOCUMENT)


@pytest.fixture(scope="module")
def golden():
    with np.load(pathlib.Path(__file__).parents[1] / "parity" / "golden" / "amused.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def tensors(golden):
    return {name.removeprefix("weights/"): golden[name].astype(np.float32) for name in golden if "weights/" in name}


@pytest.fixture(scope="module")
def fresh():
    return init(CONFIG, OptimizerConfig(), jax.random.key(0)).params


def without_attention(mid, x):
    for layer in mid.layers:
        x = layer(x)
    return x


def test_both_pairs_give_what_the_vq_vae_gives(golden, tensors, fresh):
    """The future pair's own attentions, which a VQ-VAE does not have, are left out here."""
    with jax.default_matmul_precision("highest"):
        tokenizer = merge(CONFIG, import_both_pairs(CONFIG, fresh, tensors))
        frames = jnp.asarray(golden["frames"], jnp.float32) / 255
        trunk, _ = tokenizer.context_encoder(frames)
        latents = tokenizer.context_to_code(trunk)
        decoded, _ = tokenizer.context_decoder(latents)
        made, _ = tokenizer.context_decoder(tokenizer.context_from_code(tokenizer.context_quantizer(latents).codes))
        encoder, decoder = tokenizer.future_encoder, tokenizer.future_decoder
        x = encoder._stem(frames)
        for block in encoder.blocks:
            x = block(x)
        future_trunk = encoder.out(jax.nn.silu(encoder.out_norm(without_attention(encoder.mid, x))))
        x = without_attention(decoder.mid, decoder._stem(latents))
        for block in decoder.blocks:
            x = block(x)
        future_decoded = decoder._output(x)
    pairs = {"trunk": (trunk, future_trunk), "decoded": (decoded, future_decoded), "latents": (latents,)}
    for name, found in (pairs | {"made": (made,)}).items():
        for array in found:
            np.testing.assert_allclose(array, golden[name], rtol=1e-3, atol=1e-3, err_msg=name)


def test_what_a_vq_vae_does_not_have_stays_as_it_began(tensors, fresh):
    params = import_both_pairs(CONFIG, fresh, tensors)
    for part in ("future_quantizer", "future_to_code", "future_from_code"):
        assert all(
            np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (params[part], fresh[part])), strict=True)
        )
    assert not np.array_equal(params["context_quantizer"]["codebook"][...], fresh["context_quantizer"]["codebook"][...])


def test_published_sizes_are_those_of_amused_at_256_pixels():
    large = to_config(DOCUMENT | {"block_out_channels": [128, 256, 256, 512, 768], "norm_num_groups": 32})
    assert (large.resolution, large.grid, large.max_attention_resolution) == (256, 16, 32)


def test_the_command_reads_the_folder_and_says_what_is_wrong_with_another(tensors, tmp_path):
    place = tmp_path / "amused" / "vqvae"
    place.mkdir(parents=True)
    save_file(tensors, place / "diffusion_pytorch_model.safetensors")
    (place / "config.json").write_text(json.dumps(DOCUMENT))
    small = TransformerConfig(layers=1, width=16, heads=2, feed_forward=16)
    import_vqvae(place, small).save(tmp_path / "model")
    read = WorldModel.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(
        read.params.tokenizer["context_quantizer"]["codebook"][...], tensors["quantize.embedding.weight"]
    )
    with pytest.raises(UsageError, match="is a VQ-VAE alone: leave out"):
        import_weights(str(tmp_path / "amused"), tmp_path / "other", context_frames=1)
    (place / "config.json").write_text(json.dumps(DOCUMENT | {"_class_name": "AutoencoderKL"}))
    with pytest.raises(UsageError, match="_class_name is not VQModel"):
        import_weights(str(tmp_path / "amused"), tmp_path / "other")
    with pytest.raises(PublishedError, match=r"VQModel tensor 'encoder.conv_in.weight' is missing"):
        import_both_pairs(CONFIG, {}, {name: x for name, x in tensors.items() if name != "encoder.conv_in.weight"})
