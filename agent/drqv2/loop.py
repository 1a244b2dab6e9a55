"""DrQ-v2 on an environment: the learner computes while the simulators step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agent import guards
from agent.drqv2 import learner
from agent.drqv2.acting import act
from agent.drqv2.learner import DrQv2Config, LearnerBatch
from agent.events import Event, SafePoint
from agent.loop import METRICS_EVERY_AGENT_STEPS, Counts, Inputs, Loop, Schedule
from agent.replay import Episode, Replay, Transitions


@dataclasses.dataclass(frozen=True)
class DrQv2Counts(Counts):
    """Also what the learner has done."""

    agent_updates: int = 0


class DrQv2(Loop[DrQv2Counts]):
    """One run of DrQ-v2. MBPO is this loop with imagined transitions beside the real ones."""

    def __init__(self, config: DrQv2Config, schedule: Schedule, inputs: Inputs, counts: DrQv2Counts | None = None):
        """The folder of `inputs` mirrors the replay; None keeps it in memory."""
        real = inputs.folder and inputs.folder / "real"
        replay = Replay(real, config.stack, config.n_step, config.discount, schedule.replay_episodes)
        super().__init__(schedule, inputs, replay, counts or DrQv2Counts(), config.stack, config.action_size)
        self.learner = config
        self.agent = learner.init(config, self._key("agent init"))
        self.ready_batch: LearnerBatch | None = None

    def arrays(self) -> dict[str, Any]:
        return {"agent": self.agent}

    def take(self, arrays: dict[str, Any]) -> None:
        self.agent = arrays["agent"]

    def _outliers(self, metrics: Mapping[str, float]) -> Iterable[guards.Outlier]:
        return guards.outliers(metrics, self.learner.reward_scale, self.learner.discount, self.replay.rewards())

    # --- acting -------------------------------------------------------------------------------------------------------

    def _play_episodes(self) -> Iterator[Event]:
        self.ready_batch = None  # drawn before the replay had its newest episodes
        return super()._play_episodes()

    def _act(self, stacks_nshwc: np.ndarray, step: int) -> np.ndarray:
        """Choose actions, then start the updates of these agent steps: they run while the simulators do."""
        now = self.counts.agent_steps
        std = learner.noise_std(self.learner, now)
        key = self._key("action", now)
        actions = np.asarray(act(self.learner, self.agent.parameters, stacks_nshwc, std, key))
        if np.isfinite(actions).all():
            self._learn_beside(len(actions))
        return actions

    def _act_best(self, stacks_nshwc: np.ndarray, step: int) -> np.ndarray:
        return np.asarray(act(self.learner, self.agent.best, stacks_nshwc, jnp.float32(0), jax.random.key(0)))

    def _catch_up(self, episodes: Sequence[Episode], step: int) -> None:
        self._learn_beside(len(episodes))

    def _learn_beside(self, agent_steps: int) -> None:
        """Start the updates of so many agent steps."""
        for _ in range(agent_steps):
            self._learn(self.ready_batch if self.ready_batch is not None else self._draw_batch())
            self.ready_batch = None

    def _learned_steps(self, count: int) -> None:
        self.ready_batch = self._draw_batch()

    # --- learning -----------------------------------------------------------------------------------------------------

    def _draw_transitions(self, rng: np.random.Generator) -> Transitions:
        """One learner batch [B, ...]."""
        return self.replay.transitions(rng, self.learner.batch, self.learner.demonstration_share)

    def _draw_batch(self) -> LearnerBatch:
        """One agent step's batches [U, B, ...]."""
        rng = self._rng("batch", self.counts.agent_updates)
        rows = [self._draw_transitions(rng) for _ in range(self.learner.updates_per_agent_step)]
        return LearnerBatch(**vars(join_transitions(rows, np.stack)))

    def _learn(self, batches: LearnerBatch) -> None:
        key = self._key("learner", self.counts.agent_updates)
        agent_steps = jnp.int32(self.counts.agent_steps)
        self.agent, metrics = learner.train_step(self.learner, self.agent, batches, agent_steps, key)
        self.counts = self.counts.plus(agent_updates=len(batches.rewards_b))
        self.metrics.note("agent", metrics, self.counts.agent_steps)

    def _prepare(self) -> Iterator[Event]:
        """Learn from the episodes there are before the policy acts for the first time."""
        total = self.learner.initial_updates
        while self.counts.agent_updates < total:
            self._learn(self._draw_batch())
            done = self.counts.agent_updates
            log_now = done % METRICS_EVERY_AGENT_STEPS < self.learner.updates_per_agent_step or done >= total
            yield from self._progress("first actor-critic updates", done, total, log_now)
            yield SafePoint(self.clock, self.snapshot())


def join_transitions(parts: Sequence[Transitions], join: Callable[[list[np.ndarray]], np.ndarray]) -> Transitions:
    """Batches as one: joined by `np.concatenate` along their rows, or by `np.stack` along a new axis.

    Where one has weights, the others get weights of 1.
    """
    if any(part.weights_b is not None for part in parts):
        parts = [part.with_weights() for part in parts]
    columns = [[getattr(part, field.name) for part in parts] for field in dataclasses.fields(Transitions)]
    joined: list[Any] = [None if column[0] is None else join(column) for column in columns]
    return Transitions(*joined)
