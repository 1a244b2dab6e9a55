"""DreamerV3 on an environment: the same episodes, evaluations and borders as every other algorithm (agent/loop.py)."""

from __future__ import annotations

import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.vector import VectorEnv
from jax import Array

from agent.events import Border, Event
from agent.loop import METRICS_EVERY_AGENT_STEPS, Loop, Schedule
from agent.loop import Counts as LoopCounts
from agent.replay import Episode, Replay
from experiments.baselines.dreamerv3 import agent, memory
from experiments.baselines.dreamerv3.agent import AgentState, Carry
from experiments.baselines.dreamerv3.config import DreamerConfig
from experiments.baselines.dreamerv3.memory import Latents
from experiments.baselines.dreamerv3.objective import Batch
from experiments.baselines.dreamerv3.rssm import State
from experiments.baselines.dreamerv3.sequences import Rows, Sequences, draw, steps_in


@dataclasses.dataclass(frozen=True)
class Counts(LoopCounts):
    """What the learner has done besides."""

    updates: int = 0


@functools.partial(jax.jit, static_argnames="config", donate_argnames=("state", "latents"))
def learn(
    config: DreamerConfig, state: AgentState, latents: Latents, sequences: Sequences, key: Array
) -> tuple[AgentState, Latents, dict[str, Array]]:
    """One update from sequences that begin where earlier ones left the model, and what it leaves for later ones."""
    batch = Batch(*sequences[:6], memory.read(config.model, latents, sequences.before_b))
    state, metrics, states = agent.train_step(config, state, batch, key)
    return state, memory.write(latents, sequences.rows_bt, states), metrics


_remember = jax.jit(memory.write, donate_argnums=0)


class DreamerV3(Loop):
    """One run of DreamerV3."""

    def __init__(
        self,
        config: DreamerConfig,
        schedule: Schedule,
        env: gymnasium.Env | VectorEnv,
        demonstrations: Sequence[Episode],
        seed: int,
        folder: pathlib.Path | None = None,
    ):
        """`folder` mirrors the replay."""
        replay = Replay(folder and folder / "real", 1, 1, config.discount, schedule.replay_episodes)
        super().__init__(schedule, env, replay, demonstrations, seed, Counts(), 1, config.model.action_size)
        self.config = config
        length, group = self.episode_agent_steps, self.envs.num_envs
        capacity = min(schedule.replay_episodes, group * math.ceil(schedule.agent_steps / (length * group)))
        longest = max([length + 1, *(len(episode.frames) for episode in demonstrations)])
        self.rows = Rows(self.demonstrations, capacity, longest)
        self.agent = agent.init(config, self._key("agent init"))
        self.latents = memory.blank(config.model, self.rows.count)
        self.carry: Carry | None = None  # None: nothing seen of these episodes
        self.seen: dict[int, State] = {}  # [N] of these episodes, by their agent steps
        self.evaluation_carry: Carry | None = None

    def arrays(self) -> dict[str, Any]:
        return {"agent": self.agent, "latents": self.latents}

    def take(self, arrays: dict[str, Any]) -> None:
        self.agent, self.latents = arrays["agent"], arrays["latents"]

    def _imagined_bytes(self) -> int:
        return self.latents.nbytes

    # --- acting -------------------------------------------------------------------------------------------------------

    def _play_episodes(self) -> Iterator[Event]:
        self.carry, self.seen = None, {}
        return super()._play_episodes()

    def _act(self, observations_nhwc: np.ndarray, step: int) -> np.ndarray:
        """Choose actions, then start the updates of these agent steps: they run while the simulators do."""
        key = self._key("action", self.counts.agent_steps)
        self.carry, actions = self._policy(self.carry, observations_nhwc, key, explore=True)
        self.seen[step] = self.carry.state
        if np.isfinite(actions).all():
            while self.counts.updates < self._owed(self.counts.agent_steps + len(actions)):
                self._update()
        return actions

    def _relive(self, episodes: Sequence[Episode], step: int) -> None:
        self._act(np.stack([episode.frames[step] for episode in episodes]), step)

    def _act_best(self, observations_nhwc: np.ndarray, step: int) -> np.ndarray:
        """The mean actions; the latents before them are drawn."""
        before, key = self.evaluation_carry if step else None, self._key("evaluation", step)
        self.evaluation_carry, actions = self._policy(before, observations_nhwc, key, explore=False)
        return actions

    def _policy(
        self, before: Carry | None, observations_nhwc: np.ndarray, key: Array, explore: bool
    ) -> tuple[Carry, np.ndarray]:
        model = self.config.model
        before = agent.initial_carry(model, len(observations_nhwc)) if before is None else before
        carry, actions = agent.policy(model, self.agent.parameters, before, observations_nhwc, key, explore)
        return carry, np.asarray(actions)

    def _finished(self, episode: Episode, place: int) -> None:
        """Remember what the policy knew at every step; where it did not act, it knew nothing."""
        nothing = jax.device_get(agent.initial_carry(self.config.model, 1).state)
        seen = jax.device_get(self.seen)
        known = [
            jax.tree.map(lambda x: x[place], seen[step]) if step in seen else jax.tree.map(lambda x: x[0], nothing)
            for step in range(self.rows.frames)
        ]
        states = State(*(np.stack(column) for column in zip(*known, strict=True)))
        rows = self.rows.of_episode(self.replay.added - 1) + np.arange(self.rows.frames, dtype=np.int32)
        self.latents = _remember(self.latents, rows, states)

    # --- learning -----------------------------------------------------------------------------------------------------

    def _owed(self, agent_steps: int) -> int:
        """Updates that the train ratio asks for after so many agent steps, once there are sequences to draw."""
        if steps_in(self.replay) < self.config.length:
            return 0
        return math.floor(agent_steps * self.config.updates_per_agent_step)

    def _prepare(self) -> Iterator[Event]:
        """The updates owed for the random steps."""
        total = self._owed(self.counts.agent_steps)
        while self.counts.updates < total:
            self._update()
            done = self.counts.updates
            told = done % METRICS_EVERY_AGENT_STEPS == 0 or done == total
            yield from self._progress("first updates", done, total, told)
            yield Border(self.clock, self.snapshot())

    def _update(self) -> None:
        count, config = self.counts.updates, self.config
        sequences = draw(self.replay, self.rows, self._rng("sequences", count), config.batch, config.length)
        key = self._key("learner", count)
        self.agent, self.latents, metrics = learn(config, self.agent, self.latents, sequences, key)
        self.counts = self.counts.plus(updates=1)
        self.metrics.note("agent", metrics, self.counts.agent_steps)
