"""Model-based policy optimisation with an interactive world model (paper algorithm 1, after Janner et al., 2019).

Real episodes fill the replay; the tokenizer and the transformer learn from it; rollouts imagined from real frames with
the current policy fill a second replay; DrQ-v2 learns from both. Without a world model the same loop is DrQ-v2.

The loop yields events and touches no file but the replays'. What follows a border (`agent.events.Border`) is a function
of the snapshot there and of the replays' files, whether or not the process was restarted: every random draw comes from the
run's seed, the purpose of the draw and a counter, and nothing that was prepared or measured is carried over a border.
An episode that is on disk when its turn comes was finished by a process that was killed: it is taken as it is, and only
the learning beside it is done again.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import tokenizer
import world_model
from agent import drqv2, guards
from agent.acting import RandomActions, act, as_episode, imagination_policy, play
from agent.drqv2 import Batch, DrQv2Config
from agent.events import (
    Border,
    CheckpointDue,
    Clock,
    EpisodeFinished,
    Evaluated,
    Event,
    Finished,
    ModelEvaluated,
    Progress,
    Sizes,
    Suspicious,
)
from agent.imagined import ImaginedReplay
from agent.model_evaluation import evaluate_model
from agent.replay import Episode, Replay, Segments, Transitions
from world_model import WorldModelConfig


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
class MBPOConfig:
    """The whole algorithm. `world_model=None` is DrQ-v2 alone: same episodes, same learner, no imagination."""

    agent: DrQv2Config = DrQv2Config()
    world_model: WorldModelConfig | None = None
    model: ModelSchedule = ModelSchedule()
    agent_steps: int = 50_000
    random_agent_steps: int = 2000
    replay_episodes: int = 2000  # newest real episodes kept, besides the demonstrations
    random_actions: RandomActions = RandomActions()
    initial_agent_updates: int = 0  # learner updates on what is there when the random steps end
    evaluate_every_agent_steps: int = 5000
    evaluation_episodes: int = 20
    checkpoint_every_agent_steps: int = 500
    shown_episodes: int = 4  # evaluation episodes whose frames are kept for a video

    def __post_init__(self):
        if self.world_model is not None and self.world_model.goal_conditioned:
            raise ValueError(
                "model-based policy optimisation imagines from real frames alone and has no goal frame: "
                "set goal_conditioned of its world model to False"
            )


@dataclasses.dataclass(frozen=True)
class Counts:
    """What has been done so far; with the state's arrays and the replay's files, all that a resume needs."""

    agent_steps: int = 0
    episodes: int = 0
    agent_updates: int = 0
    tokenizer_updates: int = 0
    transformer_updates: int = 0
    rollouts: int = 0
    evaluated_agent_steps: int = -1

    def plus(self, **more: int) -> Counts:
        return dataclasses.replace(self, **{name: getattr(self, name) + n for name, n in more.items()})


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A checkpoint: `arrays` is a pytree, `counts` plain integers."""

    arrays: Any
    counts: Mapping[str, int]


METRICS_EVERY_AGENT_STEPS = 25
"""Reading metrics waits for the device."""

CHECKPOINTS_WITH_FILES = 3
"""Checkpoints whose replay files stay: the newest may still be being written, the one before it may turn out damaged."""


class MBPO:
    """One run. `events()` goes through it from where the counts say it is."""

    def __init__(
        self,
        config: MBPOConfig,
        env: gymnasium.Env,
        demonstrations: Sequence[Episode],
        held_out: Sequence[Episode],
        seed: int,
        folder: pathlib.Path | None = None,
        perceptual: tokenizer.PerceptualWeights | None = None,
    ):
        """`held_out` episodes only measure the world model. `folder` mirrors both replays; None keeps them in memory.

        `perceptual`: the weights of LPIPS, where the tokenizer's config asks for that loss.
        """
        self.perceptual = perceptual
        self.config, self.env, self.held_out, self.seed = config, env, held_out, seed
        self.action_repeat = env.unwrapped.action_repeat
        agent = config.agent
        self.replay = Replay(
            folder and folder / "real", agent.stack, agent.n_step, agent.discount, config.replay_episodes
        )
        self.imagined = ImaginedReplay(
            folder and folder / "imagined", config.model.imagined_capacity, agent.stack, agent.n_step, agent.discount
        )
        for episode in demonstrations:
            self.replay.add(episode, demonstration=True)
        self.demonstrations = len(demonstrations)
        self.counts = Counts()
        self.agent = drqv2.init(agent, self._key("agent init"))
        self.model = (
            None if config.world_model is None else world_model.init(config.world_model, self._key("model init"))
        )
        self.metrics = guards.WatchedMetrics()
        self.ready_batch: Batch | None = None
        self.checkpoints = collections.deque([self.counts], CHECKPOINTS_WITH_FILES)

    def snapshot(self) -> Snapshot:
        """The state as it is now."""
        return Snapshot({"agent": self.agent, "model": self.model}, dataclasses.asdict(self.counts))

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of this configuration; the replay's folder holds at least its episodes."""
        self.agent, self.model = snapshot.arrays["agent"], snapshot.arrays["model"]
        self.counts = Counts(**snapshot.counts)
        self.replay.reload(self.demonstrations + self.counts.episodes, self.demonstrations)
        self.imagined.reload(self.counts.rollouts)
        self.checkpoints = collections.deque([self.counts], CHECKPOINTS_WITH_FILES)

    def restorable(self) -> dict[str, Any]:
        """Everything that a resume restores, and how the next episode would begin: a pytree of arrays and integers.

        Resets the environment.
        """
        snapshot = self.snapshot()
        frame, _ = self.env.reset(seed=self._episode_seed("episode", self.counts.episodes))
        simulator = getattr(self.env.unwrapped, "simulator_state", dict)()
        return {
            "arrays": snapshot.arrays,
            "counts": snapshot.counts,
            "seed": self.seed,
            "real": [vars(episode) for episode in self.replay.episodes],
            "imagined": self.imagined.rollouts,
            "next_episode": {"frame": frame, **simulator},
        }

    @property
    def clock(self) -> Clock:
        return Clock(self.counts.agent_steps, self.counts.agent_steps * self.action_repeat)

    def _rng(self, purpose: str, counter: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, counter, *purpose.encode()])

    def _key(self, purpose: str, counter: int = 0) -> jax.Array:
        return jax.random.key(int(self._rng(purpose, counter).integers(2**31)))

    def events(self) -> Iterator[Event]:
        """Algorithm 1, a statement a line."""
        config = self.config
        while True:
            yield from self._evaluate_if_due()
            yield from self._border()
            if self.counts.agent_steps >= config.agent_steps:
                return
            if self.counts.agent_steps >= config.random_agent_steps:
                yield from self._prepare_model()
                yield from self._prepare_agent()
            yield from self._play_episode()

    def _crossed(self, interval: int) -> bool:
        """Whether the last episode passed a multiple of `interval` agent steps."""
        if self.counts.agent_steps == 0:
            return False
        before = self.counts.agent_steps - self.replay.episodes[-1].length
        return self.counts.agent_steps // interval > before // interval

    def _border(self) -> Iterator[Event]:
        """Between episodes: a checkpoint where one is due, once, and the run's end."""
        over = self.counts.agent_steps >= self.config.agent_steps
        if not over and not self._crossed(self.config.checkpoint_every_agent_steps):
            yield Border(self.clock, self.snapshot())
        elif self.counts != self.checkpoints[-1]:
            yield from self._checkpoint(over)

    def _checkpoint(self, over: bool = False) -> Iterator[Event]:
        """A checkpoint, after which the files go that only older ones needed."""
        yield Sizes(self.clock, self.replay.bytes, self.imagined.bytes)
        if over:
            yield Finished(self.clock, self.restorable())
        yield CheckpointDue(self.clock, self.snapshot())
        self.checkpoints.append(self.counts)
        oldest = self.checkpoints[0]
        self.replay.prune(self.demonstrations + oldest.episodes)
        self.imagined.prune(oldest.rollouts)

    # --- acting -------------------------------------------------------------------------------------------------

    def _play_episode(self) -> Iterator[Event]:
        """One real episode; the learner computes while the simulator steps."""
        index, finished = self.counts.episodes, self.replay.next_on_disk()
        self.ready_batch = None  # drawn before the replay had its newest episode
        parts: tuple = ()
        for done, parts in self._played(index) if finished is None else self._relived(finished):
            self.counts = self.counts.plus(agent_steps=1)
            if self.counts.agent_steps > self.config.random_agent_steps:
                self._model_updates()
                self.ready_batch = self._draw_batch()
            told = done % METRICS_EVERY_AGENT_STEPS == 0
            yield from self._progress("training", self.counts.agent_steps, self.config.agent_steps, told)
        episode = as_episode(parts) if finished is None else finished
        self.replay.add(episode)
        self.counts = self.counts.plus(episodes=1)
        yield from self._progress("training", self.counts.agent_steps, self.config.agent_steps, told=True)
        yield EpisodeFinished(self.clock, index, episode.total_reward, episode.success)

    def _played(self, index: int) -> Iterator[tuple[int, tuple]]:
        """An episode of the simulator."""
        return play(self.env, self._episode_seed("episode", index), self.config.agent.stack, self._act_and_learn)

    def _relived(self, episode: Episode) -> Iterator[tuple[int, tuple]]:
        """A finished episode again: what is learned beside it, step by step, without the simulator."""
        for step in range(episode.length):
            self._learn_beside()
            yield step + 1, ()

    def _episode_seed(self, purpose: str, index: int) -> int:
        return int(self._rng(purpose, index).integers(2**31))

    def _act_and_learn(self, observation_hwc: np.ndarray, step: int) -> np.ndarray:
        """Choose an action, then start the updates of this agent step: they run while the simulator does."""
        now, config = self.counts.agent_steps, self.config
        if now < config.random_agent_steps:
            rng = self._rng("random action", now // config.random_actions.hold_agent_steps)
            return config.random_actions.draw(rng, config.agent.action_size)
        std = drqv2.noise_std(config.agent, now)
        action = np.asarray(act(config.agent, self.agent.parameters, observation_hwc, std, self._key("action", now)))
        if not np.isfinite(action).all():
            self.metrics.take()  # raises with the loss it came from
            raise guards.Diverged("the policy's action", now)
        self._learn_beside()
        return action

    def _learn_beside(self) -> None:
        """Start the updates of this agent step, once the policy acts."""
        if self.counts.agent_steps >= self.config.random_agent_steps:
            self._learn(self.ready_batch if self.ready_batch is not None else self._draw_batch())

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

    def _model_updates(self) -> None:
        """Whatever of the model's schedule falls on this agent step."""
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
            for _ in range(env_steps // interval - (env_steps - self.action_repeat) // interval):
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

    def _evaluate_if_due(self) -> Iterator[Event]:
        """Evaluate before the first step, at every interval once the policy has learned, and at the end; each once."""
        now, config = self.counts.agent_steps, self.config
        learned = now > config.random_agent_steps
        due = now == 0 or now >= config.agent_steps or (learned and self._crossed(config.evaluate_every_agent_steps))
        if not due or self.counts.evaluated_agent_steps == now:
            return
        episodes = []
        for index in range(config.evaluation_episodes):
            yield Border(self.clock, self.snapshot())
            yield Progress(self.clock, "evaluation", index, config.evaluation_episodes)
            for _, parts in play(self.env, self._episode_seed("evaluation", index), config.agent.stack, self._act_best):
                pass
            episodes.append(as_episode(parts))
        yield Progress(self.clock, "evaluation", len(episodes), config.evaluation_episodes)
        self.counts = dataclasses.replace(self.counts, evaluated_agent_steps=now)
        yield Evaluated(
            self.clock,
            np.array([e.total_reward for e in episodes], np.float32),
            np.array([e.success for e in episodes]),
            np.stack([e.frames for e in episodes[: config.shown_episodes]]),
        )
        if self.model is not None and self.counts.rollouts:
            yield self._judge_model()

    def _act_best(self, observation_hwc: np.ndarray, step: int) -> np.ndarray:
        return np.asarray(
            act(self.config.agent, self.agent.parameters, observation_hwc, jnp.float32(0), jax.random.key(0))
        )

    def _judge_model(self) -> ModelEvaluated:
        config = self.config
        comparison = evaluate_model(config.world_model, self.model.params, self.held_out, config.model.horizon)
        return ModelEvaluated(self.clock, comparison)

    # --- metrics ------------------------------------------------------------------------------------------------

    def _progress(self, phase: str, done: int, total: int, told: bool) -> Iterator[Event]:
        """How far a phase is; where `told`, with what its metrics have been since they were last told."""
        metrics = self.metrics.take() if told else {}
        yield Progress(self.clock, phase, done, total, metrics)
        if metrics:
            for outlier in guards.outliers(metrics, self.config.agent, self.replay.rewards()):
                yield Suspicious(self.clock, outlier)


def _joined(parts: Sequence[Transitions], join: Callable) -> Transitions:
    return Transitions(
        *(join([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Transitions))
    )
