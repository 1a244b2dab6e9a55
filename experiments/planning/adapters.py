"""The world model as other projects' planners call theirs. Neither project is needed here, nor is PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from agent import planning
from agent.planning import Cost, Moment, PlannerConfig
from experiments.errors import UsageError
from world_model import WorldModel


class VP2Model:
    """A model for the planners of VP2 (Tian et al., 2023): called with a batch, it returns predicted video."""

    base_prediction_modality = "rgb"

    def __init__(self, model: WorldModel, max_batch_size: int | None = None):
        self.model, self.max_batch_size = model, max_batch_size
        self.num_context = model.config.layout.frames_before

    def __call__(self, batch: Mapping[str, Any], grad_enabled: bool = False) -> dict[str, np.ndarray]:
        """batch: `video` [B, C, H, W, 3] in [0, 1] or uint8, `actions` [B, C - 1 + F, A], the first C - 1 of which led
        from one frame of the video to the next; whatever else is in it is not looked at.

        Returns `rgb` float32 [B, C - 1 + F, H, W, 3] in [0, 1]: the frame after each action, the given ones as they
        are. Raises UsageError for other shapes, and where gradients are asked for.
        """
        if grad_enabled:
            raise UsageError("this world model gives planners no gradients: use CEM or MPPI")
        video, actions = _as_frames(batch["video"]), _array(batch["actions"]).astype(np.float32)
        given = self.num_context
        if video.ndim != 5 or video.shape[1] != given or actions.shape[1] < given:
            raise UsageError(
                f"video {video.shape} and actions {actions.shape}: expected {given} frames and at least {given} actions"
            )
        made = self.model.rollout(
            video, actions[:, given - 1 :], jax.random.key(0), temperature=0.0, max_batch=self.max_batch_size
        )
        return {"rgb": np.concatenate([video[:, 1:], np.asarray(made.frames, np.float32) / 255], axis=1)}

    def close(self) -> None:
        """VP2 calls it at the end; there is nothing to close."""


class CostModel:
    """A model for the solvers of stable-worldmodel, which minimise `get_cost`."""

    def __init__(self, model: WorldModel, cost: Cost = Cost(), action_block: int = 1, max_batch: int | None = None):
        """action_block: as its PlanConfig's; so many actions of an agent step each are one action of the solver."""
        self.model, self.cost, self.action_block, self.max_batch = model, cost, action_block, max_batch
        self.action_size = model.config.transformer.action_size

    def get_cost(self, info_dict: Mapping[str, Any], action_candidates: Any) -> Any:
        """Costs [B, N] of candidates [B, N, horizon, action_block x A], as a tensor of their kind, on their device.

        info_dict: `pixels` [B, N, T, H, W, 3] and `goal` the same, channels last or first, uint8 or in [0, 1], the
        newest last and equal for all N; whatever else is in it is not looked at. Where T is smaller than the model's
        context, as in all of stable-worldmodel's own environments, the first picture stands for those before it.
        Actions beyond [-1, 1] are clipped. Raises UsageError for other shapes, where there is no goal's picture, and
        where gradients are asked for.
        """
        if getattr(action_candidates, "requires_grad", False):
            raise UsageError("this world model gives solvers no gradients: use CEMSolver, ICEMSolver or MPPISolver")
        if missing := {"pixels", "goal"} - info_dict.keys():
            raise UsageError(
                f"the environment's info lacks {' and '.join(sorted(missing))}: evaluate from a data set, or wrap the "
                "environment so that info holds a picture of the goal"
            )
        candidates = _array(action_candidates).astype(np.float32)
        b, n, horizon, size = candidates.shape
        if size != self.action_block * self.action_size:
            raise UsageError(
                f"actions of {size} numbers: expected {self.action_size} x {self.action_block} (action_block)"
            )
        each_step = np.clip(candidates, -1, 1).reshape(b, n, horizon * self.action_block, self.action_size)
        costs = np.stack([self._costs(info_dict, index, each_step[index]) for index in range(b)])
        return action_candidates.new_tensor(costs)

    criterion = get_cost
    """The protocol's other name for it."""

    def _costs(self, info_dict: Mapping[str, Any], index: int, candidates_nfa: np.ndarray) -> np.ndarray:
        """Of one environment, [N]."""
        side = self.model.config.tokenizer.resolution
        frames, goal = (_as_frames(_of_size(side, info_dict[name][index][0])) for name in ("pixels", "goal"))
        given = self.model.config.layout.frames_before
        frames = np.concatenate([frames[:1].repeat(max(given - len(frames), 0), axis=0), frames])[-given:]
        n, steps = candidates_nfa.shape[:2]
        settings = PlannerConfig(samples=n, elites=1, horizon=steps, execute=1)
        costs = planning.LearnedFutures(self.model.config, self.model.params, settings, self.cost, self.max_batch)
        return costs.costs(Moment(frames, None), planning.goal_of(goal[-1]), candidates_nfa)


def _array(values: Any) -> np.ndarray:
    """An array, or a tensor of PyTorch, wherever it is."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _of_size(side: int, frames: Any) -> np.ndarray:
    """Frames [T, side, side, 3] of these or of [T, 3, side, side]. Raises UsageError for other shapes."""
    frames = _array(frames)
    if frames.ndim == 4 and frames.shape[-1] != 3 and frames.shape[1] == 3:
        frames = frames.transpose(0, 2, 3, 1)
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise UsageError(f"pictures {frames.shape}: expected [T, H, W, 3] or [T, 3, H, W] of each environment")
    if frames.shape[1:3] != (side, side):
        raise UsageError(
            f"pictures of {frames.shape[1]} x {frames.shape[2]} pixels: the model sees {side} x {side}, as in "
            f"World(..., image_shape=({side}, {side}))"
        )
    return frames


def _as_frames(frames: Any) -> np.ndarray:
    """float32 in [0, 1]. Raises UsageError for what is out of it, as normalised pictures are."""
    frames = _array(frames)
    if frames.dtype == np.uint8:
        return frames.astype(np.float32) / 255
    if frames.min() < 0 or frames.max() > 1:
        raise UsageError(f"pictures from {frames.min():g} to {frames.max():g}: expected uint8, or [0, 1] unnormalised")
    return frames.astype(np.float32)
