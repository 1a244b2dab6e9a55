"""The module that a configuration asks for, and its parameters: the published transformer, or the frame predictor."""

from __future__ import annotations

import functools

from flax import nnx
from jax import Array

from tokenizer.types import Params
from world_model.config import TransformerConfig
from world_model.frame_predictor import FramePredictor
from world_model.layout import SequenceLayout
from world_model.transformer import Transformer


def _module(config: TransformerConfig, layout: SequenceLayout, rngs: nnx.Rngs) -> Transformer | FramePredictor:
    kind = FramePredictor if config.decoding == "frames" else Transformer
    return kind(config, layout, rngs=rngs)


@functools.lru_cache(maxsize=64)
def _graph(
    config: TransformerConfig, layout: SequenceLayout
) -> tuple[nnx.GraphDef[Transformer | FramePredictor], Params]:
    model = nnx.eval_shape(lambda: _module(config, layout, nnx.Rngs(0)))
    return nnx.split(model)


def abstract(config: TransformerConfig, layout: SequenceLayout) -> Params:
    """The parameters' names, shapes and dtypes, without any array."""
    return _graph(config, layout)[1]


def merge_transformer(config: TransformerConfig, layout: SequenceLayout, params: Params) -> Transformer:
    """The transformer with the given parameters; cheap, no initialisation."""
    module = nnx.merge(_graph(config, layout)[0], params)
    assert isinstance(module, Transformer)
    return module


def merge_predictor(config: TransformerConfig, layout: SequenceLayout, params: Params) -> FramePredictor:
    """The frame predictor with the given parameters."""
    module = nnx.merge(_graph(config, layout)[0], params)
    assert isinstance(module, FramePredictor)
    return module


def init_params(config: TransformerConfig, layout: SequenceLayout, key: Array) -> Params:
    """Fresh parameters."""
    return nnx.state(_module(config, layout, nnx.Rngs(key)), nnx.Param)


def for_decoding(config: TransformerConfig, params: Params) -> Params:
    """The same parameters with their matrices in the compute dtype.

    A loop that reads them all for every token should not convert them for every token.
    """
    if config.compute_dtype == "float32":
        return params
    flat = nnx.to_flat_state(params)
    return nnx.from_flat_state(
        (path, variable.replace(variable[...].astype(config.compute_dtype)))
        if path[0] in ("blocks", "head") and path[-1] == "kernel"
        else (path, variable)
        for path, variable in flat
    )
