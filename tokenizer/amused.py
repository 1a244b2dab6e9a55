"""aMUSEd's VQ-VAE (`diffusers`' VQModel), from which the published 256 px tokenizer starts, as both pairs of ours.

Its layers become those of the context pair, and once more those of the future pair, as far as that has the same ones:
cross-attention, mid attention, the linear layers around the future codebook and that codebook stay as they begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from tokenizer.config import TokenizerConfig
from tokenizer.published import PublishedError, check, expected_shapes, tensors_by_name, with_tensors
from tokenizer.types import Params

CLASS_NAME = "VQModel"
"""What its config.json says it is."""
GRID = 16
"""Side of the latent map that the published tokenizers have."""
_FIXED = {"act_fn": "silu", "in_channels": 3, "out_channels": 3, "norm_type": "group", "mid_block_add_attention": False}
_FIELDS = {
    "block_out_channels": "channels",
    "latent_channels": "latent_channels",
    "layers_per_block": "layers_per_block",
    "norm_num_groups": "norm_groups",
    "num_vq_embeddings": "context_codes",
}
_COPIES = {"cond_encoder.": "encoder.", "cond_decoder.": "decoder."}
_OWN = ("cond_encoder.", "cond_decoder.", "quant_linear.", "post_quant_linear.", "dynamics_quantize.")
"""Tensors of the future pair, which a VQModel does not have under these names."""


def to_config(document: Mapping[str, Any]) -> TokenizerConfig:
    """The tokenizer that a VQModel's config.json describes half of; the other half is as published.

    Raises PublishedError for settings that are missing or that this tokenizer does not compute.
    """
    differing = {name: document[name] for name, value in _FIXED.items() if document.get(name, value) != value}
    if document.get("vq_embed_dim") not in (None, document.get("latent_channels")):
        differing["vq_embed_dim"] = document["vq_embed_dim"]
    if differing:
        raise PublishedError(f"config.json: {differing} is not what this tokenizer computes")
    if missing := sorted(_FIELDS.keys() - document.keys()):
        raise PublishedError(f"config.json: {', '.join(missing)} missing")
    fields: dict[str, Any] = {ours: document[theirs] for theirs, ours in _FIELDS.items()}
    try:
        fields["channels"] = tuple(fields["channels"])
        side = GRID * 2 ** (len(fields["channels"]) - 1)
        return TokenizerConfig(resolution=side, max_attention_resolution=32 if side >= 256 else 16, **fields)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise PublishedError(f"config.json: {error}") from None


def import_both_pairs(config: TokenizerConfig, fresh: Params, tensors: Mapping[str, np.ndarray]) -> Params:
    """`fresh` parameters with a VQModel's tensors in both pairs. Raises PublishedError for a missing, extra or
    misshapen one."""
    shapes = expected_shapes(config)
    check("VQModel", tensors, {name: shape for name, shape in shapes.items() if not name.startswith(_OWN)})
    chosen: dict[str, np.ndarray] = {}
    for name in tensors_by_name(config):
        prefix = next((prefix for prefix in _COPIES if name.startswith(prefix)), "")
        source = _COPIES.get(prefix, "") + name.removeprefix(prefix)
        if source in tensors and tensors[source].shape == shapes[name]:
            chosen[name] = tensors[source]
    return with_tensors(config, dict(nnx.to_flat_state(fresh)), chosen)
