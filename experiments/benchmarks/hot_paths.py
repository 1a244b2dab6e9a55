"""What `ivideogpt bench` times: the programs that a run spends its time in, with made-up arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

import tokenizer
import world_model
from agent import drqv2
from agent.dreamerv3 import learner as dreamer
from agent.dreamerv3 import rssm
from agent.dreamerv3.config import SIZES, DreamerConfig
from agent.dreamerv3.objective import SequenceBatch
from agent.drqv2 import DrQv2Config
from agent.mbpo import MBPOConfig
from agent.planning import Cost, Goal, PlannerConfig, begin
from agent.planning.models import PlanningProgram, compiled_plan
from experiments.errors import UsageError
from experiments.training.config import Experiment
from experiments.weights.metric_weights import VGG16
from world_model import WorldModelConfig

PathName = Literal[
    "rollout", "plan", "plan-codes", "train-transformer", "train-tokenizer", "tokenize", "detokenize", "train-agent",
    "dreamerv3",
]  # fmt: skip
"""What `hot_path` knows."""
PLANS = {"plan": "pixels", "plan-codes": "codes"}
"""Paths that are searches, and by which cost."""
Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class HotPath:
    """A jitted function of the project as it is, what it takes, and what one run of it brings."""

    function: Any  # jitted
    static: tuple[Any, ...]  # its first arguments, known when it is compiled
    arguments: Callable[[Array], tuple]  # the others, from a key; under `jax.eval_shape` their shapes only
    batch: int
    horizon: int | None  # future frames, where there are any
    brings: int
    unit: Literal["frames", "tokens", "updates", "candidates"]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # static too, by name
    trains: bool = False  # its first argument is a state that it consumes, its first result the next one
    size: str | None = None  # by name, where it is not the preset's

    def trace(self) -> jax.stages.Traced:
        """The program, without allocating any argument."""
        return self.function.trace(*self.static, *jax.eval_shape(self.arguments, jax.random.key(0)), **self.options)


def hot_path(
    name: PathName,
    experiment: Experiment,
    precision: Precision,
    batch: int | None,
    horizon: int | None,
    max_batch: int | None,
    size: str | None = None,
    model: WorldModelConfig | None = None,
) -> HotPath:
    """A hot path by name, of a preset in a precision; None: the preset's size. model: a world model of these settings
    in place of the preset's. Raises UsageError, ValueError."""
    if size is not None and name != "dreamerv3":
        raise UsageError(f"--size is for dreamerv3: the sizes of {name} are the preset's")
    if model is not None and name in ("dreamerv3", "train-agent"):
        raise UsageError(f"--model is for the parts of a world model: {name} is none")
    if max_batch is not None and name not in ("rollout", *PLANS):
        raise UsageError(f"--max-batch is for rollouts and plans: {name} is not computed in pieces")
    if name == "dreamerv3":
        if horizon is not None:
            raise UsageError("dreamerv3 has no --horizon: it imagines as far as its published settings say")
        return train_dreamer(size or "1M", precision, batch)
    mbpo: Any = experiment.algorithm
    if not isinstance(mbpo, MBPOConfig):
        raise UsageError(f"{name} is a part of mbpo, which the preset {experiment.preset} does not train")
    if name == "train-agent":
        if horizon is not None or precision != "float32":
            raise UsageError("train-agent has no --horizon and computes in float32")
        return train_agent(mbpo.agent, batch or mbpo.agent.batch, mbpo.resolution)
    schedule, config = mbpo.model, with_precision(model or mbpo.world_model, precision)
    if name == "rollout":
        pieces = max_batch or schedule.rollout_max_batch
        options = {"temperature": schedule.temperature, "top_k": schedule.top_k, "max_batch": pieces}
        return rollout(config, batch or schedule.rollout_batch, horizon or schedule.horizon, options)
    if name in PLANS:
        return plan(config, PLANS[name], batch or 300, horizon or 6, max_batch)
    segments = {
        "train-transformer": train_transformer,
        "train-tokenizer": train_tokenizer,
        "tokenize": tokenize,
        "detokenize": detokenize,
    }
    whole = config.segment_frames - config.tokenizer.context_frames
    default = schedule.tokenizer_batch if name == "train-tokenizer" else schedule.transformer_batch
    return segments[name](config, batch or default, horizon or whole)


def with_precision(config: WorldModelConfig, precision: Precision) -> WorldModelConfig:
    """The same world model; tokenizer and transformer compute in that precision."""
    return dataclasses.replace(
        config,
        tokenizer=dataclasses.replace(config.tokenizer, compute_dtype=precision),
        transformer=dataclasses.replace(config.transformer, compute_dtype=precision),
    )


def rollout(config: WorldModelConfig, batch: int, horizon: int, options: dict[str, Any]) -> HotPath:
    """Imagination under given actions, counted in imagined frames."""

    def arguments(key: Array) -> tuple:
        frames = _frames(config, batch, config.tokenizer.context_frames)
        return world_model.init(config, key).params, frames, _actions(config, batch, horizon), key

    return HotPath(
        world_model.rollout, (config,), arguments, batch, horizon, batch * horizon, "frames", options=options
    )


def plan(config: WorldModelConfig, cost: str, samples: int, horizon: int, max_batch: int | None) -> HotPath:
    """One iteration of CEM, by what the last frame costs; counted in candidates."""
    planner = PlannerConfig(samples=samples, elites=min(10, samples), iterations=1, horizon=horizon, execute=1)
    program = PlanningProgram(config, planner, Cost(((cost, 1.0),)), max_batch)

    def arguments(key: Array) -> tuple:
        frames = _frames(config, 1, config.tokenizer.context_frames)[0]
        goal = Goal(jnp.zeros(frames.shape[1:]))
        return world_model.init(config, key).params, frames, goal, begin(planner, config.transformer.action_size), key

    return HotPath(compiled_plan, (program,), arguments, samples, horizon, samples, "candidates")


def train_transformer(config: WorldModelConfig, batch: int, horizon: int) -> HotPath:
    """One update of the transformer on tokens; counted in all tokens of the segments."""
    frames, length = config.tokenizer.context_frames + horizon, config.layout.length(horizon)

    def arguments(key: Array) -> tuple:
        tokens_bl = jax.random.randint(key, (batch, length), 0, config.layout.future_slot)
        state = world_model.init_transformer(config, key)
        return state, tokens_bl, _actions(config, batch, frames), jnp.zeros((batch, frames)), key

    function = world_model.token_train_step
    return HotPath(function, (config,), arguments, batch, horizon, batch * length, "tokens", trains=True)


def train_tokenizer(config: WorldModelConfig, batch: int, horizon: int) -> HotPath:
    """One update of the tokenizer; counted in the frames that it learns from, not in those that it leaves out."""
    context_frames, sample = config.tokenizer.context_frames, config.tokenizer.future_sample
    learned = batch * (context_frames + (horizon if sample is None else min(horizon, sample)))
    static = (config.tokenizer, config.tokenizer_optimizer)

    def arguments(key: Array) -> tuple:
        frames = _frames(config, batch, context_frames + horizon)
        return tokenizer.init(*static, key), frames, key, zero_perceptual(config)

    return HotPath(tokenizer.train_step, static, arguments, batch, horizon, learned, "frames", trains=True)


def tokenize(config: WorldModelConfig, batch: int, horizon: int) -> HotPath:
    """Segments to tokens; counted in frames."""
    frames = config.tokenizer.context_frames + horizon

    def arguments(key: Array) -> tuple:
        return world_model.init(config, key).params, _frames(config, batch, frames)

    return HotPath(world_model.tokenize, (config,), arguments, batch, horizon, batch * frames, "frames")


def detokenize(config: WorldModelConfig, batch: int, horizon: int) -> HotPath:
    """Tokens to segments; counted in frames."""
    frames, length = config.tokenizer.context_frames + horizon, config.layout.length(horizon)

    def arguments(key: Array) -> tuple:
        params = world_model.init(config, key).params
        return params, jax.random.randint(key, (batch, length), 0, config.layout.future_slot)

    return HotPath(world_model.detokenize, (config,), arguments, batch, horizon, batch * frames, "frames")


def train_agent(config: DrQv2Config, batch: int, resolution: int) -> HotPath:
    """The actor-critic's updates of one agent step."""
    config = dataclasses.replace(config, resolution=resolution)
    updates = config.updates_per_agent_step

    def arguments(key: Array) -> tuple:
        pictures = jax.random.bits(key, (2, updates, batch, config.stack, resolution, resolution, 3), jnp.uint8)
        rewards = jax.random.uniform(key, (updates, batch))
        actions = jax.random.uniform(key, (updates, batch, config.action_size), minval=-1.0)
        demonstrations = jnp.zeros((updates, batch))
        batches = drqv2.LearnerBatch(
            pictures[0], actions, rewards, 0.97 * jnp.ones_like(rewards), pictures[1], demonstrations
        )
        return drqv2.init(config, key), batches, jnp.int32(0), key

    static = (config,)
    return HotPath(drqv2.train_step, static, arguments, batch, None, updates, "updates", trains=True)


def dreamer_config(size: str, precision: Precision) -> DreamerConfig:
    """The published settings at a size, `1m` and `1M` alike. Raises UsageError with the names."""
    sizes = {name.lower(): model for name, model in SIZES.items()}
    if size.lower() not in sizes:
        raise UsageError(f"unknown size '{size}': choose one of {', '.join(SIZES)}")
    return DreamerConfig(dataclasses.replace(sizes[size.lower()], compute=precision))


def train_dreamer(size: str, precision: Precision, batch: int | None) -> HotPath:
    """One update of DreamerV3, of a size by name, on sequences of 64 agent steps."""
    config = dreamer_config(size, precision)
    batch, side = batch or config.batch, config.model.resolution
    shape = (batch, config.length)

    def arguments(key: Array) -> tuple:
        frames = jax.random.bits(key, (*shape, side, side, 3), jnp.uint8)
        actions = jax.random.uniform(key, (*shape, config.model.action_size), minval=-1.0)
        nowhere = jnp.zeros(shape, bool)
        start = rssm.initial(config.model, batch)
        sequences = SequenceBatch(frames, actions, jax.random.uniform(key, shape), nowhere, nowhere, nowhere, start)
        return dreamer.init(config, key), sequences, key

    return HotPath(dreamer.train_step, (config,), arguments, batch, None, 1, "updates", trains=True, size=size)


def zero_perceptual(config: WorldModelConfig) -> tokenizer.PerceptualWeights | None:
    """Zeros in the shapes of LPIPS's weights, where the tokenizer is trained with them."""
    if config.tokenizer.perceptual_weight == 0:
        return None
    blocks, inputs = [], 3
    for widths in VGG16:
        pairs = zip((inputs, *widths), widths, strict=False)
        blocks.append(tuple((jnp.zeros((3, 3, x, y)), jnp.zeros(y)) for x, y in pairs))
        inputs = widths[-1]
    return tokenizer.PerceptualWeights(tuple(blocks), tuple(jnp.zeros(widths[-1]) for widths in VGG16))


def _frames(config: WorldModelConfig, batch: int, frames: int) -> Array:
    """Noise: what a picture shows does not change what it costs."""
    side = config.tokenizer.resolution
    return jax.random.bits(jax.random.key(1), (batch, frames, side, side, 3), jnp.uint8)


def _actions(config: WorldModelConfig, batch: int, frames: int) -> Array:
    return jax.random.uniform(jax.random.key(2), (batch, frames, config.transformer.action_size), minval=-1.0)
