"""DreamerV3 on an environment: episodes, evaluations and safe points are those of every algorithm (agent/loop.py)."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax import Array

from agent.dreamerv3 import learner, memory
from agent.dreamerv3.config import DreamerConfig
from agent.dreamerv3.learner import Carry, DreamerState
from agent.dreamerv3.memory import Latents
from agent.dreamerv3.objective import SequenceBatch
from agent.dreamerv3.rssm import State
from agent.dreamerv3.sequences import Rows, Sequences, draw, steps_in
from agent.events import Event, SafePoint
from agent.loop import METRICS_EVERY_AGENT_STEPS, Counts, Inputs, Loop, Schedule
from agent.replay import Episode, Replay


@dataclasses.dataclass(frozen=True)
class DreamerCounts(Counts):
    """Also what the learner has done."""

    updates: int = 0


@functools.partial(jax.jit, static_argnames="config", donate_argnames=("state", "latents"))
def learn(
    config: DreamerConfig, state: DreamerState, latents: Latents, sequences: Sequences, key: Array
) -> tuple[DreamerState, Latents, dict[str, Array]]:
    """One update from sequences that begin where earlier ones left the model, and what it leaves for later ones."""
    # What is drawn in numpy is traced here, as arrays of jax.
    frames, actions, rewards, first, last, terminal, before_b, rows_bt = cast(tuple[Array, ...], sequences)
    start = memory.read(config.model, latents, before_b)
    batch = SequenceBatch(frames, actions, rewards, first, last, terminal, start)
    state, metrics, states = learner.train_step(config, state, batch, key)
    return state, memory.write(latents, rows_bt, states), metrics


_remember = jax.jit(memory.write, donate_argnums=0)


class DreamerV3(Loop[DreamerCounts]):
    """One run of DreamerV3."""

    def __init__(self, config: DreamerConfig, schedule: Schedule, inputs: Inputs):
        """The folder of `inputs` mirrors the replay; None keeps it in memory."""
        real = inputs.folder and inputs.folder / "real"
        replay = Replay(real, 1, 1, config.discount, schedule.replay_episodes)
        super().__init__(schedule, inputs, replay, DreamerCounts(), 1, config.model.action_size)
        self.config = config
        length, group = self.episode_agent_steps, self.envs.num_envs
        capacity = min(schedule.replay_episodes, group * math.ceil(schedule.agent_steps / (length * group)))
        longest = max([length + 1, *(len(episode.frames) for episode in inputs.demonstrations)])
        self.rows = Rows(self.demonstrations, capacity, longest)
        self.agent = learner.init(config, self._key("agent init"))
        self.latents = memory.blank(config.model, self.rows.count)
        self.carry: Carry | None = None  # None: nothing of these episodes has been seen
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

    def _act(self, stacks_nshwc: np.ndarray, step: int) -> np.ndarray:
        """Choose actions, then start the updates of these agent steps: they run while the simulators do."""
        key = self._key("action", self.counts.agent_steps)
        self.carry, actions = self._policy(self.carry, stacks_nshwc[:, 0], key, explore=True)
        self.seen[step] = self.carry.state
        if np.isfinite(actions).all():
            while self.counts.updates < self._owed(self.counts.agent_steps + len(actions)):
                self._update()
        return actions

    def _catch_up(self, episodes: Sequence[Episode], step: int) -> None:
        self._act(np.stack([episode.frames[step : step + 1] for episode in episodes]), step)

    def _act_best(self, stacks_nshwc: np.ndarray, step: int) -> np.ndarray:
        """The mean actions; the latents before them are drawn."""
        before, key = self.evaluation_carry if step else None, self._key("evaluation", step)
        self.evaluation_carry, actions = self._policy(before, stacks_nshwc[:, 0], key, explore=False)
        return actions

    def _policy(
        self, before: Carry | None, observations_nhwc: np.ndarray, key: Array, explore: bool
    ) -> tuple[Carry, np.ndarray]:
        model = self.config.model
        before = learner.initial_carry(model, len(observations_nhwc)) if before is None else before
        carry, actions = learner.policy(model, self.agent.parameters, before, observations_nhwc, key, explore)
        return carry, np.asarray(actions)

    def _after_episode(self, episode: Episode, index: int) -> None:
        """Remember what the policy knew at every step; where it did not act, it knew nothing."""
        nothing = jax.device_get(learner.initial_carry(self.config.model, 1).state)
        seen = jax.device_get(self.seen)
        known = [
            jax.tree.map(lambda x: x[index], seen[step]) if step in seen else jax.tree.map(lambda x: x[0], nothing)
            for step in range(self.rows.frames)
        ]
        states = jax.tree.map(lambda *steps: np.stack(steps), *known)
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
            log_now = done % METRICS_EVERY_AGENT_STEPS == 0 or done == total
            yield from self._progress("first updates", done, total, log_now)
            yield SafePoint(self.clock, self.snapshot())

    def _update(self) -> None:
        count, config = self.counts.updates, self.config
        sequences = draw(self.replay, self.rows, self._rng("sequences", count), config.batch, config.length)
        key = self._key("learner", count)
        self.agent, self.latents, metrics = learn(config, self.agent, self.latents, sequences, key)
        self.counts = self.counts.plus(updates=1)
        self.metrics.note("agent", metrics, self.counts.agent_steps)
