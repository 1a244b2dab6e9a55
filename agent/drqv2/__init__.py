"""DrQ-v2 (Yarats et al., 2021): the actor-critic that learns from pixels, alone or inside MBPO."""

from agent.drqv2.acting import act, imagination_policy
from agent.drqv2.learner import (
    DrQv2Config,
    DrQv2Parameters,
    DrQv2State,
    LearnerBatch,
    actor_loss,
    cloning_distance,
    critic_loss,
    critic_target,
    explore,
    init,
    mean_action,
    noise_std,
    train_step,
    update,
)
from agent.drqv2.networks import NetworkConfig

__all__ = [
    "DrQv2Config",
    "DrQv2Parameters",
    "DrQv2State",
    "LearnerBatch",
    "NetworkConfig",
    "act",
    "actor_loss",
    "cloning_distance",
    "critic_loss",
    "critic_target",
    "explore",
    "imagination_policy",
    "init",
    "mean_action",
    "noise_std",
    "train_step",
    "update",
]
