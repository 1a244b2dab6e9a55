"""The published layout of a tokenizer: `config.json` and `diffusion_pytorch_model.safetensors` (names of `diffusers`).

Every tensor is used exactly once. There, matrices are transposed, kernels have their sides last, and the query, key
and value of a cross-attention are one tensor. A tokenizer with stem patches or fsq has the same names, except for the
codebooks, which fsq does not have; a patch pair has names of its own. Their config.json cannot hold all of the config.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tokenizer.config import TokenizerConfig
from tokenizer.errors import UserError
from tokenizer.train import abstract_params
from tokenizer.types import Params, Path

Transposition = Callable[[np.ndarray], np.ndarray]

_PARTS = {
    "context_encoder": "encoder",
    "context_decoder": "decoder",
    "future_encoder": "cond_encoder",
    "future_decoder": "cond_decoder",
    "patch_pair": "patch_pair",
    "context_to_code": "quant_conv",
    "context_from_code": "post_quant_conv",
    "future_to_code": "quant_linear",
    "future_from_code": "post_quant_linear",
    "context_quantizer": "quantize.embedding",
    "future_quantizer": "dynamics_quantize.embedding",
}
_MODULES = {
    "stem": "conv_in",
    "out_norm": "conv_norm_out",
    "layers": "resnets",
    "shortcut": "conv_shortcut",
    "mid": "mid_block",
    "cross_attentions": "cross_att_blocks",
    "query_norm": "q_norm",
    "context_norm": "kv_norm",
    "query_positions": "q_pos_emb",
    "context_positions": "kv_pos_emb",
    "kernel": "weight",
    "scale": "weight",
    "codebook": "weight",
}
_ENCODER = {"blocks": "down_blocks", "resample": "downsamplers.0.conv", "out": "conv_out"}
_DECODER = {"blocks": "up_blocks", "resample": "upsamplers.0.conv", "out": "conv_out"}
_SELF_ATTENTION = {
    "attention": "attentions.0",
    "norm": "group_norm",
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "out": "to_out.0",
}
_CROSS_ATTENTION = {"out": "att.out_proj"}
_PROJECTIONS = ("query", "key", "value")
_POINTWISE = ("context_to_code", "context_from_code", "shortcut")
"""Linear maps here that are 1x1 convolutions there."""


class PublishedError(UserError, ValueError):
    """A checkpoint that does not fit; the message names the tensor or the setting."""


class PublishedTensor(NamedTuple):
    """One published tensor: the parameters here whose values it holds, and how one of them is turned into its share."""

    paths: tuple[Path, ...]
    pack: Transposition
    unpack: Transposition


# --- config.json ------------------------------------------------------------------------------------------------------

_FIXED = {"act_fn": "silu", "in_channels": 3, "out_channels": 3, "norm_type": "group"}
"""What every published config.json says and this tokenizer always does."""

_FIELDS = {
    "block_out_channels": "channels",
    "context_length": "context_frames",
    "latent_channels": "latent_channels",
    "layers_per_block": "layers_per_block",
    "max_att_resolution": "max_attention_resolution",
    "mid_block_add_attention": "context_mid_attention",
    "norm_num_groups": "norm_groups",
    "num_dyn_embeddings": "future_codes",
    "num_vq_embeddings": "context_codes",
    "patch_size": "future_patch",
    "resolution": "resolution",
}


def to_config(published: Mapping[str, Any]) -> TokenizerConfig:
    """The config of a published config.json. Raises PublishedError for settings that are missing or do not fit."""
    differing = {name: published[name] for name, value in _FIXED.items() if published.get(name, value) != value}
    if published.get("vq_embed_dim") not in (None, published.get("latent_channels")):
        differing["vq_embed_dim"] = published["vq_embed_dim"]
    if differing:
        raise PublishedError(f"tokenizer/config.json: {differing} is not what this tokenizer computes")
    missing = sorted(_FIELDS.keys() - published.keys())
    if missing:
        raise PublishedError(f"tokenizer/config.json: {', '.join(missing)} missing")
    fields: dict[str, Any] = {ours: published[theirs] for theirs, ours in _FIELDS.items()}
    try:
        fields["channels"] = tuple(fields["channels"])
        return TokenizerConfig(**fields)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise PublishedError(f"tokenizer/config.json: {error}") from None


def from_config(config: TokenizerConfig) -> dict[str, Any]:
    """The config.json of a tokenizer, as far as that layout can say it."""
    levels = len(config.channels)
    fields = {theirs: getattr(config, ours) for theirs, ours in _FIELDS.items()}
    return (
        fields
        | _FIXED
        | {
            "_class_name": "CompressiveVQModel",
            "block_out_channels": list(config.channels),
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "vq_embed_dim": None,
        }
    )


# --- tensors ----------------------------------------------------------------------------------------------------------


def import_params(config: TokenizerConfig, tensors: Mapping[str, np.ndarray]) -> Params:
    """Parameters from published tensors. Raises PublishedError for a missing, extra or misshapen one."""
    check("tokenizer", tensors, expected_shapes(config))
    return with_tensors(config, dict(nnx.to_flat_state(abstract_params(config))), tensors)


def with_tensors(config: TokenizerConfig, flat: dict[Path, Any], tensors: Mapping[str, np.ndarray]) -> Params:
    """Parameters by path, with those replaced that published tensors hold."""
    for name, tensor in tensors_by_name(config).items():
        if name not in tensors:
            continue
        shares = np.split(np.asarray(tensors[name], np.float32), len(tensor.paths))
        for path, share in zip(tensor.paths, shares, strict=True):
            flat[path] = flat[path].replace(jnp.asarray(tensor.unpack(share)))
    return nnx.from_flat_state(flat)


def export_params(config: TokenizerConfig, params: Params) -> dict[str, np.ndarray]:
    """The same parameters as published tensors; importing them again gives the very same bits."""
    flat = {path: np.asarray(variable[...]) for path, variable in nnx.to_flat_state(params)}
    return {
        name: np.ascontiguousarray(np.concatenate([tensor.pack(flat[path]) for path in tensor.paths]))
        for name, tensor in tensors_by_name(config).items()
    }


def with_context_frames(config: TokenizerConfig, params: Params, context_frames: int) -> tuple[TokenizerConfig, Params]:
    """The same tokenizer for another number of context frames C: only key positions depend on it.

    The last frames keep theirs: fewer frames drop the oldest frame's positions, more frames repeat them.
    """
    changed = dataclasses.replace(config, context_frames=context_frames)
    flat = dict(nnx.to_flat_state(params))
    for path, variable in flat.items():
        if path[-1] == "context_positions":
            frames = variable[...].reshape(config.context_frames, -1, variable.shape[-1])
            added = max(context_frames - config.context_frames, 0)
            frames = jnp.concatenate([jnp.repeat(frames[:1], added, axis=0), frames])[-context_frames:]
            flat[path] = variable.replace(frames.reshape(-1, variable.shape[-1]))
    return changed, nnx.from_flat_state(flat)


def check(part: str, tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise PublishedError unless the tensors are exactly the expected ones, naming the first that is not."""
    for name, shape in expected.items():
        if name not in tensors:
            raise PublishedError(f"{part} tensor '{name}' is missing: expected shape {shape}, found none")
        if tensors[name].shape != shape:
            raise PublishedError(f"{part} tensor '{name}': expected shape {shape}, found {tensors[name].shape}")
    for name in tensors:
        if name not in expected:
            raise PublishedError(
                f"{part} tensor '{name}' of shape {tensors[name].shape} has no place here: expected none"
            )


def expected_shapes(config: TokenizerConfig) -> dict[str, tuple[int, ...]]:
    """Of every published tensor of such a tokenizer, by its name."""
    flat, shapes = dict(nnx.to_flat_state(abstract_params(config))), dict[str, tuple[int, ...]]()
    for name, tensor in tensors_by_name(config).items():
        share = tensor.pack(np.broadcast_to(np.float32(0), flat[tensor.paths[0]].shape)).shape
        shapes[name] = (share[0] * len(tensor.paths), *share[1:])
    return shapes


def tensors_by_name(config: TokenizerConfig) -> dict[str, PublishedTensor]:
    """Every published tensor of such a tokenizer."""
    tensors_of: dict[str, PublishedTensor] = {}
    for path, variable in nnx.to_flat_state(abstract_params(config)):
        name = _name(path)
        paths: tuple[Path, ...] = (path,)
        if "cross_attentions" in path and path[-2] in _PROJECTIONS:
            if path[-2] != _PROJECTIONS[0]:
                continue
            paths = tuple((*path[:-2], projection, path[-1]) for projection in _PROJECTIONS)
        tensors_of[name] = PublishedTensor(paths, *_transposition(path, len(variable.shape)))
    return tensors_of


def _name(path: Path) -> str:
    """The published name of a parameter."""
    words = dict(_MODULES)
    if "attention" in path:
        words |= _SELF_ATTENTION
    elif "cross_attentions" in path:
        if path[-2] in _PROJECTIONS:
            end = {"kernel": "weight", "bias": "bias"}[path[-1]]
            return f"{_PARTS[path[0]]}.cross_att_blocks.{path[2]}.att.in_proj_{end}"
        words |= _CROSS_ATTENTION
    words = (_ENCODER if path[0].endswith("encoder") else _DECODER) | words
    return ".".join([_PARTS[path[0]], *(words.get(word, str(word)) for word in path[1:])])


def _transposition(path: Path, rank: int) -> tuple[Transposition, Transposition]:
    """How a parameter becomes its published form, and back."""
    if path[-1] != "kernel":
        return (lambda x: x), (lambda x: x)
    if rank == 4:
        return (lambda x: x.transpose(3, 2, 0, 1)), (lambda x: x.transpose(2, 3, 1, 0))
    if path[-2] in _POINTWISE:
        return (lambda x: x.T[:, :, None, None]), (lambda x: x[:, :, 0, 0].T)
    return (lambda x: x.T), (lambda x: x.T)
