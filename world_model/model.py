"""A world model as one object to load, play and save. Inside, training and imagination are pure functions."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tokenizer.types import AnyArray
from world_model import folder as folders
from world_model import imagination, pretrained, scoring, training
from world_model.adapt import with_action_size, with_context_frames
from world_model.attention import Cache
from world_model.card import ModelCard
from world_model.checks import check_actions, check_frames
from world_model.config import WorldModelConfig
from world_model.imagination import Imagined, RolloutState
from world_model.params import WorldModelParams


class WorldModel:
    """A configuration and its parameters; nothing in it changes.

    Frames are uint8 [0, 255] or float32 [0, 1], channels last; actions float32 in [-1, 1]; rewards in their own units.
    """

    def __init__(self, config: WorldModelConfig, params: WorldModelParams):
        self.config, self.params = config, params

    @classmethod
    def init(cls, config: WorldModelConfig, key: Array) -> WorldModel:
        """An untrained model."""
        return cls(config, training.init(config, key).params)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        context_frames: int | None = None,
        action_size: int | None = None,
        goal_conditioned: bool | None = None,
    ) -> WorldModel:
        """Read a folder in the published layout or one that `save` wrote, a finished run's model, a checkpoint that
        comes with the project by its name (laptop-metaworld), or a name on the Hugging Face hub (extra `hub`).

        Raises NotFound, a FileNotFoundError, where there is none, and as `world_model.folder.load` does.
        context_frames C and action_size A: change them from what the model was trained for, as `world_model.adapt`
        does; ValueError where that cannot be. goal_conditioned: whether the context begins with the
        goal, which no published file says; None: as `save` wrote it, no for a published folder.
        """
        config, params = folders.load(pretrained.find(os.fspath(source)))
        if context_frames is not None:
            config, params = with_context_frames(config, params, context_frames)
        if action_size is not None:
            config, params = with_action_size(config, params, action_size)
        if goal_conditioned is not None:
            config = dataclasses.replace(config, goal_conditioned=goal_conditioned)
        return cls(config, params)

    def save(
        self, folder: str | os.PathLike[str], card: ModelCard = ModelCard(), dtype: folders.DType = "float32"
    ) -> None:
        """Write a folder that `from_pretrained` reads back bit for bit; all of it appears at once.

        card: what its README.md says of data, licence and metrics. dtype: float16 halves the files and rounds the
        weights.
        """
        folders.save(folder, self.config, self.params, card, dtype)

    def push_to_hub(
        self,
        repo_id: str,
        card: ModelCard = ModelCard(),
        *,
        commit_message: str = "Push a world model",
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
    ) -> Any:
        """Upload what `save` writes to the Hugging Face hub (extra `hub`), where `from_pretrained(repo_id)` finds it.

        The arguments, and what is returned (the commit), are those of huggingface_hub's own `push_to_hub`. Raises
        NotFound where that package is missing, and as it does.
        """
        with tempfile.TemporaryDirectory() as beside:
            place = pathlib.Path(beside, "model")
            self.save(place, card)
            return pretrained.upload(
                place, repo_id, private=private, token=token, revision=revision, message=commit_message
            )

    def tokenize(self, frames: AnyArray) -> tuple[Array, Array]:
        """Tokens and labels, int32 [B, L] each, of frames [B, T, H, W, 3]; a label of -100 means no loss.

        Frames are in the order of time, also for a goal-conditioned model, whose goal is the last one.
        """
        check_frames(frames)
        return scoring.tokenize(self.config, self.params, frames)

    def detokenize(self, tokens: AnyArray) -> Array:
        """Frames float32 [B, T, H, W, 3] of tokens int32 [B, L]; not clipped."""
        return scoring.detokenize(self.config, self.params, tokens)

    def score(
        self, tokens: AnyArray, actions: AnyArray | None = None, context_frames: AnyArray | None = None
    ) -> tuple[Array, Array | None]:
        """Teacher forcing: logits [B, (n + 1) F, V] from the first [S2] on, rewards [B, F] or None.

        actions: [B, T or T - 1, A], counted over the whole segment; None for an action-free model. context_frames:
        [B, C, H, W, 3], which a model that decodes frames starts from; ValueError where it lacks them.
        """
        if actions is not None:
            check_actions(actions)
        if context_frames is not None:
            check_frames(context_frames, "context_frames")
        return scoring.score(self.config, self.params, tokens, actions, context_frames)

    def reset(self, context_frames: AnyArray, horizon: int | None = None, goal: AnyArray | None = None) -> RolloutState:
        """Begin to imagine after context frames [B, C, H, W, 3]. horizon: frames to leave room for; None: all that fit.

        goal: for a goal-conditioned model, the frame [B, H, W, 3] to arrive at; its context frames are [B, C - 1, ...].
        """
        self._check_given(context_frames, goal)
        fits = self.config.layout.longest_horizon(self.config.transformer.max_positions)
        return imagination.reset(self.config, self.params, context_frames, fits if horizon is None else horizon, goal)

    def step(
        self,
        state: RolloutState,
        action: AnyArray | None,
        key: Array,
        temperature: float = 1.0,
        top_k: int | None = 100,
    ) -> tuple[RolloutState, Array, Array | None]:
        """One frame further: the new state, the frame float32 [B, H, W, 3] in [0, 1], the reward [B] or None.

        action: [B, A]; None for an action-free model. The given state stays usable. Raises ValueError where the state
        has no room left.
        """
        self._check_room(state)
        if action is not None:
            check_actions(action, "the action")
        state, new = imagination.step(self.config, self.params, state, action, key, temperature, top_k)
        return state, new.frame_bhwc, new.reward_b

    def _check_given(self, context_frames: AnyArray, goal: AnyArray | None) -> None:
        check_frames(context_frames, "context_frames")
        if goal is not None:
            check_frames(goal, "the goal")

    def _check_room(self, state: RolloutState) -> None:
        if not isinstance(state.cache, Cache):
            return
        layout, length = self.config.layout, int(state.cache.length)
        if length + layout.frame_length > state.cache.positions:
            raise ValueError(
                f"this imagination is full after {layout.future_frames(length)} frames: reset it on newer frames, or "
                f"with a longer horizon (at most {layout.longest_horizon(self.config.transformer.max_positions)})"
            )

    def rollout(
        self,
        context_frames: AnyArray,
        actions: AnyArray | None,
        key: Array,
        temperature: float = 1.0,
        top_k: int | None = 100,
        horizon: int | None = None,
        max_batch: int | None = None,
        goal: AnyArray | None = None,
    ) -> Imagined:
        """Imagine under given actions [B, F, A]; `.frames` uint8, `.rewards`, `.tokens` of F frames.

        An action-free model takes None and a horizon F. max_batch: at most so many rows in memory at a time, as
        `world_model.rollout` does. goal: [B, H, W, 3], as in `reset`. Raises ValueError if the horizon does not fit.
        """
        self._check_given(context_frames, goal)
        if actions is not None:
            check_actions(actions)
        if actions is None:
            if horizon is None:
                raise ValueError("a rollout without actions needs a horizon")
            actions = jnp.zeros((len(context_frames), horizon, 0))
        elif horizon not in (None, actions.shape[1]):
            raise ValueError(f"a horizon of {horizon} with {actions.shape[1]} actions: leave one of them out")
        return imagination.rollout(
            self.config, self.params, context_frames, actions, key, temperature, top_k, max_batch, goal
        )

    def imagine(
        self,
        context_frames: AnyArray,
        policy: Callable[[Array, Array], Array],
        key: Array,
        horizon: int,
        temperature: float = 1.0,
        top_k: int | None = 100,
        max_batch: int | None = None,
        goal: AnyArray | None = None,
    ) -> Imagined:
        """Imagine under a policy, as `world_model.imagine` does; each new function object is compiled anew."""
        self._check_given(context_frames, goal)
        if not isinstance(policy, jax.tree_util.Partial):
            policy = jax.tree_util.Partial(policy)
        return imagination.imagine(
            self.config, self.params, context_frames, policy, key, horizon, temperature, top_k, max_batch, goal
        )
