"""What a plan is tried in: the learned world model, or what bounds it from above and from below.

All three search with the same pieces and the same costs, so that whatever differs is the model. The world model's whole
search is one compiled program. `simulator` tries every candidate in a second simulator, set to the present state.
`copy-last` lets nothing change: all candidates cost the same, and what is done is chance.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from agent.episodes import Settable
from agent.planning.config import PlannerConfig
from agent.planning.costs import Cost, Goal, total
from agent.planning.search import Elites, Plan, Proposal, search, search_on_host
from agent.true_dynamics import TrueDynamics
from tokenizer import PerceptualWeights
from world_model import WorldModelConfig, WorldModelParams
from world_model.frames import to_float, to_uint8
from world_model.futures import Futures, begin_futures, futures, goal_codes


class Moment(NamedTuple):
    """Where planning begins."""

    frames_chwc: np.ndarray  # uint8 [C, H, W, 3], the newest last
    state: Any  # of the simulator; only a simulator as model looks at it


class Previewed(NamedTuple):
    """One plan, looked at frame by frame."""

    frames_fhwc: np.ndarray  # uint8 [F, H, W, 3], F agent steps
    cost: float


class PlanningModel(Protocol):
    """What follows a moment, for a planner."""

    frames_before: int
    """Frames of a moment that it looks at."""

    def plan(self, moment: Moment, goal: Goal, proposal: Proposal, key: Array) -> tuple[Proposal, Plan]:
        """Search from this proposal."""
        ...

    def costs(self, moment: Moment, goal: Goal, candidates_sha: np.ndarray) -> np.ndarray:
        """What each candidate costs, float32 [S]."""
        ...

    def preview(self, moment: Moment, goal: Goal, actions_ha: np.ndarray) -> Previewed:
        """What is expected of one plan."""
        ...


def held(config: PlannerConfig, actions_sha: Any) -> Any:
    """Planned actions [S, horizon, A] as actions of every agent step [S, F, A]."""
    return actions_sha.repeat(config.hold_agent_steps, axis=1)


class LearnedFutures:
    """The world model: tokenizing, all candidates of all iterations and their costs are one compiled program."""

    def __init__(
        self,
        config: WorldModelConfig,
        params: WorldModelParams,
        planner: PlannerConfig,
        cost: Cost,
        max_batch: int | None = None,
    ):
        """max_batch: at most so many candidates in memory at a time. Raises ValueError for a goal-conditioned model,
        and for a cost or a horizon that this model does not have."""
        if config.goal_conditioned:
            raise ValueError("a goal-conditioned model goes to its goal by itself: plan with one that is not")
        if "reward" in cost.names and not config.transformer.reward_head:
            raise ValueError("this model predicts no rewards: weigh other costs")
        config.check_horizon(planner.agent_steps)
        self.program = PlanningProgram(config, planner, cost, max_batch)
        self.params, self.frames_before = params, config.layout.frames_before

    def plan(self, moment: Moment, goal: Goal, proposal: Proposal, key: Array) -> tuple[Proposal, Plan]:
        """See PlanningModel."""
        return compiled_plan(self.program, self.params, moment.frames_chwc, goal, proposal, key)

    def costs(self, moment: Moment, goal: Goal, candidates_sha: np.ndarray) -> np.ndarray:
        """See PlanningModel."""
        return np.asarray(_compiled_costs(self.program, self.params, moment.frames_chwc, goal, candidates_sha))

    def preview(self, moment: Moment, goal: Goal, actions_ha: np.ndarray) -> Previewed:
        """See PlanningModel."""
        actions_ha = np.asarray(actions_ha)
        frames = _compiled_preview(self.program, self.params, moment.frames_chwc, actions_ha)
        return Previewed(np.asarray(frames), float(self.costs(moment, goal, actions_ha[None])[0]))


class PlanningProgram(NamedTuple):
    """All that is known when a search is compiled."""

    config: WorldModelConfig
    planner: PlannerConfig
    cost: Cost
    max_batch: int | None


def _score(program: PlanningProgram, params: WorldModelParams, frames_chwc: Array, goal: Goal):
    """A function of candidates, in which the moment is already tokenized."""
    config, planner, cost, max_batch = program
    if "codes" in cost.names:
        goal = goal.replace(codes_pd=goal_codes(config, params, frames_chwc, goal.frame_hwc))
    moment = begin_futures(config, params, frames_chwc, planner.agent_steps)
    steps = cost.steps(planner.horizon, planner.hold_agent_steps)

    def score(candidates_sha: Array) -> Array:
        return total(cost, futures(config, params, moment, held(planner, candidates_sha), steps, max_batch), goal)

    return score


@functools.partial(jax.jit, static_argnames="program")
def compiled_plan(
    program: PlanningProgram, params: WorldModelParams, frames_chwc: Array, goal: Goal, proposal: Proposal, key: Array
) -> tuple[Proposal, Plan]:
    return search(program.planner, _score(program, params, frames_chwc, goal), proposal, key)


@functools.partial(jax.jit, static_argnames="program")
def _compiled_costs(
    program: PlanningProgram, params: WorldModelParams, frames_chwc: Array, goal: Goal, candidates_sha: Array
) -> Array:
    return _score(program, params, frames_chwc, goal)(candidates_sha)


@functools.partial(jax.jit, static_argnames="program")
def _compiled_preview(
    program: PlanningProgram, params: WorldModelParams, frames_chwc: Array, actions_ha: Array
) -> Array:
    config, planner, _, _ = program
    moment = begin_futures(config, params, frames_chwc, planner.agent_steps)
    steps = tuple(range(1, planner.agent_steps + 1))
    return to_uint8(futures(config, params, moment, held(planner, actions_ha[None]), steps).frames_skhwc[0])


class _OnHost:
    """Candidates are scored outside of any program."""

    planner: PlannerConfig

    def costs(self, moment: Moment, goal: Goal, candidates_sha: np.ndarray) -> np.ndarray:
        """See PlanningModel."""
        raise NotImplementedError

    def plan(self, moment: Moment, goal: Goal, proposal: Proposal, key: Array) -> tuple[Proposal, Plan]:
        """See PlanningModel."""
        return search_on_host(self.planner, lambda c: self.costs(moment, goal, c), proposal, key)


class SimulatorFutures(_OnHost):
    """What really follows: the upper bound. It costs simulator steps that nobody counts."""

    frames_before = 1

    def __init__(self, simulator: Settable, planner: PlannerConfig, cost: Cost):
        """simulator: one of the task's own, drawn as the goal is. Raises ValueError for costs of what it has not."""
        _check_without_codes(cost, "a simulator")
        self.dynamics, self.planner, self.cost = TrueDynamics(simulator), planner, cost

    def costs(self, moment: Moment, goal: Goal, candidates_sha: np.ndarray) -> np.ndarray:
        """See PlanningModel."""
        steps = self.cost.steps(self.planner.horizon, self.planner.hold_agent_steps)
        followed = [self.dynamics.follow(moment.state, each, steps) for each in held(self.planner, candidates_sha)]
        frames = np.stack([each.frames_khwc for each in followed])
        rewards = np.stack([each.rewards_f[np.array(steps) - 1] for each in followed])
        return np.asarray(_total(self.cost, frames, rewards, goal))

    def preview(self, moment: Moment, goal: Goal, actions_ha: np.ndarray) -> Previewed:
        """See PlanningModel."""
        actions_ha = np.asarray(actions_ha)
        (actions_fa,) = held(self.planner, actions_ha[None])
        followed = self.dynamics.follow(moment.state, actions_fa, range(1, len(actions_fa) + 1))
        return Previewed(followed.frames_khwc, float(self.costs(moment, goal, actions_ha[None])[0]))


class CopyLastFutures(_OnHost):
    """Nothing changes, whatever is done: the lower bound."""

    frames_before = 1

    def __init__(self, planner: PlannerConfig, cost: Cost):
        _check_without_codes(cost, "copy-last")
        self.planner, self.cost = planner, cost

    def costs(self, moment: Moment, goal: Goal, candidates_sha: np.ndarray) -> np.ndarray:
        """See PlanningModel."""
        last = moment.frames_chwc[None, -1:]
        same = np.asarray(_total(self.cost, last, np.zeros((1, 1), np.float32), goal))
        return same.repeat(len(candidates_sha))

    def preview(self, moment: Moment, goal: Goal, actions_ha: np.ndarray) -> Previewed:
        """See PlanningModel."""
        frames = moment.frames_chwc[-1:].repeat(self.planner.agent_steps, axis=0)
        return Previewed(frames, float(self.costs(moment, goal, np.asarray(actions_ha)[None])[0]))


class RandomPlans(CopyLastFutures):
    """No search at all: each plan is drawn at random, so that what planning adds can be seen."""

    def plan(self, moment: Moment, goal: Goal, proposal: Proposal, key: Array) -> tuple[Proposal, Plan]:
        """See PlanningModel."""
        actions = jax.random.uniform(key, proposal.mean_ha.shape, minval=-1, maxval=1)
        costs = jnp.asarray(self.costs(moment, goal, np.asarray(actions)[None]))
        return proposal, Plan(actions, Elites(actions[None], costs), costs)


@functools.partial(jax.jit, static_argnames="cost")
def _total(cost: Cost, frames_skhwc: Array, rewards_sk: Array, goal: Goal) -> Array:
    return total(cost, Futures(to_float(frames_skhwc), None, rewards_sk), goal)


def _check_without_codes(cost: Cost, who: str) -> None:
    if "codes" in cost.names:
        raise ValueError(f"{who} as model has no codes to compare: weigh pixels, lpips or reward")


def goal_of(frame_hwc: np.ndarray, perceptual: PerceptualWeights | None = None) -> Goal:
    """A goal from a picture, uint8 or float32 in [0, 1], [H, W, 3]. perceptual: the weights that LPIPS needs."""
    return Goal(to_float(jnp.asarray(frame_hwc)), perceptual=perceptual)
