"""Frames to tokens and back: the compressive tokenizer of iVideoGPT (paper section 3.1)."""

from tokenizer.config import TokenizerConfig
from tokenizer.model import CompressiveTokenizer, Context
from tokenizer.optimizer import OptimizerConfig, make_optimizer
from tokenizer.perceptual import PerceptualWeights, lpips
from tokenizer.train import TokenizerState, abstract_params, init, merge, train_step

__all__ = [
    "CompressiveTokenizer",
    "Context",
    "OptimizerConfig",
    "PerceptualWeights",
    "TokenizerConfig",
    "TokenizerState",
    "abstract_params",
    "init",
    "lpips",
    "make_optimizer",
    "merge",
    "train_step",
]
