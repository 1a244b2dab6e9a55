"""Frames to tokens and back: the compressive tokenizer of iVideoGPT (paper section 3.1)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizer.config import TokenizerConfig
    from tokenizer.model import CompressiveTokenizer, Context
    from tokenizer.optimizer import OptimizerConfig, make_optimizer
    from tokenizer.perceptual import PerceptualWeights, lpips
    from tokenizer.train import TokenizerState, abstract_params, discriminator_step, init, merge, train_step

__all__ = [
    "CompressiveTokenizer",
    "Context",
    "OptimizerConfig",
    "PerceptualWeights",
    "TokenizerConfig",
    "TokenizerState",
    "abstract_params",
    "discriminator_step",
    "init",
    "lpips",
    "make_optimizer",
    "merge",
    "train_step",
]

_MODULES = {
    "config": ("TokenizerConfig",),
    "model": ("CompressiveTokenizer", "Context"),
    "optimizer": ("OptimizerConfig", "make_optimizer"),
    "perceptual": ("PerceptualWeights", "lpips"),
    "train": ("TokenizerState", "abstract_params", "discriminator_step", "init", "merge", "train_step"),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: `tokenizer.errors` is everybody's, also where JAX is not installed or not needed."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"tokenizer.{module}"), name)
    raise AttributeError(f"module 'tokenizer' has no attribute {name!r}")
