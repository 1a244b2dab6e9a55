"""Is the world model real? Imagination against held-out real segments, and against two ways of being wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import world_model
from agent.replay import Episode, segment
from world_model import WorldModelConfig


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Squared pixel errors (frames in [0, 1]) over B segments and F future frames, with frames of M segments to look at.

    imagined: the segment's own actions. repeat: the last context frame, held still. swapped: another episode's actions,
    None of a model without actions.
    """

    segments: int
    mse_imagined_f: np.ndarray  # float [F]
    mse_repeat_f: np.ndarray  # float [F]
    mse_swapped_f: np.ndarray | None  # float [F]
    moving_mse_imagined: float  # over pixels that differ from the last context frame by more than MOVING
    moving_mse_repeat: float
    moving_mse_swapped: float | None
    reward_mae: float | None  # mean absolute error of the imagined reward, own units; None of a model without rewards
    context_frames: np.ndarray  # uint8 [M, C, H, W, 3]
    real_frames: np.ndarray  # uint8 [M, F, H, W, 3]
    imagined_frames: np.ndarray  # uint8 [M, F, H, W, 3]
    swapped_frames: np.ndarray | None  # uint8 [M, F, H, W, 3]

    @property
    def mse_imagined(self) -> float:
        return float(self.mse_imagined_f.mean())

    @property
    def mse_repeat(self) -> float:
        return float(self.mse_repeat_f.mean())

    @property
    def mse_swapped(self) -> float | None:
        return None if self.mse_swapped_f is None else float(self.mse_swapped_f.mean())

    @property
    def imagined_wins_repeat(self) -> bool:
        return self.mse_imagined < self.mse_repeat

    @property
    def imagined_wins_swapped(self) -> bool | None:
        return None if self.mse_swapped is None else self.mse_imagined < self.mse_swapped


MOVING = 0.1
"""A pixel moves where any colour differs from the last context frame by more than this."""


def compare(
    context_bchwc: np.ndarray,
    real_bfhwc: np.ndarray,
    imagined_bfhwc: np.ndarray,
    swapped_bfhwc: np.ndarray | None,
    real_rewards_bf: np.ndarray,
    imagined_rewards_bf: np.ndarray | None,
    shown: int = 3,
) -> Comparison:
    """All frames uint8 [B, ., H, W, 3], the last context frame being the newest; rewards float [B, F] in their own units.

    swapped_bfhwc, imagined_rewards_bf: None of a model without actions, without rewards.
    """
    real = real_bfhwc.astype(np.float32) / 255
    last = context_bchwc[:, -1:].astype(np.float32) / 255
    moving = (np.abs(real - last) > MOVING).any(-1)

    def errors(predicted: np.ndarray) -> tuple[np.ndarray, float]:
        squared = np.square(predicted - real)
        moved = float(squared[moving].mean()) if moving.any() else 0.0
        return squared.mean(axis=(0, 2, 3, 4)), moved

    imagined_f, moving_imagined = errors(imagined_bfhwc.astype(np.float32) / 255)
    repeat_f, moving_repeat = errors(np.broadcast_to(last, real.shape))
    swapped_f, moving_swapped = (None, None) if swapped_bfhwc is None else errors(swapped_bfhwc.astype(np.float32) / 255)
    most_motion = np.argsort(-moving.sum(axis=(1, 2, 3)), kind="stable")[:shown]
    return Comparison(
        segments=len(real),
        mse_imagined_f=imagined_f,
        mse_repeat_f=repeat_f,
        mse_swapped_f=swapped_f,
        moving_mse_imagined=moving_imagined,
        moving_mse_repeat=moving_repeat,
        moving_mse_swapped=moving_swapped,
        reward_mae=None if imagined_rewards_bf is None else float(np.abs(real_rewards_bf - imagined_rewards_bf).mean()),
        context_frames=context_bchwc[most_motion],
        real_frames=real_bfhwc[most_motion],
        imagined_frames=imagined_bfhwc[most_motion],
        swapped_frames=None if swapped_bfhwc is None else swapped_bfhwc[most_motion],
    )


def evaluate_model(
    config: WorldModelConfig, params: Any, held_out: Sequence[Episode], horizon: int, per_episode: int = 4
) -> Comparison:
    """Imagine the most likely future of held-out segments, with their own actions and with another episode's.

    Segments start evenly over each of the episodes (at least two, none of them trained on); a segment's swapped actions
    are those of the next episode at the same time, so that both come from the same phase of the task. The goal of a
    goal-conditioned model is the frame after the imagined ones.
    """
    if len(held_out) < 2:
        raise ValueError(f"{len(held_out)} held-out episodes: swapping actions needs two or more")
    layout, length = config.layout, config.tokenizer.context_frames + horizon
    rows, swapped = [], []
    for index, episode in enumerate(held_out):
        other = held_out[(index + 1) % len(held_out)]
        for start in np.linspace(0, min(len(episode.frames), len(other.frames)) - length, per_episode).astype(int):
            rows.append(segment(episode, int(start), length))
            swapped.append(segment(other, int(start), length)[1])
    frames, actions, rewards = (np.stack(column) for column in zip(*rows, strict=True))
    given, goal = frames[:, : layout.frames_before], frames[:, -1] if config.goal_conditioned else None

    def imagined(actions_bta: np.ndarray) -> world_model.Imagined:
        actions_bfa = layout.future_actions(actions_bta, horizon)
        return world_model.rollout(config, params, given, actions_bfa, jax.random.key(0), temperature=0.0, goal_bhwc=goal)

    own = imagined(actions)
    other = imagined(np.stack(swapped)) if config.transformer.action_size else None
    return compare(
        given,
        frames[:, layout.frames_before :][:, :horizon],
        np.asarray(own.frames_bfhwc),
        None if other is None else np.asarray(other.frames_bfhwc),
        layout.future_rewards(rewards),
        None if own.rewards_bf is None else np.asarray(own.rewards_bf),
    )
