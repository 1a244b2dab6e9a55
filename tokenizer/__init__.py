"""Frames to tokens and back: the compressive tokenizer of iVideoGPT (paper section 3.1)."""

from tokenizer.config import TokenizerConfig
from tokenizer.model import CompressiveTokenizer, Context
from tokenizer.optimizer import OptimizerConfig, make_optimizer
from tokenizer.train import TokenizerState, abstract_params, init, merge, train_step

__all__ = [
    "CompressiveTokenizer",
    "Context",
    "OptimizerConfig",
    "TokenizerConfig",
    "TokenizerState",
    "abstract_params",
    "init",
    "make_optimizer",
    "merge",
    "train_step",
]
