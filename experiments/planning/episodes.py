"""Episodes in the simulator whose every action comes from a plan."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from scipy.stats import rankdata

from agent import planning
from agent.events import Progress
from agent.planning import Goal, Moment, PlanningModel, Proposal
from agent.planning.models import held
from agent.planning.search import propose
from agent.replay import stack_frames
from experiments.envs.simulator import Simulator
from experiments.planning.config import PlanningProtocol
from experiments.planning.goals import Task
from tokenizer import PerceptualWeights


@dataclasses.dataclass(frozen=True)
class PlanTaken:
    """One plan, and how it looked before it was carried out."""

    expected_fhwc: np.ndarray  # uint8: what the model imagined of it
    cost: float  # expected, of the whole plan
    costs_i: np.ndarray  # of the elites, iteration by iteration
    spread: float  # mean standard deviation of the elites' actions
    seconds: float  # of the search
    agreement: float  # rank correlation of the model's costs of random plans with the true ones; nan: not measured


@dataclasses.dataclass(frozen=True)
class PlannedEpisode:
    """What happened."""

    task: Task
    success: bool
    frames_thwc: np.ndarray  # uint8, from the start on
    plans: tuple[PlanTaken, ...]
    executed: tuple[int, ...]  # agent steps that each plan was followed for

    @property
    def goal_errors(self) -> np.ndarray:
        """Mean squared error to the goal's picture, of each frame in [0, 1]."""
        difference = self.frames_thwc.astype(np.float32) - self.task.goal_hwc.astype(np.float32)
        return np.square(difference / 255).mean(axis=(1, 2, 3))

    @property
    def expected_thwc(self) -> np.ndarray:
        """Beside each frame the one that the plan expected; the start is itself."""
        pairs = zip(self.plans, self.executed, strict=True)
        return np.concatenate([self.frames_thwc[:1], *(plan.expected_fhwc[:count] for plan, count in pairs)])


@dataclasses.dataclass(frozen=True)
class Player:
    """Who acts where: the simulator, what plans are tried in, and how."""

    env: Simulator
    model: PlanningModel
    protocol: PlanningProtocol
    truth: PlanningModel | None = None
    """The simulator as model, by which the model's costs are measured where the protocol asks for it."""
    perceptual: PerceptualWeights | None = None

    @property
    def action_size(self) -> int:
        return self.env.action_space.shape[0]

    @property
    def limit(self) -> int:
        """Agent steps of an episode, at most."""
        return min(self.protocol.agent_steps, self.env.episode_agent_steps)


def play_planned(player: Player, tasks: Sequence[Task]) -> Iterator[Progress | PlannedEpisode]:
    """Yields progress, in agent steps of all episodes (those that a success saves count as done), and each episode
    when it is over."""
    solved, limit = 0, player.limit
    for index, task in enumerate(tasks):
        for event in _play_episode(player, task):
            done = limit
            if isinstance(event, PlannedEpisode):
                solved += event.success
                yield event
            else:
                done = event
            metrics = {"episode": index + 1, "solved": solved}
            yield Progress("agent steps", index * limit + done, len(tasks) * limit, metrics)


def _play_episode(player: Player, task: Task) -> Iterator[int | PlannedEpisode]:
    """How many agent steps are done, after each plan; at the end, the episode."""
    env, config = player.env, player.protocol.planner
    goal = planning.goal_of(task.goal_hwc, player.perceptual)
    limit = player.limit
    frames, success = [task.begin(env)], False
    proposal = planning.begin(config, player.action_size)
    plans: list[PlanTaken] = []
    executed: list[int] = []
    key = jax.random.fold_in(jax.random.key(player.protocol.seed), task.number)
    while not success and len(frames) <= limit:
        before = len(frames)
        moment = Moment(stack_frames(frames, before - 1, player.model.frames_before), env.save_state())
        proposal, actions_fa, taken = _plan(player, moment, goal, proposal, jax.random.fold_in(key, len(plans)))
        for action in actions_fa[: limit + 1 - before]:
            frame, _, _, _, info = env.step(action)
            frames.append(frame)
            success = bool(info["success"])
            if success:
                break
        plans.append(taken)
        executed.append(len(frames) - before)
        proposal = planning.shift(config, proposal)
        yield len(frames) - 1
    yield PlannedEpisode(task, success, np.stack(frames), tuple(plans), tuple(executed))


def _plan(
    player: Player, moment: Moment, goal: Goal, proposal: Proposal, key: jax.Array
) -> tuple[Proposal, np.ndarray, PlanTaken]:
    """The new proposal, what of the plan is carried out [F, A], and how it looks."""
    config, start = player.protocol.planner, time.perf_counter()
    search_key, agreement_key = jax.random.split(key)
    proposal, plan = jax.block_until_ready(player.model.plan(moment, goal, proposal, search_key))
    seconds = time.perf_counter() - start
    actions_ha = np.asarray(plan.actions_ha)
    seen = player.model.preview(moment, goal, actions_ha)
    agreement = _agreement(player, moment, goal, agreement_key)
    spread = float(plan.spread_ha.mean())
    taken = PlanTaken(seen.frames_fhwc, seen.cost, np.asarray(plan.costs_i), spread, seconds, agreement)
    return proposal, held(config, actions_ha[None, : config.execute])[0], taken


def _agreement(player: Player, moment: Moment, goal: Goal, key: jax.Array) -> float:
    """Spearman's rank correlation of what random plans cost here and in the simulator; 0 where a model tells none from
    another."""
    if player.truth is None:
        return float("nan")
    config = player.protocol.planner
    drawn = propose(config, planning.begin(config, player.action_size), key)
    candidates = np.asarray(drawn)[: player.protocol.agreement]
    expected, real = (model.costs(moment, goal, candidates) for model in (player.model, player.truth))
    if np.ptp(expected) == 0 or np.ptp(real) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(expected), rankdata(real))[0, 1])
