"""Imagination as a gymnasium environment: any reinforcement-learning library can train inside the model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from jax import Array

from world_model.checks import check_actions
from world_model.config import WorldModelConfig
from world_model.frames import to_uint8
from world_model.imagination import RolloutState, next_frame
from world_model.model import WorldModel
from world_model.params import WorldModelParams, for_decoding
from world_model.sampling import check_sampling

METADATA = {"render_modes": ["rgb_array"], "render_fps": 10}

Stepped = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]
"""Observations, rewards, terminations, truncations, infos: what gymnasium's `step` returns."""


@functools.partial(jax.jit, static_argnames=("config", "temperature", "top_k"), donate_argnames="state")
def _advance(
    config: WorldModelConfig,
    params: WorldModelParams,
    state: RolloutState,
    actions_ba: Array,
    key: Array,
    temperature: float,
    top_k: int | None,
) -> tuple[RolloutState, Array, Array]:
    """The next frames uint8 [B, H, W, 3] and rewards [B]; the state is consumed, so that its cache is not copied."""
    state, new = next_frame(config, for_decoding(config, params), state, actions_ba, key, temperature, top_k)
    assert new.reward_b is not None  # an environment takes a model with a reward head
    return state, to_uint8(new.frame_bhwc), new.reward_b


class ImaginedVectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` imagined episodes side by side, each from a real context drawn at random.

    Observations are the newest frames, uint8 [num_envs, H, W, 3], first the context's last one; actions float32
    [num_envs, A], clipped to [-1, 1] as the simulator does; rewards float64 in their own units. All episodes begin
    together and are truncated together, after `horizon` steps: nothing terminates, and whether an episode succeeded is
    unknown, so no info says it. What a reset returns has infos["context"], int64 [num_envs]: the indices of the
    contexts; reset(options={"contexts": indices}) chooses them.
    """

    render_mode = "rgb_array"

    def __init__(
        self,
        model: WorldModel,
        contexts: np.ndarray,
        horizon: int,
        num_envs: int,
        seed: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = 100,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    ):
        """contexts: uint8 [M, S, H, W, 3], of which the model sees the last C frames.

        seed: as for `reset`, until a reset gives another. autoreset_mode: as in gymnasium; with NEXT_STEP, its default,
        the step after the last begins new episodes and ignores its actions; with SAME_STEP the last step does, and has
        the last frames in infos["final_obs"]. Raises ValueError where the model cannot be played, or not for so long.
        """
        self.model, self.contexts, self.horizon, self.num_envs = model, np.asarray(contexts), horizon, num_envs
        self.sampling: dict[str, Any] = {"temperature": temperature, "top_k": top_k}
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**METADATA, "autoreset_mode": self.autoreset_mode}
        self._check()
        side, actions = model.config.tokenizer.resolution, model.config.transformer.action_size
        self.single_observation_space = gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.single_action_space = gymnasium.spaces.Box(-1, 1, (actions,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._state: RolloutState | None = None
        super().reset(seed=seed)

    def _check(self) -> None:
        config = self.model.config
        config.check_horizon(self.horizon)
        check_sampling(**self.sampling)
        _require(self.horizon > 0 and self.num_envs > 0, f"{self.num_envs} episodes of {self.horizon} steps: none")
        _require(config.transformer.action_size > 0, "this model takes no actions: there is nothing to play")
        _require(config.transformer.reward_head, "this model predicts no rewards: there is nothing to learn from")
        _require(not config.goal_conditioned, "this model predicts from a goal, which an environment does not have")
        found, side, frames = self.contexts, config.tokenizer.resolution, config.tokenizer.context_frames
        fits = found.ndim == 5 and found.shape[1] >= frames and found.shape[2:] == (side, side, 3) and len(found) > 0
        _require(
            fits and found.dtype == np.uint8,
            f"contexts are {found.dtype} {found.shape}: "
            f"expected uint8 [M, S, {side}, {side}, 3] with S at least {frames}",
        )

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin all episodes. options: `contexts`, int [num_envs]. ValueError for a `reset_mask` that omits one."""
        super().reset(seed=seed)
        options = options or {}
        together = bool(np.all(options.get("reset_mask", True)))
        _require(together, "imagined episodes run side by side: reset all of them or none")
        return self._begin(options.get("contexts"))

    def step(self, actions: np.ndarray) -> Stepped:
        """Imagine the frames that the actions [num_envs, A] lead to."""
        if self._state is None:
            raise ResetNeeded("an imagined episode begins with a reset")
        if self._steps == self.horizon:
            return self._after_the_end()
        actions = np.asarray(actions, np.float32)
        _require(
            actions.shape == self.action_space.shape,
            f"actions of shape {actions.shape}: expected {self.action_space.shape}",
        )
        check_actions(actions)
        key = jax.random.fold_in(self._key, self._steps)
        self._state, frames, rewards = _advance(
            self.model.config, self.model.params, self._state, jnp.clip(actions, -1, 1), key, **self.sampling
        )
        self._steps += 1
        # Copies, which a user may keep and change.
        self._frames, infos = np.array(frames), {}
        truncated = self._steps == self.horizon
        observations = self._frames.copy()
        if truncated and self.autoreset_mode is AutoresetMode.SAME_STEP:
            last = observations
            observations, infos = self._begin()
            for i in range(self.num_envs):
                infos = self._add_info(infos, {"final_obs": last[i], "final_info": {}}, i)
        return observations, np.array(rewards, np.float64), *self._ends(truncated), infos

    def _begin(self, chosen: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """The first observations and their infos; draws the key that all steps of these episodes draw from."""
        if chosen is None:
            chosen = self.np_random.integers(len(self.contexts), size=self.num_envs)
        chosen = np.array(chosen, np.int64)
        _require(chosen.shape == (self.num_envs,), f"{chosen.size} contexts chosen for {self.num_envs} episodes")
        self._key = jax.random.key(int(self.np_random.integers(2**31)))
        frames = self.contexts[chosen]
        self._state, self._steps, self._frames = self.model.reset(frames, self.horizon), 0, frames[:, -1]
        return self._frames.copy(), {"context": chosen, "_context": np.ones(self.num_envs, bool)}

    def _after_the_end(self) -> Stepped:
        if self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeeded(f"the imagined episodes ended after {self.horizon} steps: reset them")
        observations, infos = self._begin()
        return observations, np.zeros(self.num_envs), *self._ends(False), infos

    def _ends(self, truncated: bool) -> tuple[np.ndarray, np.ndarray]:
        """Terminations and truncations, bool [num_envs]."""
        return np.zeros(self.num_envs, bool), np.full(self.num_envs, truncated)

    def render(self) -> tuple[np.ndarray, ...]:
        """The newest frame of each episode, uint8 [H, W, 3]: what the newest observations show."""
        return tuple(self._frames.copy())


class ImaginedEnv(gymnasium.Env):
    """One imagined episode at a time, for libraries that take a plain environment: a view of a vector of one.

    ImaginedEnv(ImaginedVectorEnv(model, contexts, horizon, num_envs=1, autoreset_mode=AutoresetMode.DISABLED))
    """

    metadata = METADATA
    render_mode = "rgb_array"

    def __init__(self, vector: ImaginedVectorEnv):
        """Raises ValueError for a vector of several, or one that resets itself."""
        _require(
            vector.num_envs == 1 and vector.autoreset_mode is AutoresetMode.DISABLED,
            "a single imagined environment takes a vector of num_envs=1 and autoreset_mode=AutoresetMode.DISABLED",
        )
        self.vector = vector
        self.observation_space, self.action_space = vector.single_observation_space, vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The first observation uint8 [H, W, 3]; info["context"] and options["contexts"] as in the vector, of one."""
        observations, infos = self.vector.reset(seed=seed, options=options)
        self._np_random, self._np_random_seed = self.vector.np_random, self.vector.np_random_seed
        return observations[0], {"context": int(infos["context"][0])}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """action: [A]."""
        observations, rewards, _, truncations, _ = self.vector.step(np.asarray(action)[None])
        return observations[0], float(rewards[0]), False, bool(truncations[0]), {}

    def render(self) -> np.ndarray:
        """The newest frame, uint8 [H, W, 3]."""
        return self.vector.render()[0]


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
