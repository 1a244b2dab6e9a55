"""The arrays of a world model, and the modules made of them."""

from __future__ import annotations

import flax.struct
import jax

import tokenizer
from tokenizer import CompressiveTokenizer
from tokenizer.types import Params
from world_model import modules
from world_model.config import WorldModelConfig
from world_model.frame_predictor import FramePredictor
from world_model.transformer import Transformer


class WorldModelParams(flax.struct.PyTreeNode):
    """All that imagination needs."""

    tokenizer: Params
    transformer: Params


def tokenizer_of(config: WorldModelConfig, params: WorldModelParams) -> CompressiveTokenizer:
    """Cheap, also while tracing."""
    return tokenizer.merge(config.tokenizer, params.tokenizer)


def transformer_of(config: WorldModelConfig, params: WorldModelParams) -> Transformer:
    """Cheap, also while tracing."""
    return modules.merge_transformer(config.transformer, config.layout, params.transformer)


def predictor_of(config: WorldModelConfig, params: WorldModelParams) -> FramePredictor:
    """Cheap, also while tracing; of a model that decodes frames."""
    return modules.merge_predictor(config.transformer, config.layout, params.transformer)


def for_decoding(config: WorldModelConfig, params: WorldModelParams) -> WorldModelParams:
    """The same, with the transformer's matrices as a loop over tokens wants them."""
    return params.replace(transformer=modules.for_decoding(config.transformer, params.transformer))


def sizes(config: WorldModelConfig) -> dict[str, int]:
    """Numbers in the tokenizer and in the transformer, counted without allocating any."""
    parts = {
        "tokenizer": tokenizer.abstract_params(config.tokenizer),
        "transformer": modules.abstract(config.transformer, config.layout),
    }
    return {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in parts.items()}
