"""Is the world model real? Imagination against held-out real segments, and against two ways of being wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import world_model
from agent.events import Clock, Event
from agent.replay import Episode, segment
from world_model import WorldModelConfig


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Squared pixel errors (frames in [0, 1]) over B segments and F future frames, and frames of M segments to show.

    imagined: the segment's own actions. copy_last: the last context frame, held still. shuffled_actions: another
    episode's actions; None for a model without actions.
    """

    segments: int
    mse_imagined_f: np.ndarray  # float [F]
    mse_copy_last_f: np.ndarray  # float [F]
    mse_shuffled_actions_f: np.ndarray | None  # float [F]
    moving_mse_imagined: float  # over pixels that differ from the last context frame by more than MOVING
    moving_mse_copy_last: float
    moving_mse_shuffled_actions: float | None
    reward_mae: float | None  # mean absolute error of the imagined reward, own units; None for a model without rewards
    context_frames: np.ndarray  # uint8 [M, C, H, W, 3]
    real_frames: np.ndarray  # uint8 [M, F, H, W, 3]
    imagined_frames: np.ndarray  # uint8 [M, F, H, W, 3]
    shuffled_actions_frames: np.ndarray | None  # uint8 [M, F, H, W, 3]

    @property
    def mse_imagined(self) -> float:
        return float(self.mse_imagined_f.mean())

    @property
    def mse_copy_last(self) -> float:
        return float(self.mse_copy_last_f.mean())

    @property
    def mse_shuffled_actions(self) -> float | None:
        return None if self.mse_shuffled_actions_f is None else float(self.mse_shuffled_actions_f.mean())

    @property
    def beats_copy_last(self) -> bool:
        return self.mse_imagined < self.mse_copy_last

    @property
    def beats_shuffled_actions(self) -> bool | None:
        return None if self.mse_shuffled_actions is None else self.mse_imagined < self.mse_shuffled_actions


@dataclasses.dataclass(frozen=True)
class ModelEvaluated(Event):
    """Imagination against held-out real segments."""

    clock: Clock
    comparison: Comparison


MOVING = 0.1
"""A pixel moves where any colour differs from the last context frame by more than this."""


def compare(
    context_bchwc: np.ndarray,
    real_bfhwc: np.ndarray,
    imagined_bfhwc: np.ndarray,
    shuffled_actions_bfhwc: np.ndarray | None,
    real_rewards_bf: np.ndarray,
    imagined_rewards_bf: np.ndarray | None,
    shown: int = 3,
) -> Comparison:
    """All frames are uint8 [B, ., H, W, 3], the last context frame the newest; rewards float [B, F] in their own units.

    shuffled_actions_bfhwc, imagined_rewards_bf: None for a model without actions, without rewards.
    """
    real = real_bfhwc.astype(np.float32) / 255
    last = context_bchwc[:, -1:].astype(np.float32) / 255
    moving = (np.abs(real - last) > MOVING).any(-1)

    def errors(predicted: np.ndarray) -> tuple[np.ndarray, float]:
        squared = np.square(predicted - real)
        moved = float(squared[moving].mean()) if moving.any() else 0.0
        return squared.mean(axis=(0, 2, 3, 4)), moved

    imagined_f, moving_imagined = errors(imagined_bfhwc.astype(np.float32) / 255)
    copy_last_f, moving_copy_last = errors(np.broadcast_to(last, real.shape))
    shuffled_f, moving_shuffled = (
        (None, None) if shuffled_actions_bfhwc is None else errors(shuffled_actions_bfhwc.astype(np.float32) / 255)
    )
    most_motion = np.argsort(-moving.sum(axis=(1, 2, 3)), kind="stable")[:shown]
    return Comparison(
        segments=len(real),
        mse_imagined_f=imagined_f,
        mse_copy_last_f=copy_last_f,
        mse_shuffled_actions_f=shuffled_f,
        moving_mse_imagined=moving_imagined,
        moving_mse_copy_last=moving_copy_last,
        moving_mse_shuffled_actions=moving_shuffled,
        reward_mae=None if imagined_rewards_bf is None else float(np.abs(real_rewards_bf - imagined_rewards_bf).mean()),
        context_frames=context_bchwc[most_motion],
        real_frames=real_bfhwc[most_motion],
        imagined_frames=imagined_bfhwc[most_motion],
        shuffled_actions_frames=None if shuffled_actions_bfhwc is None else shuffled_actions_bfhwc[most_motion],
    )


def evaluate_model(
    config: WorldModelConfig, params: Any, held_out: Sequence[Episode], horizon: int, per_episode: int = 4
) -> Comparison:
    """Imagine the most likely future of held-out segments, with their own actions and with another episode's.

    Segments start evenly over each of the episodes (at least two, none of them trained on). A segment's shuffled
    actions are those of the next episode at the same time, so that both come from the same phase of the task. The goal
    of a goal-conditioned model is the frame after the imagined ones.
    """
    if len(held_out) < 2:
        raise ValueError(f"{len(held_out)} held-out episodes: shuffling actions needs two or more")
    layout, length = config.layout, config.tokenizer.context_frames + horizon
    rows, shuffled = [], []
    for index, episode in enumerate(held_out):
        other = held_out[(index + 1) % len(held_out)]
        for start in np.linspace(0, min(len(episode.frames), len(other.frames)) - length, per_episode).astype(int):
            rows.append(segment(episode, int(start), length))
            shuffled.append(segment(other, int(start), length)[1])
    frames, actions, rewards = (np.stack(column) for column in zip(*rows, strict=True))
    given, goal = frames[:, : layout.frames_before], frames[:, -1] if config.goal_conditioned else None

    def imagined(actions_bta: np.ndarray) -> world_model.Imagined:
        actions_bfa = layout.future_actions(actions_bta, horizon)
        return world_model.rollout(
            config, params, given, actions_bfa, jax.random.key(0), temperature=0.0, goal_bhwc=goal
        )

    own = imagined(actions)
    other = imagined(np.stack(shuffled)) if config.transformer.action_size else None
    return compare(
        given,
        frames[:, layout.frames_before :][:, :horizon],
        np.asarray(own.frames_bfhwc),
        None if other is None else np.asarray(other.frames_bfhwc),
        layout.future_rewards(rewards),
        None if own.rewards_bf is None else np.asarray(own.rewards_bf),
    )
