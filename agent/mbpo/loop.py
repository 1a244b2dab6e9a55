"""Model-based policy optimisation with an interactive world model (paper algorithm 1, after Janner et al., 2019).

Real episodes fill the replay; the tokenizer and the transformer learn from it; rollouts imagined from real frames with
the current policy fill a second replay; DrQ-v2 learns from both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

import tokenizer
import world_model
from agent.drqv2 import DrQv2Config, imagination_policy, noise_std
from agent.drqv2.loop import DrQv2, DrQv2Counts, join_transitions
from agent.events import Event, SafePoint
from agent.loop import Inputs, Schedule
from agent.mbpo.imagination import (
    CopyLast,
    Imagination,
    LearnedModel,
    Rollouts,
    SimulatorModel,
    measure,
    measure_spread,
)
from agent.mbpo.imagined import ImaginedReplay
from agent.mbpo.model_evaluation import Comparison, ModelEvaluated, evaluate_model
from agent.replay import Contexts, Segments, Transitions
from tokenizer.limits import require_at_least, require_shares
from world_model import TransformerConfig, WorldModelConfig, WorldModelParams

OF_THE_LEARNED_MODEL = {
    "reward_trust": "doubts the rewards of the learned model",
    "checked_rollouts": "measures the learned model",
    "gate": "measures the learned model",
    "entropy_scale": "weighs by what the learned model is unsure of",
    "reward_pessimism": "lowers rewards of which the learned model is unsure",
}
"""Settings that say nothing of a bound in its place, and why."""


@dataclasses.dataclass(frozen=True)
class ModelSchedule:
    """When the world model learns and imagines (paper appendix, Meta-World; the defaults are the paper's)."""

    start_agent_steps: int = 2000  # real steps before the model first learns
    initial_tokenizer_updates: int = 1000
    initial_transformer_updates: int = 1000
    alternate_initial: bool = False  # these updates take turns, as published: one of each part after the other
    initial_rollouts: int = 20
    imagined_updates: int = 0  # learner updates after these, with rollouts as often as later, before the policy acts
    tokenizer_every_env_steps: int | None = 40  # None: stays as first trained, so that the codes keep their meaning
    transformer_every_env_steps: int = 10
    rollout_every_env_steps: int = 200
    tokenizer_batch: int = 16  # segments per update
    transformer_batch: int = 16
    rollout_batch: int = 32
    rollout_max_batch: int | None = None  # imagined at a time, to bound the memory; None: all
    horizon: int = 10  # imagined agent steps per rollout
    temperature: float = 1.0
    top_k: int = 100
    real_share: float = 0.5  # of what a learner batch holds beside demonstrations, once there is imagined data
    imagined_capacity: int = 1000  # rollout batches kept
    imagination: Literal["learned", "simulator", "copy-last"] = "learned"  # the others are bounds, for comparison
    checked_rollouts: int = 0  # of a batch, also played in a second simulator to measure them: uncounted steps
    recent_share: float = 0.0  # of the rollouts, which start in the newest recent_episodes; the others anywhere
    recent_episodes: int = 5
    gate: bool = False  # imagined transitions only as far as the model beats its bounds on held-out episodes
    reward_trust: float = 1.0  # changes of an imagined reward, k steps ahead of its context, count trust^k
    reward_pessimism: float = 0.0  # imagined rewards less so many standard deviations of the model's reward ensemble
    clip_rewards: bool = False  # imagined rewards to the range of the real ones, which no policy can then exceed
    entropy_scale: float = 0.0  # imagined transitions weigh exp(-this * nats per token, added up to their end)
    td_lambda: float | None = None  # of imagined returns, in expectation, to the horizon; None: n_step

    def __post_init__(self):
        require_at_least(0, self, "start_agent_steps", "initial_tokenizer_updates", "initial_transformer_updates")
        require_at_least(0, self, "initial_rollouts", "imagined_updates", "checked_rollouts", "temperature")
        require_at_least(0, self, "entropy_scale", "reward_pessimism")
        require_at_least(1, self, "tokenizer_every_env_steps", "transformer_every_env_steps", "rollout_every_env_steps")
        require_at_least(1, self, "tokenizer_batch", "transformer_batch", "rollout_batch", "rollout_max_batch")
        require_at_least(1, self, "horizon", "top_k", "imagined_capacity", "recent_episodes")
        require_shares(self, "real_share", "recent_share", "td_lambda", "reward_trust")
        if self.alternate_initial and self.initial_tokenizer_updates != self.initial_transformer_updates:
            raise ValueError(
                f"alternate_initial takes as many first updates of the tokenizer as of the transformer, found "
                f"{self.initial_tokenizer_updates} and {self.initial_transformer_updates}"
            )
        if self.imagination not in ("learned", "simulator", "copy-last"):
            raise ValueError(f"imagination is {self.imagination!r}: expected learned, simulator or copy-last")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, what in OF_THE_LEARNED_MODEL.items():
            if getattr(self, name) != defaults[name] and self.imagination != "learned":
                raise ValueError(f"{name} {what}, and imagination is {self.imagination}: set it to {defaults[name]}")
        if self.checked_rollouts > self.rollout_batch:
            raise ValueError(
                f"checked_rollouts is {self.checked_rollouts}, but a batch holds {self.rollout_batch} rollouts"
            )


@dataclasses.dataclass(frozen=True)
class MBPOConfig:
    """The whole algorithm: the actor-critic, the world model, and when the model learns and imagines."""

    agent: DrQv2Config = DrQv2Config()
    world_model: WorldModelConfig = WorldModelConfig(transformer=TransformerConfig(reward_head=True))
    model: ModelSchedule = ModelSchedule()

    def __post_init__(self):
        world_model, frames = self.world_model, self.world_model.tokenizer.context_frames
        if world_model.goal_conditioned:
            raise ValueError(
                "model-based policy optimisation imagines from real frames alone and has no goal frame: "
                "set goal_conditioned of its world model to False"
            )
        if not world_model.transformer.reward_head:
            raise ValueError("model-based policy optimisation learns from imagined rewards: keep the reward head")
        if world_model.tokenizer.has_turns:
            raise ValueError(
                "the published discriminator takes its turns in pre-training and fine-tuning alone: set "
                "adversarial_weight to 0, or discriminator to 'patchgan'"
            )
        world_model.check_horizon(self.model.horizon)
        world_model.check_horizon(world_model.segment_frames - frames)
        if self.agent.stack < frames:
            raise ValueError(
                f"rollouts start from the policy's stack of {self.agent.stack} frames, but the model's context takes "
                f"{frames}: raise --mbpo.agent.stack"
            )

    def check_ensemble(self) -> None:
        """Raise ValueError where the rewards of a model without an ensemble are to be lowered by how it differs.

        Not before the model is known: one that is there may have an ensemble that the preset does not have.
        """
        if self.model.reward_pessimism and not self.world_model.transformer.reward_networks:
            raise ValueError(
                "reward_pessimism goes by how a reward ensemble differs: set reward_ensemble of the transformer to 5"
            )

    @property
    def resolution(self) -> int:
        """Side in pixels of what the world model sees, and so the policy."""
        return self.world_model.tokenizer.resolution

    def for_simulator(self, action_size: int, resolution: int) -> MBPOConfig:
        """The same algorithm for actions of `action_size` numbers and pictures of `resolution` pixels per side.

        Raises ValueError as `check_ensemble` does.
        """
        self.check_ensemble()
        transformer = dataclasses.replace(self.world_model.transformer, action_size=action_size)
        world_model = dataclasses.replace(self.world_model, transformer=transformer)
        return dataclasses.replace(
            self, agent=self.agent.for_simulator(action_size, resolution), world_model=world_model
        )


@dataclasses.dataclass(frozen=True)
class MBPOCounts(DrQv2Counts):
    """Also what the world model has done."""

    tokenizer_updates: int = 0
    transformer_updates: int = 0
    rollouts: int = 0


class MBPO(DrQv2):
    """Algorithm 1. `events()` goes through it from where the counts say it is."""

    counts: MBPOCounts

    def __init__(self, config: MBPOConfig, schedule: Schedule, inputs: Inputs):
        """The folder of `inputs` mirrors both replays; its held-out episodes only measure the world model."""
        super().__init__(config.agent, schedule, inputs, MBPOCounts())
        self.config, self.held_out, self.perceptual = config, inputs.held_out, inputs.perceptual
        agent, imagined = config.agent, inputs.folder and inputs.folder / "imagined"
        self.imagined = ImaginedReplay(
            imagined, config.model.imagined_capacity, agent.stack, agent.n_step, agent.discount,
            config.model.entropy_scale, config.model.td_lambda,
        )  # fmt: skip
        self.model = world_model.init(config.world_model, self._key("model init"))
        if inputs.pretrained is not None:
            self.model = self.model.with_params(inputs.pretrained)
        self.demonstration_seeds = inputs.demonstration_seeds
        self.truth = self._truth(inputs)
        self.imagination = self._imagination()
        self.trusted = np.float32(1)  # of the imagined share of a batch: what the gate lets through

    def _truth(self, inputs: Inputs) -> SimulatorModel | None:
        """The simulator as model, where the schedule asks for it. Raises ValueError where nobody gave a second one."""
        schedule = self.config.model
        if schedule.imagination != "simulator" and not schedule.checked_rollouts:
            return None
        if inputs.second_simulator is None:
            raise ValueError("imagination by the simulator needs a second simulator: give inputs.second_simulator")
        return SimulatorModel(inputs.second_simulator(), self._seeds_of)

    def _imagination(self) -> Imagination:
        """What the schedule asks for."""
        schedule = self.config.model
        self.config.check_ensemble()
        if schedule.imagination == "copy-last":
            return CopyLast()
        if schedule.imagination == "simulator":
            assert self.truth is not None
            return self.truth
        model = self.config.world_model
        return LearnedModel(model, schedule.temperature, schedule.top_k, schedule.rollout_max_batch)

    def _seeds_of(self, number: int) -> Sequence[int]:
        """Those that an episode, counted from the run's start, demonstrations first, may have begun from."""
        if number >= self.demonstrations:
            return [self._episode_seed("episode", number - self.demonstrations)]
        assert self.demonstration_seeds is not None, "only the run's own episodes are contexts where nobody knows these"
        return self.demonstration_seeds(number)

    @property
    def learns_model(self) -> bool:
        return self.config.model.imagination == "learned"

    def arrays(self) -> dict[str, Any]:
        trusted = {"trusted": self.trusted} if self.config.model.gate else {}
        return super().arrays() | {"model": self.model} | trusted

    def take(self, arrays: dict[str, Any]) -> None:
        super().take(arrays)
        self.model = arrays["model"]
        self.trusted = np.float32(arrays.get("trusted", 1))
        self.imagined.reload(self.counts.rollouts)

    def restorable(self) -> dict[str, Any]:
        return super().restorable() | {"imagined": self.imagined.rollouts}

    def trained_model(self) -> WorldModelParams | None:
        return self.model.params if self.learns_model else None

    def _prune(self, oldest: DrQv2Counts) -> None:
        assert isinstance(oldest, MBPOCounts)
        self.imagined.prune(oldest.rollouts)

    def _imagined_bytes(self) -> int:
        return self.imagined.bytes

    # --- the actor-critic ---------------------------------------------------------------------------------------------

    def _prepare(self) -> Iterator[Event]:
        yield from super()._prepare()  # first: rollouts of an untrained policy are of no use to anyone
        yield from self._prepare_model()

    def _learned_steps(self, count: int) -> None:
        self._model_updates(count)
        super()._learned_steps(count)

    def _draw_transitions(self, rng: np.random.Generator) -> Transitions:
        """A learner batch, with weights from the first on where the schedule weighs: one program for the whole run."""
        drawn = self._draw_shares(rng)
        return drawn.with_weights() if self.config.model.entropy_scale else drawn

    def _draw_shares(self, rng: np.random.Generator) -> Transitions:
        """Demonstrations as without a model; of the rest, once there is imagined data, a real and an imagined share."""
        imagined = self._imagined_rows() if self.imagined.rollouts else 0
        if not imagined:
            return super()._draw_transitions(rng)
        agent, parts = self.config.agent, [self.imagined.transitions(rng, imagined)]
        if real := agent.batch - imagined:
            demonstrated = min(agent.demonstration_share * agent.batch / real, 1.0)
            parts.insert(0, self.replay.transitions(rng, real, demonstrated))
        return join_transitions(parts, np.concatenate)

    def _imagined_rows(self) -> int:
        """Rows of a learner batch that are imagined."""
        agent, schedule = self.config.agent, self.config.model
        demonstrated = round(agent.batch * agent.demonstration_share) if self.replay.demonstrations else 0
        share = (1 - schedule.real_share) * float(self.trusted)
        return round((agent.batch - demonstrated) * share)

    # --- the world model ----------------------------------------------------------------------------------------

    def _prepare_model(self) -> Iterator[Event]:
        """The model's first training, its first evaluation, and the first rollouts."""
        if self.counts.agent_steps < self.config.model.start_agent_steps and not self._over:
            return
        schedule = self.config.model
        if not self.learns_model:  # nothing to train before the first rollouts
            schedule = dataclasses.replace(schedule, initial_tokenizer_updates=0, initial_transformer_updates=0)
        tokenizer, transformer = schedule.initial_tokenizer_updates, schedule.initial_transformer_updates
        stages: list[tuple[str, str, int, Callable[[], None]]] = [
            ("first tokenizer training", "tokenizer_updates", tokenizer, self._update_tokenizer),
            ("first transformer training", "transformer_updates", transformer, self._update_transformer),
            ("first rollouts", "rollouts", schedule.initial_rollouts, self._imagine),
        ]
        if schedule.imagined_updates:
            total = self.config.agent.initial_updates + schedule.imagined_updates
            stages.append(("learning in imagination", "agent_updates", total, self._learn_in_imagination))
        if schedule.alternate_initial:
            stages[:2] = [("first training", "transformer_updates", transformer, self._update_both)]
        for phase, counter, total, act_once in stages:
            if getattr(self.counts, counter) >= total:
                continue
            if counter == "rollouts" and not self.counts.rollouts and self.learns_model:
                yield self._evaluate_model()
            while getattr(self.counts, counter) < total:
                act_once()
                done = min(getattr(self.counts, counter), total)
                yield from self._progress(phase, done, total, log_now=done % 10 == 0 or done == total)
                if done < total:
                    yield SafePoint(self.clock, self.snapshot())
            yield from self._checkpoint()

    def _learn_in_imagination(self) -> None:
        """The updates of an agent step that nobody takes, then rollouts where as many updates bring some later on."""
        before, per_step = self.counts.agent_updates, self.config.agent.updates_per_agent_step
        self._learn(self._draw_batch())
        interval = max(self.config.model.rollout_every_env_steps * per_step // self.action_repeat, 1)
        for _ in range(self.counts.agent_updates // interval - before // interval):
            self._imagine()

    def _model_updates(self, agent_steps: int) -> None:
        """What the model's schedule asks for over the last `agent_steps` steps."""
        if not self.counts.rollouts:
            return
        schedule, env_steps = self.config.model, self.clock.env_steps
        duties = [(schedule.rollout_every_env_steps, self._imagine)]
        if self.learns_model:
            duties = [
                (schedule.tokenizer_every_env_steps, self._update_tokenizer),
                (schedule.transformer_every_env_steps, self._update_transformer),
                *duties,
            ]
        for interval, act_once in duties:
            if interval is None:
                continue
            for _ in range(env_steps // interval - (env_steps - agent_steps * self.action_repeat) // interval):
                act_once()

    def _segments(self, purpose: str, counter: int, batch: int) -> Segments:
        return self.replay.segments(self._rng(purpose, counter), batch, self.config.world_model.segment_frames)

    def _update_both(self) -> None:
        self._update_tokenizer()
        self._update_transformer()

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
        schedule = config.model
        contexts = self.replay.contexts(
            self._rng("contexts", count), schedule.rollout_batch, schedule.horizon, schedule.recent_share,
            schedule.recent_episodes, own=schedule.imagination == "simulator" and self.demonstration_seeds is None,
        )  # fmt: skip
        std = noise_std(config.agent, self.counts.agent_steps)
        policy = imagination_policy(config.agent, self.agent.parameters, std)
        key = self._key("imagine", count)
        rollouts = self.imagination(contexts, policy, key, schedule.horizon, self.model.params)
        rewards = self._paid_rewards(contexts, rollouts)
        paid = rollouts._replace(rewards_bf=rewards)
        self.imagined.add(count, contexts.stacks_bshwc, *paid[:4])
        self.counts = self.counts.plus(rollouts=1)
        summary = {"reward": rewards.mean(), "reward_smallest": rewards.min(), "reward_largest": rewards.max()}
        if schedule.entropy_scale and rollouts.entropies_bf is not None:
            summary["entropy"] = rollouts.entropies_bf.mean()  # by which to choose the scale
        if rollouts.reward_spreads_bf is not None:
            summary["reward_spread"] = rollouts.reward_spreads_bf.mean()
        if schedule.checked_rollouts:
            summary |= self._check(contexts, rollouts, paid)
        played = rewards.size if schedule.imagination == "simulator" else schedule.checked_rollouts * schedule.horizon
        if played:  # at most: rollouts from a scene that nobody knows are not checked
            summary["uncounted_agent_steps"] = np.float32(self.counts.rollouts * played)
        self.metrics.note("imagined", summary, self.counts.agent_steps)

    def _paid_rewards(self, contexts: Contexts, rollouts: Rollouts) -> np.ndarray:
        """Imagined rewards as the policy is paid: lowered by what the model is unsure of, drawn to those of the
        contexts, and cut, each where the schedule says so."""
        schedule, rewards_bf = self.config.model, rollouts.rewards_bf
        if schedule.reward_pessimism:
            assert rollouts.reward_spreads_bf is not None  # see MBPOConfig.check_ensemble
            rewards_bf = rewards_bf - np.float32(schedule.reward_pessimism) * rollouts.reward_spreads_bf
        if schedule.reward_trust < 1:
            present_b1 = contexts.rewards_b[:, None]
            trust_f = np.float32(schedule.reward_trust) ** np.arange(1, rewards_bf.shape[1] + 1, dtype=np.float32)
            rewards_bf = present_b1 + trust_f * (rewards_bf - present_b1)
        if schedule.clip_rewards:
            real = self.replay.rewards()
            rewards_bf = np.clip(rewards_bf, real.min(), real.max())
        return rewards_bf

    def _check(self, contexts: Contexts, rollouts: Rollouts, paid: Rollouts) -> dict[str, np.float32]:
        """The first rollouts of a batch beside what really follows; nothing where no scene of theirs is known.

        paid: with the rewards that the policy learns from.
        """
        first = 0 if self.demonstration_seeds is not None else self.demonstrations
        known = [row for row, number in enumerate(contexts.numbers_b) if number >= first]
        rows = known[: self.config.model.checked_rollouts]
        if not rows:
            return {}
        assert self.truth is not None
        real = self.truth.follow(contexts.rows(rows), rollouts.actions_bfa[rows])
        return measure(paid.rows(rows), real) | measure_spread(rollouts.rows(rows), real)

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def _evaluate_extras(self) -> Iterator[Event]:
        if self.counts.rollouts and self.learns_model:
            yield self._evaluate_model()

    def _evaluate_model(self) -> ModelEvaluated:
        config = self.config
        comparison = evaluate_model(config.world_model, self.model.params, self.held_out, config.model.horizon)
        if config.model.gate:
            self.trusted = np.float32(trust(comparison))
        return ModelEvaluated(self.clock, comparison)


def trust(comparison: Comparison) -> float:
    """How far a gate opens, in [0, 1]: closed for a model no better than copying the last frame or than itself under
    other actions, open for one with half the error of both."""
    bounds = [comparison.mse_copy_last, comparison.mse_shuffled_actions]
    bound = min(value for value in bounds if value is not None)
    return float(np.clip(2 * (1 - comparison.mse_imagined / bound), 0, 1)) if bound > 0 else 0.0
