"""The published layout of a transformer: `config.json` and `model.safetensors` (Hugging Face names).

Action-free: a LlamaForCausalLM. With actions or rewards: the same under `llm.`, and the layers beside it. Every tensor
is used exactly once; there, matrices are transposed, and each of our fused ones is several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from tokenizer.published import PublishedError, check
from tokenizer.types import Params, Path
from world_model import modules
from world_model.config import TransformerConfig
from world_model.layout import SequenceLayout

FIXED = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
    "tie_word_embeddings": False,
}
"""What every published config.json says and this transformer always does."""

REQUIRED = {
    "attention_dropout",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "rms_norm_eps",
}


def to_config(published: Mapping[str, Any], tensors: Mapping[str, np.ndarray], vocabulary: int) -> TransformerConfig:
    """The configuration that a config.json and the tensors beside it describe; the tokenizer says the vocabulary."""
    missing = sorted(REQUIRED - published.keys())
    if missing:
        raise PublishedError(f"transformer/config.json: {', '.join(missing)} missing")
    differing = {name: published[name] for name, value in FIXED.items() if published.get(name, value) != value}
    if published.get("num_key_value_heads", published["num_attention_heads"]) != published["num_attention_heads"]:
        differing["num_key_value_heads"] = published["num_key_value_heads"]
    if differing:
        raise PublishedError(f"transformer/config.json: {differing} is not what this transformer computes")
    if published.get("vocab_size", vocabulary) != vocabulary:
        raise PublishedError(
            f"transformer/config.json: vocab_size is {published['vocab_size']}, "
            f"but the tokenizer's codes and slots are {vocabulary}"
        )
    action_size = _action_size(published["hidden_size"], tensors)
    try:
        return TransformerConfig(
            layers=published["num_hidden_layers"],
            width=published["hidden_size"],
            heads=published["num_attention_heads"],
            feed_forward=published["intermediate_size"],
            max_positions=published["max_position_embeddings"],
            dropout=published["attention_dropout"],
            action_size=action_size,
            reward_head=_has_layer(tensors, "reward_linear"),
            action_head=_has_layer(tensors, "action_recon_linear"),
            norm_epsilon=published["rms_norm_eps"],
            rotary_base=published.get("rope_theta", 10_000.0),
            initial_std=published.get("initializer_range", 0.02),
        )
    except (TypeError, ValueError, ArithmeticError) as error:
        raise PublishedError(f"transformer/config.json: {error}") from None


def _has_layer(tensors: Mapping[str, np.ndarray], name: str) -> bool:
    return any(tensor.startswith(f"{name}.") for tensor in tensors)


def _action_size(width: int, tensors: Mapping[str, np.ndarray]) -> int:
    """A, which only the action layer's weight says; 0 where nothing says that there is such a layer."""
    if "action_linear.weight" in tensors:
        return int(np.atleast_1d(tensors["action_linear.weight"]).shape[-1])
    beside = _has_layer(tensors, "llm") and not _has_layer(tensors, "reward_linear")
    if beside or _has_layer(tensors, "action_linear"):
        raise PublishedError(
            f"transformer tensor 'action_linear.weight' is missing: expected shape ({width}, action size), found none"
        )
    return 0


def from_config(config: TransformerConfig, vocabulary: int) -> dict[str, Any]:
    """The config.json of a transformer; the sizes of the layers beside it are in the tensors."""
    return FIXED | {
        "architectures": ["LlamaForCausalLM"],
        "attention_dropout": config.dropout,
        "hidden_size": config.width,
        "initializer_range": config.initial_std,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.max_positions,
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.heads,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rotary_base,
        "torch_dtype": "float32",
        "vocab_size": vocabulary,
    }


def _names(config: TransformerConfig, paths: Iterable[Path]) -> list[tuple[Path, tuple[str, ...], bool]]:
    """One row per parameter: its path here, the published tensors it is made of, whether they are transposed.

    A frame predictor, which nobody has published, has the names that its parameters have here.
    """
    if config.decoding == "frames":
        return [(path, (".".join(map(str, path)),), False) for path in paths]
    llama = "llm." if config.action_size or config.reward_head else ""
    rows: list[tuple[Path, tuple[str, ...], bool]] = [
        (("embedding", "embedding"), (f"{llama}model.embed_tokens.weight",), False),
        (("norm", "scale"), (f"{llama}model.norm.weight",), False),
        (("head", "kernel"), (f"{llama}lm_head.weight",), True),
    ]
    for i in range(config.layers):
        block, layer = ("blocks", i), f"{llama}model.layers.{i}"
        qkv = tuple(f"{layer}.self_attn.{name}_proj.weight" for name in "qkv")
        gate_and_up = (f"{layer}.mlp.gate_proj.weight", f"{layer}.mlp.up_proj.weight")
        rows += [
            ((*block, "attention_norm", "scale"), (f"{layer}.input_layernorm.weight",), False),
            ((*block, "attention", "qkv", "kernel"), qkv, True),
            ((*block, "attention", "output", "kernel"), (f"{layer}.self_attn.o_proj.weight",), True),
            ((*block, "feed_forward_norm", "scale"), (f"{layer}.post_attention_layernorm.weight",), False),
            ((*block, "feed_forward", "gate_and_up", "kernel"), gate_and_up, True),
            ((*block, "feed_forward", "down", "kernel"), (f"{layer}.mlp.down_proj.weight",), True),
        ]
    beside = {
        "action": bool(config.action_size),
        "action_recon": config.action_head,
        "reward": config.reward_head,
    }
    for ours, theirs in ((name, f"{name}_linear") for name, present in beside.items() if present):
        rows += [((ours, "kernel"), (f"{theirs}.weight",), True), ((ours, "bias"), (f"{theirs}.bias",), False)]
    if config.reward_networks:  # ours alone
        rows += [
            (("reward_ensemble", layer, name), (f"reward_ensemble.{layer}.{name}",), False)
            for layer in ("inner", "outer")
            for name in ("kernel", "bias")
        ]
    if config.place_embedding:  # ours alone; the published transformers have none
        rows.append((("place", "embedding"), ("place_embedding.weight",), False))
    return rows


def _expected_shapes(config: TransformerConfig, layout: SequenceLayout) -> dict[str, tuple[int, ...]]:
    """The published name and shape of every tensor."""
    flat = dict(nnx.to_flat_state(modules.abstract(config, layout)))
    shapes: dict[str, tuple[int, ...]] = {}
    for path, names, transposed in _names(config, flat):
        shape = flat[path].shape
        part = (*shape[:-1], shape[-1] // len(names))
        shapes |= {name: part[::-1] if transposed else part for name in names}
    return shapes


def import_params(config: TransformerConfig, layout: SequenceLayout, tensors: Mapping[str, np.ndarray]) -> Params:
    """Parameters from published tensors. Raises PublishedError for a missing, extra or misshapen one."""
    check("transformer", tensors, _expected_shapes(config, layout))
    flat = dict(nnx.to_flat_state(modules.abstract(config, layout)))
    params: dict[Path, np.ndarray] = {}
    for path, names, transposed in _names(config, flat):
        parts = [tensors[name].astype(np.float32) for name in names]
        params[path] = np.concatenate([part.T if transposed else part for part in parts], axis=-1)
    return nnx.from_flat_state([(path, variable.replace(params[path])) for path, variable in flat.items()])


def export_params(config: TransformerConfig, params: Params) -> dict[str, np.ndarray]:
    """The same parameters as published tensors; importing them again gives the very same bits."""
    flat = {path: np.asarray(variable[...]) for path, variable in nnx.to_flat_state(params)}
    tensors: dict[str, np.ndarray] = {}
    for path, names, transposed in _names(config, flat):
        for name, part in zip(names, np.split(flat[path], len(names), axis=-1), strict=True):
            tensors[name] = np.ascontiguousarray(part.T if transposed else part)
    return tensors
