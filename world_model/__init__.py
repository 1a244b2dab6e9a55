"""Tokens and actions to next tokens and rewards: the interactive world model of iVideoGPT (paper section 3)."""

from world_model.adapt import check_architecture, fit_params, pad_actions, with_reward_head
from world_model.card import ModelCard
from world_model.config import TransformerConfig, WorldModelConfig
from world_model.environment import ImaginedEnv, ImaginedVectorEnv
from world_model.imagination import Imagined, RolloutState, imagine, rollout
from world_model.layout import SequenceLayout
from world_model.model import WorldModel
from world_model.params import WorldModelParams, sizes
from world_model.scoring import detokenize, score, tokenize
from world_model.training import (
    TransformerState,
    WorldModelState,
    init,
    init_transformer,
    token_train_step,
    transformer_train_step,
)

__all__ = [
    "Imagined",
    "ImaginedEnv",
    "ImaginedVectorEnv",
    "ModelCard",
    "RolloutState",
    "SequenceLayout",
    "TransformerConfig",
    "TransformerState",
    "WorldModel",
    "WorldModelConfig",
    "WorldModelParams",
    "WorldModelState",
    "check_architecture",
    "detokenize",
    "fit_params",
    "imagine",
    "init",
    "init_transformer",
    "pad_actions",
    "rollout",
    "score",
    "sizes",
    "token_train_step",
    "tokenize",
    "transformer_train_step",
    "with_reward_head",
]
