"""Model-based policy optimisation with an interactive world model (paper algorithm 1, after Janner et al., 2019).

Real episodes fill the replay; the tokenizer and the transformer learn from it; rollouts imagined from real frames with
the current policy fill a second replay; DrQ-v2 learns from both. Without a world model the same loop is DrQ-v2.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import VectorEnv

import tokenizer
import world_model
from agent import drqv2, guards
from agent.acting import act, imagination_policy
from agent.drqv2 import Batch, DrQv2Config
from agent.events import Border, Event, ModelEvaluated
from agent.imagined import ImaginedReplay
from agent.loop import Counts as LoopCounts
from agent.loop import Loop, Schedule
from agent.model_evaluation import evaluate_model
from agent.replay import Episode, Replay, Segments, Transitions
from world_model import WorldModelConfig, WorldModelParams


@dataclasses.dataclass(frozen=True)
class ModelSchedule:
    """When the world model learns and imagines (paper appendix, Meta-World; the defaults are the paper's)."""

    start_agent_steps: int = 2000  # real steps before the model first learns
    initial_tokenizer_updates: int = 1000
    initial_transformer_updates: int = 1000
    initial_rollouts: int = 20
    tokenizer_every_env_steps: int | None = 40  # None: stays as first trained, so that the codes keep their meaning
    transformer_every_env_steps: int = 10
    rollout_every_env_steps: int = 200
    tokenizer_batch: int = 16  # segments an update
    transformer_batch: int = 16
    rollout_batch: int = 32
    rollout_max_batch: int | None = None  # imagined at a time, to bound the memory; None: all
    horizon: int = 10  # imagined agent steps a rollout
    temperature: float = 1.0
    top_k: int = 100
    real_share: float = 0.5  # of a learner batch, once there is imagined data
    imagined_capacity: int = 1000  # rollout batches kept


@dataclasses.dataclass(frozen=True)
class MBPOConfig(Schedule):
    """The whole algorithm. `world_model=None` is DrQ-v2 alone: same episodes, same learner, no imagination."""

    agent: DrQv2Config = DrQv2Config()
    world_model: WorldModelConfig | None = None
    model: ModelSchedule = ModelSchedule()
    initial_agent_updates: int = 0  # learner updates on what is there when the random steps end

    def __post_init__(self):
        if self.world_model is not None and self.world_model.goal_conditioned:
            raise ValueError(
                "model-based policy optimisation imagines from real frames alone and has no goal frame: "
                "set goal_conditioned of its world model to False"
            )


@dataclasses.dataclass(frozen=True)
class Counts(LoopCounts):
    """What the learner and the world model have done besides."""

    agent_updates: int = 0
    tokenizer_updates: int = 0
    transformer_updates: int = 0
    rollouts: int = 0


class MBPO(Loop):
    """Algorithm 1. `events()` goes through it from where the counts say it is."""

    def __init__(
        self,
        config: MBPOConfig,
        env: gymnasium.Env | VectorEnv,
        demonstrations: Sequence[Episode],
        held_out: Sequence[Episode],
        seed: int,
        folder: pathlib.Path | None = None,
        perceptual: tokenizer.PerceptualWeights | None = None,
        pretrained: WorldModelParams | None = None,
    ):
        """`held_out` episodes only measure the world model. `folder` mirrors both replays; None keeps them in memory.

        `perceptual`: the weights of LPIPS, where the tokenizer's config asks for that loss. `pretrained`: weights that the
        world model starts from instead of random ones.
        """
        agent = config.agent
        real = folder and folder / "real"
        replay = Replay(real, agent.stack, agent.n_step, agent.discount, config.replay_episodes)
        super().__init__(config, env, replay, demonstrations, seed, Counts(), agent.stack, agent.action_size)
        self.config, self.held_out, self.perceptual = config, held_out, perceptual
        self.imagined = ImaginedReplay(
            folder and folder / "imagined", config.model.imagined_capacity, agent.stack, agent.n_step, agent.discount
        )
        self.agent = drqv2.init(agent, self._key("agent init"))
        self.model = (
            None if config.world_model is None else world_model.init(config.world_model, self._key("model init"))
        )
        if pretrained is not None:
            self.model = self.model.with_params(pretrained)
        self.ready_batch: Batch | None = None

    def arrays(self) -> dict[str, Any]:
        return {"agent": self.agent, "model": self.model}

    def take(self, arrays: dict[str, Any]) -> None:
        self.agent, self.model = arrays["agent"], arrays["model"]
        self.imagined.reload(self.counts.rollouts)

    def restorable(self) -> dict[str, Any]:
        return super().restorable() | {"imagined": self.imagined.rollouts}

    def _prune(self, oldest: Counts) -> None:
        self.imagined.prune(oldest.rollouts)

    def _imagined_bytes(self) -> int:
        return self.imagined.bytes

    def _outliers(self, metrics: Mapping[str, float]) -> Iterable[guards.Outlier]:
        return guards.outliers(metrics, self.config.agent, self.replay.rewards())

    # --- acting -------------------------------------------------------------------------------------------------

    def _prepare(self) -> Iterator[Event]:
        yield from self._prepare_agent()  # first: rollouts of an untrained policy are of no use to anyone
        yield from self._prepare_model()

    def _play_episodes(self) -> Iterator[Event]:
        self.ready_batch = None  # drawn before the replay had its newest episodes
        return super()._play_episodes()

    def _act(self, observations_nhwc: np.ndarray, step: int) -> np.ndarray:
        """Choose actions, then start the updates of these agent steps: they run while the simulators do."""
        now, agent = self.counts.agent_steps, self.config.agent
        std = drqv2.noise_std(agent, now)
        actions = np.asarray(act(agent, self.agent.parameters, observations_nhwc, std, self._key("action", now)))
        if np.isfinite(actions).all():
            self._learn_beside(len(actions))
        return actions

    def _relive(self, episodes: Sequence[Episode], step: int) -> None:
        self._learn_beside(len(episodes))

    def _learn_beside(self, agent_steps: int) -> None:
        """Start the updates of so many agent steps."""
        for _ in range(agent_steps):
            self._learn(self.ready_batch if self.ready_batch is not None else self._draw_batch())
            self.ready_batch = None

    def _learned_steps(self, count: int) -> None:
        self._model_updates(count)
        self.ready_batch = self._draw_batch()

    # --- the actor-critic ---------------------------------------------------------------------------------------

    def _draw_batch(self) -> Batch:
        """One agent step's batches [U, B, ...]: real and imagined halves once there is imagined data."""
        config, agent = self.config, self.config.agent
        rng = self._rng("batch", self.counts.agent_updates)
        rows = []
        for _ in range(agent.updates_per_agent_step):
            real = round(agent.batch * config.model.real_share) if self.imagined.rollouts else agent.batch
            parts = [self.replay.transitions(rng, real, agent.demonstration_share)]
            if real < agent.batch:
                parts.append(self.imagined.transitions(rng, agent.batch - real))
            rows.append(_joined(parts, np.concatenate))
        return Batch(**vars(_joined(rows, np.stack)))

    def _learn(self, batches: Batch) -> None:
        key = self._key("learner", self.counts.agent_updates)
        agent_steps = jnp.int32(self.counts.agent_steps)
        self.agent, metrics = drqv2.train_step(self.config.agent, self.agent, batches, agent_steps, key)
        self.counts = self.counts.plus(agent_updates=len(batches.rewards_b))
        self.metrics.note("agent", metrics, self.counts.agent_steps)

    def _prepare_agent(self) -> Iterator[Event]:
        """Learn from what is there before the policy acts for the first time."""
        total = self.config.initial_agent_updates
        while self.counts.agent_updates < total:
            self._learn(self._draw_batch())
            done = self.counts.agent_updates
            told = done % 25 < self.config.agent.updates_per_agent_step or done >= total
            yield from self._progress("first actor-critic updates", done, total, told)
            yield Border(self.clock, self.snapshot())

    # --- the world model ----------------------------------------------------------------------------------------

    def _prepare_model(self) -> Iterator[Event]:
        """The model's first training, its first judgement, and the first rollouts."""
        if self.model is None or self.counts.agent_steps < self.config.model.start_agent_steps:
            return
        schedule = self.config.model
        stages: list[tuple[str, str, int, Callable[[], None]]] = [
            (
                "first tokenizer training",
                "tokenizer_updates",
                schedule.initial_tokenizer_updates,
                self._update_tokenizer,
            ),
            (
                "first transformer training",
                "transformer_updates",
                schedule.initial_transformer_updates,
                self._update_transformer,
            ),
            ("first rollouts", "rollouts", schedule.initial_rollouts, self._imagine),
        ]
        for phase, counter, total, act_once in stages:
            if getattr(self.counts, counter) >= total:
                continue
            if counter == "rollouts" and not self.counts.rollouts:
                yield self._judge_model()
            while (done := getattr(self.counts, counter) + 1) <= total:
                act_once()
                yield from self._progress(phase, done, total, told=done % 10 == 0 or done == total)
                if done < total:
                    yield Border(self.clock, self.snapshot())
            yield from self._checkpoint()

    def _model_updates(self, agent_steps: int) -> None:
        """Whatever of the model's schedule falls on the last agent steps."""
        if self.model is None or not self.counts.rollouts:
            return
        schedule, env_steps = self.config.model, self.clock.env_steps
        duties = [
            (schedule.tokenizer_every_env_steps, self._update_tokenizer),
            (schedule.transformer_every_env_steps, self._update_transformer),
            (schedule.rollout_every_env_steps, self._imagine),
        ]
        for interval, act_once in duties:
            if interval is None:
                continue
            for _ in range(env_steps // interval - (env_steps - agent_steps * self.action_repeat) // interval):
                act_once()

    def _segments(self, purpose: str, counter: int, batch: int) -> Segments:
        return self.replay.segments(self._rng(purpose, counter), batch, self.config.world_model.segment_frames)

    def _update_tokenizer(self) -> None:
        count, model = self.counts.tokenizer_updates, self.config.world_model
        frames = self._segments("tokenizer segments", count, self.config.model.tokenizer_batch).frames_bthwc
        state, metrics = tokenizer.train_step(
            model.tokenizer,
            model.tokenizer_optimizer,
            self.model.tokenizer,
            frames,
            self._key("tokenizer", count),
            self.perceptual,
        )
        self.model = self.model.replace(tokenizer=state)
        self.counts = self.counts.plus(tokenizer_updates=1)
        self.metrics.note("tokenizer", metrics, self.counts.agent_steps)

    def _update_transformer(self) -> None:
        count, model = self.counts.transformer_updates, self.config.world_model
        s = self._segments("transformer segments", count, self.config.model.transformer_batch)
        state, metrics = world_model.transformer_train_step(
            model,
            self.model.transformer,
            self.model.tokenizer.params,
            s.frames_bthwc,
            s.actions_bta,
            s.rewards_bt,
            self._key("transformer", count),
        )
        self.model = self.model.replace(transformer=state)
        self.counts = self.counts.plus(transformer_updates=1)
        self.metrics.note("transformer", metrics, self.counts.agent_steps)

    def _imagine(self) -> None:
        """One batch of rollouts from real frames, with the exploring policy of this moment."""
        config, count = self.config, self.counts.rollouts
        contexts = self.replay.contexts(self._rng("contexts", count), config.model.rollout_batch)
        std = drqv2.noise_std(config.agent, self.counts.agent_steps)
        policy = imagination_policy(config.agent, self.agent.parameters, std)
        imagined = world_model.imagine(
            config.world_model, self.model.params, contexts, policy, self._key("imagine", count),
            config.model.horizon, config.model.temperature, config.model.top_k, config.model.rollout_max_batch,
        )  # fmt: skip
        frames, actions, rewards = (
            np.asarray(x) for x in (imagined.frames_bfhwc, imagined.actions_bfa, imagined.rewards_bf)
        )
        self.imagined.add(count, contexts, frames, actions, rewards)
        self.counts = self.counts.plus(rollouts=1)
        summary = {"reward": rewards.mean(), "reward_smallest": rewards.min(), "reward_largest": rewards.max()}
        self.metrics.note("imagined", summary, self.counts.agent_steps)

    # --- judging ------------------------------------------------------------------------------------------------

    def _judge(self) -> Iterator[Event]:
        if self.model is not None and self.counts.rollouts:
            yield self._judge_model()

    def _act_best(self, observations_nhwc: np.ndarray, step: int) -> np.ndarray:
        return np.asarray(
            act(self.config.agent, self.agent.parameters, observations_nhwc, jnp.float32(0), jax.random.key(0))
        )

    def _judge_model(self) -> ModelEvaluated:
        config = self.config
        comparison = evaluate_model(config.world_model, self.model.params, self.held_out, config.model.horizon)
        return ModelEvaluated(self.clock, comparison)


def _joined(parts: Sequence[Transitions], join: Callable) -> Transitions:
    return Transitions(
        *(join([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Transitions))
    )
