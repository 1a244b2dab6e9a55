"""What runs of every algorithm share: real episodes, evaluation, safe points, checkpoints, the source of randomness.

A loop yields events and touches no file but its replays'. What follows a safe point (`agent.events.SafePoint`) is a
function of the snapshot there and of the replays' files, whether or not the process was restarted: every random draw
comes from the run's seed, the purpose of the draw and a counter, and nothing that was prepared or measured is carried
over a safe point. An episode that is on disk when its turn comes was finished by a process that was killed: it is taken
as it is, and only the learning beside it is done again. Episodes are played in groups, one in each simulator.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import jax
import numpy as np

from agent import guards
from agent.episodes import EpisodeBuffer, Playable, RandomActions, Settable, Simulators, as_episode, as_vector_env, play
from agent.events import (
    CheckpointDue,
    Clock,
    EpisodeFinished,
    Evaluated,
    Event,
    Finished,
    Measured,
    MemoryUsage,
    OutlierWarning,
    Progress,
    SafePoint,
)
from agent.replay import Episode, Replay
from tokenizer import PerceptualWeights
from tokenizer.limits import require_at_least
from world_model import WorldModelConfig, WorldModelParams


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When a run acts, is evaluated and is saved: the same for every algorithm that is compared."""

    agent_steps: int = 50_000
    random_agent_steps: int = 2000  # episodes that begin before are random to their end
    replay_episodes: int = 2000  # newest real episodes kept, besides the demonstrations
    random_actions: RandomActions = RandomActions()
    evaluate_every_agent_steps: int = 5000
    evaluate_first_policy: bool = False  # once it has learned from what there is and before its first step, if any
    evaluation_episodes: int = 20
    checkpoint_every_agent_steps: int = 500
    shown_episodes: int = 4  # evaluation episodes whose frames are kept for a video

    def __post_init__(self):
        if self.replay_episodes < 1:
            raise ValueError(f"replay_episodes is {self.replay_episodes}, but a replay keeps at least 1 episode")
        require_at_least(0, self, "agent_steps", "random_agent_steps")
        require_at_least(1, self, "evaluate_every_agent_steps", "evaluation_episodes", "checkpoint_every_agent_steps")
        require_at_least(1, self, "shown_episodes")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a run is given: where it acts, what it starts from, and where it keeps its episodes."""

    env: Playable | Simulators
    demonstrations: Sequence[Episode]  # go into the replay
    seed: int
    folder: pathlib.Path | None = None  # of the replay's files; None keeps all in memory
    held_out: Sequence[Episode] = ()  # only measure a world model
    pretrained: WorldModelParams | None = None  # what a world model starts from instead of random weights
    perceptual: PerceptualWeights | None = None  # of LPIPS, where a tokenizer's config asks for that loss
    second_simulator: Callable[[], Settable] | None = None  # makes one, where the simulator is to be its own model
    demonstration_seeds: Callable[[int], Sequence[int]] | None = None  # from which demonstration i may have begun


class AlgorithmConfig(Protocol):
    """What the settings of every algorithm are: a frozen dataclass with these."""

    @property
    def resolution(self) -> int:
        """Side in pixels of the pictures that the simulator is asked for."""
        ...

    @property
    def world_model(self) -> WorldModelConfig | None:
        """The interactive world model, if any: measured on held-out episodes, saved, maybe pre-trained."""
        ...

    def for_simulator(self, action_size: int, resolution: int) -> Self:
        """The same settings for actions of `action_size` numbers and pictures of `resolution` pixels per side."""
        ...


@dataclasses.dataclass(frozen=True)
class Counts:
    """What has been done so far; with the state's arrays and the replay's files, all that a resume needs."""

    agent_steps: int = 0
    episodes: int = 0
    evaluated_agent_steps: int = -1

    def plus(self, **more: int) -> Self:
        return dataclasses.replace(self, **{name: getattr(self, name) + n for name, n in more.items()})


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A checkpoint: `arrays` is a pytree, `counts` plain integers."""

    arrays: Any
    counts: Mapping[str, int]


METRICS_EVERY_AGENT_STEPS = 25
"""Reading metrics waits for the device."""

CHECKPOINTS_WITH_FILES = 3
"""Checkpoints whose replay files stay: the newest may be half written, the one before it may turn out damaged."""


CountsOf = TypeVar("CountsOf", bound=Counts)


class Loop(Generic[CountsOf]):
    """One run. `events()` goes through it from where the counts say it is."""

    def __init__(
        self, schedule: Schedule, inputs: Inputs, replay: Replay, counts: CountsOf, stack: int, action_size: int
    ):
        """`stack`: frames that the policy sees at a time. The demonstrations go into the replay.

        Every simulator has `action_repeat`, `episode_agent_steps` (all episodes last as long) and `simulator_state()`.
        """
        self.schedule, self.envs, self.replay = schedule, as_vector_env(inputs.env), replay
        self.seed, demonstrations = inputs.seed, inputs.demonstrations
        self.action_repeat, self.episode_agent_steps = (
            self.envs.get_attr(name)[0] for name in ("action_repeat", "episode_agent_steps")
        )
        for episode in demonstrations:
            self.replay.add(episode, demonstration=True)
        self.demonstrations = len(demonstrations)
        self.counts, self.stack, self.action_size = counts, stack, action_size
        self.metrics = guards.WatchedMetrics()
        self.checkpoints = collections.deque([counts], CHECKPOINTS_WITH_FILES)

    # --- what an algorithm is -----------------------------------------------------------------------------------------

    def arrays(self) -> Any:
        """All that was learned, a pytree."""
        raise NotImplementedError

    def take(self, arrays: Any) -> None:
        """Continue from arrays of that structure; the counts and the real replay are restored already."""
        raise NotImplementedError

    def _prepare(self) -> Iterator[Event]:
        """What is learned before an episode that the policy acts in."""
        raise NotImplementedError

    def _act(self, stacks_nshwc: np.ndarray, step: int) -> np.ndarray:
        """The exploring policy's actions [N, A], while the updates of these N agent steps have been started."""
        raise NotImplementedError

    def _act_best(self, stacks_nshwc: np.ndarray, step: int) -> np.ndarray:
        """The actions [N, A] in an evaluation."""
        raise NotImplementedError

    def _catch_up(self, episodes: Sequence[Episode], step: int) -> None:
        """The part of `_act` that changes the state, for steps that a killed process had taken."""
        raise NotImplementedError

    def _learned_steps(self, count: int) -> None:
        """What follows `count` agent steps of the policy."""

    def _after_episode(self, episode: Episode, index: int) -> None:
        """What follows an episode of simulator `index`, which is in the replay now."""

    def _evaluate_extras(self) -> Iterator[Event]:
        """What is evaluated besides the policy."""
        return iter(())

    def _prune(self, oldest: CountsOf) -> None:
        """Remove the files of other replays that a checkpoint of these counts does not need."""

    def _imagined_bytes(self) -> int:
        """What is kept in memory besides the real episodes."""
        return 0

    def _outliers(self, metrics: Mapping[str, float]) -> Iterable[guards.Outlier]:
        return ()

    def trained_model(self) -> WorldModelParams | None:
        """The weights of the world model, where the algorithm has one that is worth keeping."""
        return None

    # --- where a run is -----------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The state as it is now."""
        return Snapshot(self.arrays(), dataclasses.asdict(self.counts))

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot of this configuration; the replay's folder holds at least its episodes."""
        self.counts = type(self.counts)(**snapshot.counts)
        self.replay.reload(self.demonstrations + self.counts.episodes, self.demonstrations)
        self.take(snapshot.arrays)
        self.checkpoints = collections.deque([self.counts], CHECKPOINTS_WITH_FILES)

    def restorable(self) -> dict[str, Any]:
        """Everything that a resume restores, and how the next episode would begin: a pytree of arrays and integers.

        Resets the environment.
        """
        snapshot = self.snapshot()
        frames_nhwc, _ = self.envs.reset(seed=list(self._episode_seeds("episode", self.counts.episodes)))
        return {
            "arrays": snapshot.arrays,
            "counts": snapshot.counts,
            "seed": self.seed,
            "real": [vars(episode) for episode in self.replay.episodes],
            "next_episodes": {"frames": frames_nhwc, "simulators": self.envs.call("simulator_state")},
        }

    @property
    def clock(self) -> Clock:
        return Clock(self.counts.agent_steps, self.counts.agent_steps * self.action_repeat)

    @property
    def acts(self) -> bool:
        """Whether the policy plays the episodes that begin now."""
        return self.counts.agent_steps >= self.schedule.random_agent_steps

    @property
    def _has_acted(self) -> bool:
        """Whether the policy played an episode."""
        newest = self.counts.agent_steps - self.envs.num_envs * self.episode_agent_steps
        return newest >= self.schedule.random_agent_steps

    @property
    def _evaluates_first_policy(self) -> bool:
        """Whether to evaluate a policy that has learned from what there is and played no episode yet."""
        return self.schedule.evaluate_first_policy and not self._has_acted

    @property
    def _over(self) -> bool:
        return self.counts.agent_steps >= self.schedule.agent_steps

    def _rng(self, purpose: str, counter: int = 0) -> np.random.Generator:
        return np.random.default_rng([self.seed, counter, *purpose.encode()])

    def _key(self, purpose: str, counter: int = 0) -> jax.Array:
        return jax.random.key(int(self._rng(purpose, counter).integers(2**31)))

    def _episode_seeds(self, purpose: str, first: int) -> list[int]:
        """Seeds of the episodes that the simulators play side by side."""
        return [self._episode_seed(purpose, first + index) for index in range(self.envs.num_envs)]

    def _episode_seed(self, purpose: str, number: int) -> int:
        return int(self._rng(purpose, number).integers(2**31))

    # --- a run --------------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        """The run from here to its end."""
        while True:
            if self._over and self._evaluates_first_policy:  # offline: it will never act
                yield from self._prepare()
            yield from self._evaluate_if_due()
            yield from self._safe_point()
            if self._over:
                return
            if self.acts:
                yield from self._prepare()
                if self._evaluates_first_policy:
                    yield from self._evaluate()
            yield from self._play_episodes()

    def _crossed(self, interval: int) -> bool:
        """Whether the last episodes passed a multiple of `interval` agent steps."""
        if self.counts.agent_steps == 0:
            return False
        before = self.counts.agent_steps - self.envs.num_envs * self.episode_agent_steps
        return self.counts.agent_steps // interval > before // interval

    def _safe_point(self) -> Iterator[Event]:
        """Between episodes: a checkpoint where one is due, once, and the run's end."""
        if not self._over and not self._crossed(self.schedule.checkpoint_every_agent_steps):
            yield SafePoint(self.clock, self.snapshot())
        elif self.counts != self.checkpoints[-1]:
            yield from self._checkpoint(self._over)

    def _checkpoint(self, over: bool = False) -> Iterator[Event]:
        """A checkpoint, after which the files go that only older ones needed."""
        yield MemoryUsage(self.clock, self.replay.bytes, self._imagined_bytes())
        if over:
            yield Finished(self.clock, self.restorable())
        yield CheckpointDue(self.clock, self.snapshot())
        self.checkpoints.append(self.counts)
        oldest = self.checkpoints[0]
        self.replay.prune(self.demonstrations + oldest.episodes)
        self._prune(oldest)

    # --- acting -------------------------------------------------------------------------------------------------------

    def _play_episodes(self) -> Iterator[Event]:
        """A real episode in each simulator; the learner computes while they step."""
        first, count, acts = self.counts.episodes, self.envs.num_envs, self.acts
        finished, played = self.replay.next_on_disk(count), []
        whole = len(finished) == count
        for done, played in self._replay_finished(finished, acts) if whole else self._play(first, acts):
            self.counts = self.counts.plus(agent_steps=count)
            if acts:
                self._learned_steps(count)
            log_now = done % METRICS_EVERY_AGENT_STEPS == 0
            yield from self._progress("training", self.counts.agent_steps, self.schedule.agent_steps, log_now)
        episodes = finished + [as_episode(parts) for parts in played[len(finished) :]]
        for index, episode in enumerate(episodes):
            self.replay.add(episode)
            self._after_episode(episode, index)
            self.counts = self.counts.plus(episodes=1)
        yield from self._progress("training", self.counts.agent_steps, self.schedule.agent_steps, log_now=True)
        for index, episode in enumerate(episodes):
            yield EpisodeFinished(self.clock, first + index, episode.total_reward, episode.success)

    def _play(self, first: int, acts: bool) -> Iterator[tuple[int, list[EpisodeBuffer]]]:
        """Episodes of the simulators, by the policy or at random."""
        indices = range(self.envs.num_envs)

        def at_random(stacks_nshwc: np.ndarray, step: int) -> np.ndarray:
            return np.stack([self._random_action(first + index, step) for index in indices])

        return play(self.envs, self._episode_seeds("episode", first), self.stack, self._explore if acts else at_random)

    def _replay_finished(self, episodes: Sequence[Episode], acts: bool) -> Iterator[tuple[int, list[EpisodeBuffer]]]:
        """Finished episodes again: what is learned beside them, step by step, without the simulators."""
        for step in range(episodes[0].length):
            if acts:
                self._catch_up(episodes, step)
            yield step + 1, []

    def _explore(self, stacks_nshwc: np.ndarray, step: int) -> np.ndarray:
        """The policy's actions [N, A]. Raises Diverged where those are not finite."""
        actions = self._act(stacks_nshwc, step)
        if not np.isfinite(actions).all():
            self.metrics.take()  # raises with the loss it came from
            raise guards.Diverged("the policy's action", self.counts.agent_steps)
        return actions

    def _random_action(self, episode: int, step: int) -> np.ndarray:
        kind = self.schedule.random_actions
        held = (episode * self.episode_agent_steps + step) // kind.hold_agent_steps
        return kind.draw(self._rng("random action", held), self.action_size)

    # --- evaluating ---------------------------------------------------------------------------------------------------

    def _evaluate_if_due(self) -> Iterator[Event]:
        """Evaluate before the first step, at every interval once the policy has learned, and at the end; each once."""
        now, schedule = self.counts.agent_steps, self.schedule
        learned = now > schedule.random_agent_steps
        every = learned and self._crossed(schedule.evaluate_every_agent_steps)
        if now == 0 or every or self._over:
            yield from self._evaluate()

    def _evaluate(self) -> Iterator[Event]:
        """Evaluate as the policy is now, unless this agent step was evaluated already."""
        now, schedule = self.counts.agent_steps, self.schedule
        if self.counts.evaluated_agent_steps == now:
            return
        episodes: list[Episode] = []
        while (missing := schedule.evaluation_episodes - len(episodes)) > 0:
            yield SafePoint(self.clock, self.snapshot())
            yield Progress("evaluation", len(episodes), schedule.evaluation_episodes)
            seeds = self._episode_seeds("evaluation", len(episodes))
            *_, (_, played) = play(self.envs, seeds, self.stack, self._act_best)
            episodes += [as_episode(parts) for parts in played[:missing]]
        yield Progress("evaluation", len(episodes), schedule.evaluation_episodes)
        self.counts = dataclasses.replace(self.counts, evaluated_agent_steps=now)
        yield Evaluated(
            self.clock,
            np.array([e.total_reward for e in episodes], np.float32),
            np.array([e.success for e in episodes]),
            np.stack([e.frames for e in episodes[: schedule.shown_episodes]]),
        )
        yield from self._evaluate_extras()

    # --- metrics ------------------------------------------------------------------------------------------------------

    def _progress(self, phase: str, done: int, total: int, log_now: bool) -> Iterator[Event]:
        """How far a phase is; with `log_now` also the newest metrics, which are then taken."""
        metrics = self.metrics.take() if log_now else {}
        yield Progress(phase, done, total, metrics)
        if metrics:
            yield Measured(self.clock, metrics)
            for outlier in self._outliers(metrics):
                yield OutlierWarning(self.clock, outlier)
