"""Where imagined transitions come from: the learned world model, or what bounds it from above and from below.

`learned` is the algorithm. `simulator` asks a second simulator what really follows: the upper bound, which spends steps
that nobody counts. `copy-last` lets nothing change: the lower bound. All begin at the same contexts and act by the same
policy, so that whatever differs is the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

import world_model
from agent.episodes import Settable, clip_actions
from agent.replay import Contexts, Episode
from agent.true_dynamics import TrueDynamics
from world_model import WorldModelConfig, WorldModelParams

Policy = jax.tree_util.Partial
"""`policy(stacks_bshwc, key) -> actions_ba`."""


class Rollouts(NamedTuple):
    """B rollouts of F frames."""

    frames_bfhwc: np.ndarray  # uint8 [B, F, H, W, 3]
    actions_bfa: np.ndarray  # float32 [B, F, A]: the action that led to each frame
    rewards_bf: np.ndarray  # float32 [B, F] of arriving at each frame
    entropies_bf: np.ndarray | None = None  # float32 [B, F], nats per token; None of what no model predicts
    reward_spreads_bf: np.ndarray | None = None  # float32 [B, F]: how unsure a model with a reward ensemble is of each

    def rows(self, chosen: Sequence[int]) -> Rollouts:
        """Some of the rollouts."""
        return Rollouts(*(None if each is None else each[list(chosen)] for each in self))  # pyright: ignore


class Imagination(Protocol):
    """What follows a context under a policy."""

    def __call__(
        self, contexts: Contexts, policy: Policy, key: Array, horizon: int, params: WorldModelParams
    ) -> Rollouts:
        """`horizon` frames after each context; params: of the learned model, as far as it has learned."""
        ...


class LearnedModel:
    """The world model's imagination, one compiled program."""

    def __init__(self, config: WorldModelConfig, temperature: float, top_k: int, max_batch: int | None):
        self.config, self.temperature, self.top_k, self.max_batch = config, temperature, top_k, max_batch

    def __call__(
        self, contexts: Contexts, policy: Policy, key: Array, horizon: int, params: WorldModelParams
    ) -> Rollouts:
        imagined = world_model.imagine(
            self.config, params, contexts.stacks_bshwc, policy, key, horizon, self.temperature, self.top_k,
            self.max_batch,
        )  # fmt: skip
        host = jax.device_get(imagined)
        return Rollouts(host.frames_bfhwc, host.actions_bfa, host.rewards_bf, host.entropies_bf, host.reward_spreads_bf)


class CopyLast:
    """Nothing changes: the last frame of the context, and the reward of having arrived there, again and again."""

    def __call__(
        self, contexts: Contexts, policy: Policy, key: Array, horizon: int, params: WorldModelParams
    ) -> Rollouts:
        stacks, frames, actions = contexts.stacks_bshwc, [], []
        for k in range(horizon):
            actions.append(_act(policy, stacks, jax.random.fold_in(key, k)))
            frames.append(contexts.stacks_bshwc[:, -1])
            stacks = np.concatenate([stacks[:, 1:], stacks[:, -1:]], axis=1)
        rewards = np.repeat(contexts.rewards_b[:, None], horizon, axis=1)
        return Rollouts(np.stack(frames, axis=1), np.stack(actions, axis=1), rewards)


REMEMBERED = 100
"""Episodes whose states a simulator as model keeps, the newest played; a state of Meta-World takes six kilobytes."""


class SimulatorModel:
    """What really follows: a simulator of its own, set to the state of the context.

    A state is made again by playing the context's episode, whose seed and actions are known, so that a resumed run has
    the very same ones and no file holds any.
    """

    def __init__(self, simulator: Settable, seeds_of: Callable[[int], Sequence[int]]):
        """seeds_of: those that the episode with a number, counted as the replay does, may have begun from."""
        self.simulator, self.seeds_of, self.dynamics = simulator, seeds_of, TrueDynamics(simulator)
        self.states: dict[int, list[Any]] = {}

    def __call__(
        self, contexts: Contexts, policy: Policy, key: Array, horizon: int, params: WorldModelParams
    ) -> Rollouts:
        stacks, states = contexts.stacks_bshwc, self._states(contexts)
        frames, actions, rewards = [], [], []
        for k in range(horizon):
            actions.append(_act(policy, stacks, jax.random.fold_in(key, k)))
            stepped = [self._step(state, action) for state, action in zip(states, actions[-1], strict=True)]
            states = [state for state, _, _ in stepped]
            frames.append(np.stack([frame for _, frame, _ in stepped]))
            rewards.append(np.array([reward for _, _, reward in stepped], np.float32))
            stacks = np.concatenate([stacks[:, 1:], frames[-1][:, None]], axis=1)
        return Rollouts(*(np.stack(x, axis=1) for x in (frames, actions, rewards)))

    def follow(self, contexts: Contexts, actions_bfa: np.ndarray) -> Rollouts:
        """What really follows these actions."""
        every = range(1, actions_bfa.shape[1] + 1)
        followed = [
            self.dynamics.follow(state, actions, every)
            for state, actions in zip(self._states(contexts), actions_bfa, strict=True)
        ]
        frames, rewards = (np.stack([getattr(one, name) for one in followed]) for name in ("frames_khwc", "rewards_f"))
        return Rollouts(frames, actions_bfa, rewards)

    def _states(self, contexts: Contexts) -> list[Any]:
        where = zip(contexts.numbers_b, contexts.episodes, contexts.steps_b, strict=True)
        return [self._states_of(int(number), episode)[int(step)] for number, episode, step in where]

    def _step(self, state: Any, action: np.ndarray) -> tuple[Any, np.ndarray, float]:
        state, (frame,), (reward,) = self.dynamics.follow(state, action[None], seen=(1,))
        return state, frame, reward

    def _states_of(self, number: int, episode: Episode) -> list[Any]:
        """The state at each frame of an episode. Raises RuntimeError where playing it again shows something else."""
        if number not in self.states:
            frame = self._begin(number, episode)
            states = [self.simulator.save_state()]
            for step, action in enumerate(episode.actions):
                if not np.array_equal(frame, episode.frames[step]):
                    raise RuntimeError(
                        f"episode {number} played again shows another frame {step}: this simulator cannot be its own "
                        "model"
                    )
                frame, *_ = self.simulator.step(action)
                states.append(self.simulator.save_state())
            self.states[number] = states
            if len(self.states) > REMEMBERED:
                del self.states[next(iter(self.states))]
        return self.states[number]

    def _begin(self, number: int, episode: Episode) -> np.ndarray:
        """The first frame of an episode, from the first seed that shows it, else from the last that there is."""
        frame = episode.frames[0]
        for seed in self.seeds_of(number):
            frame, _ = self.simulator.reset(seed=seed)
            if np.array_equal(frame, episode.frames[0]):
                break
        return frame


def measure(imagined: Rollouts, real: Rollouts) -> dict[str, np.float32]:
    """How far imagined rollouts are from what really follows their own actions: squared errors of frames in [0, 1],
    absolute errors of rewards in their own units, each over all steps and at the last one; and the mean true reward.

    Where `checked_reward` is above `true_reward`, the policy is paid for what does not happen.
    """
    frames = np.square((imagined.frames_bfhwc.astype(np.float32) - real.frames_bfhwc) / 255).mean(axis=(0, 2, 3, 4))
    rewards = np.abs(imagined.rewards_bf - real.rewards_bf).mean(axis=0)
    return {
        "checked_reward": imagined.rewards_bf.mean(),
        "true_reward": real.rewards_bf.mean(),
        "true_reward_mae": rewards.mean(),
        "true_reward_mae_last": rewards[-1],
        "true_mse": frames.mean(),
        "true_mse_last": frames[-1],
    }


def measure_spread(imagined: Rollouts, real: Rollouts) -> dict[str, np.float32]:
    """The correlation of a reward ensemble's spread with the absolute errors of the model's own rewards.

    At 0 it does not know where they are wrong. Nothing without an ensemble.
    """
    if imagined.reward_spreads_bf is None:
        return {}
    errors_bf = np.abs(imagined.rewards_bf - real.rewards_bf)
    return {"spread_correlation": np.float32(_correlation(imagined.reward_spreads_bf, errors_bf))}


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where one of them does not vary."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if one.std() and other.std() else 0.0


@jax.jit
def _compiled(policy: Policy, stacks_bshwc: Array, key: Array) -> Array:
    return policy(stacks_bshwc, key)


def _act(policy: Policy, stacks_bshwc: np.ndarray, key: Array) -> np.ndarray:
    return clip_actions(np.asarray(_compiled(policy, stacks_bshwc, key)))
