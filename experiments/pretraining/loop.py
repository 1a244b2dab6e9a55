"""The training loop as a generator of events. What follows a checkpoint does not depend on whether it was restarted."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import world_model
from agent.events import CheckpointDue, Clock, Progress, SafePoint
from agent.mbpo.model_evaluation import Comparison
from agent.replay import Segments
from experiments.data.loader import Loader
from experiments.data.store import Store
from experiments.data.tokens import TokenLoader, TokenSegments
from experiments.pretraining import tokenizing
from experiments.pretraining.config import Pretraining, Stage
from experiments.pretraining.mesh import (
    by_segment,
    check_batch,
    everywhere,
    from_this_process,
    make_mesh,
    on_one_device,
    put,
    whole,
)
from experiments.pretraining.program import program
from experiments.pretraining.validation import (
    Reconstructed,
    evaluate_imagination,
    reconstruct,
    validate,
    with_held_out,
)
from experiments.runs import hosts
from world_model import WorldModelParams

STAGES = ("tokenizer", "transformer")
METRICS_EVERY = 25
VALIDATION_BATCH = 8
"""Segments: the same for every batch size, so that figures compare."""


@dataclasses.dataclass(frozen=True)
class Validated:
    """Scalars over the held-out segments, by part of the model, and what to look at of them."""

    step: int
    metrics: Mapping[str, Mapping[str, float]]
    reconstructed: Reconstructed | None
    comparison: Comparison | None


class Trainer:
    """One run. `events()` goes through it from where it stands; `step` counts the updates of both stages."""

    def __init__(self, config: Pretraining, params: WorldModelParams, perceptual: Any = None, workers: int = 0):
        """workers: processes that read segments beside the threads of this one; they change nothing but the rate."""
        self.config, self.model = config, config.scheduled
        self.mesh = make_mesh(config.mesh)
        self.params, self.perceptual = put((params, perceptual), everywhere(self.mesh))
        self.step, self._workers = 0, workers
        self._loader_state: Mapping[str, Any] | None = None
        self.stages = [name for name in STAGES if self.stage_of(name).steps]
        if self.stages:
            self.enter(self.stages[0])

    def stage_of(self, name: str) -> Stage:
        return getattr(self.config, name)

    def enter(self, name: str) -> None:
        """Begin a stage: a new optimizer for the part that learns."""
        self.name, self._loader_state = name, None
        check_batch(self.mesh, self.stage_of(name).batch, self._pieces, name)
        kind = "tokens" if name == "transformer" and self.config.tokens else name
        self.program = program(kind, self.model, self.config.mesh, self.mesh)
        params, places = getattr(self.params, name), self.program.shardings
        self.state = put(self.program.init(self._key("init", 0)).replace(params=params), places)
        self.average = None if self.config.ema_decay is None else put(params, places.params)

    def snapshot(self) -> dict[str, Any]:
        """All arrays that a resume needs."""
        frozen = self.params.transformer if self.name == "tokenizer" else self.params.tokenizer
        return {"learned": self.state, "average": self.average, "frozen": frozen}

    def prepare(self, step: int) -> dict[str, Any]:
        """The structure of the checkpoint of a step."""
        name = "tokenizer" if step <= self.config.tokenizer.steps else "transformer"
        if name != self.name:
            self.enter(name)
        return self.snapshot()

    def restore(self, step: int, arrays: Mapping[str, Any], loader_state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, whose structure `prepare` gave."""
        self.step, self.state, self.average = step, arrays["learned"], arrays["average"]
        other = "transformer" if self.name == "tokenizer" else "tokenizer"
        self.params = self.params.replace(**{other: arrays["frozen"]})
        self._loader_state = loader_state

    def model_params(self) -> WorldModelParams:
        """The model as it is now: the average where one is kept."""
        if not self.stages:
            return self.params
        learned = self.state.params if self.average is None else self.average
        return self.params.replace(**{self.name: learned})

    def whole_params(self) -> WorldModelParams:
        """`model_params` on one device of this process, for what is not divided; all processes ask at the same time."""
        return on_one_device(self.mesh, self.model_params())

    def events(self) -> Generator[Progress | Validated | SafePoint]:
        """The stages from here on, with a border after every update. Where nothing is to be learned, the model is only
        evaluated."""
        if not self.stages:
            yield self.validated(self._evaluated_stages(True))
        for name in self.stages[self.stages.index(self.name) :] if self.stages else ():
            if name != self.name:
                self.params = whole(self.mesh, self.model_params())
                self.enter(name)
            yield from self._stage()

    def _stage(self) -> Generator[Progress | Validated | SafePoint]:
        config, stage = self.config, self.stage_of(self.name)
        before = config.tokenizer.steps if self.name == "transformer" else 0
        last_one = self.name == self.stages[-1]
        if self.program.part == "tokens":
            loader = yield from self._tokens(stage)
        else:
            loader = self._loader(stage.batch, jax.process_index(), jax.process_count())
        with contextlib.closing(loader):
            if self._loader_state is not None:
                loader.restore(self._loader_state)
            while (done := self.step - before) < stage.steps:
                metrics = self._update(next(loader))
                if self._has_turn:
                    metrics |= self._take_turn(next(loader))
                self.step, done = self.step + 1, done + 1
                over = done == stage.steps
                shown = {k: float(v) for k, v in metrics.items()} if done % METRICS_EVERY == 0 or over else {}
                yield Progress(self.name, done, stage.steps, shown)
                if done % config.validate_every == 0 or over:
                    yield self.validated(self._evaluated_stages(over and last_one))
                kind = CheckpointDue if done % config.checkpoint_every == 0 or over else SafePoint
                yield kind(Clock(), {"arrays": self.snapshot(), "loader": loader.state()})

    def _loader(self, batch: int, host: int = 0, hosts: int = 1) -> Loader:
        settings = dataclasses.replace(self.config.loader(batch, self.stage_of(self.name)), workers=self._workers)
        return Loader(settings, self.config.data, "train", host, hosts)

    def _tokens(self, stage: Stage) -> Generator[Progress, None, TokenLoader]:
        """Batches of the tokens of the segments that `_loader` would give, made now where they are not kept yet."""
        kept_in = self.config.tokens
        assert kept_in is not None  # or `enter` had chosen another program
        wanted, params = self.config.token_segments or stage.steps * stage.batch, self.whole_params()
        segments = self._loader(tokenizing.BATCH)
        if hosts.is_first():
            folder = tokenizing.open_token_folder(kept_in, segments, self.model, params)
            yield from tokenizing.fill(folder, wanted, segments, self.model, params)
        hosts.wait_for_all("tokens")
        folder = tokenizing.open_token_folder(kept_in, segments, self.model, params)
        return TokenLoader(folder, wanted, stage.batch, jax.process_index(), jax.process_count())

    def _evaluated_stages(self, at_the_end: bool) -> tuple[str, ...]:
        """The part that learns; in the end both, but for a transformer that nobody has trained or whose actions are
        missing."""
        evaluated = bool(self.config.source or self.config.transformer.steps) and self._acted
        return (STAGES if evaluated else STAGES[:1]) if at_the_end else (self.name,)

    @property
    def _acted(self) -> bool:
        """Whether the data has the actions that the transformer takes, if it takes any."""
        return not self.model.transformer.action_size or all(
            Store(part.folder).signals.action_size for part in self.config.data
        )

    def validated(self, parts: Sequence[str]) -> Validated:
        """Judge parts of the model on the held-out recordings, always the same segments."""
        config, params = self.config, self.whole_params()
        batches = self._held_out
        if not batches:
            return Validated(self.step, {}, None, None)
        perceptual = on_one_device(self.mesh, self.perceptual)
        metrics = {part: validate(self.model, params, part, batches, perceptual) for part in parts}
        return Validated(
            self.step,
            metrics,
            reconstruct(self.model, params, batches[0][0]) if "tokenizer" in parts else None,
            evaluate_imagination(config, self.model, params) if "transformer" in parts else None,
        )

    @functools.cached_property
    def _held_out(self) -> list[tuple]:
        """Batches of held-out segments; none where every data set is a single recording."""
        parts = with_held_out(self.config)
        if not parts:
            return []
        settings = dataclasses.replace(self.config.loader(VALIDATION_BATCH), augmentation=None)
        loader = Loader(settings, parts, "validation")
        batches = list(itertools.islice(loader, self.config.validation_batches))
        loader.close()
        return [(batch.frames_bthwc, self._actions(batch), batch.rewards_bt) for batch in batches]

    def _actions(self, batch: Segments | TokenSegments) -> np.ndarray:
        size = self.model.transformer.action_size
        return np.asarray(world_model.pad_actions(batch.actions_bta, size)) if size else batch.actions_bta[..., :0]

    def _arrange(self, frames_bthwc: np.ndarray) -> np.ndarray:
        """Segments as the program of this stage takes them: a tokenizer knows no goal and takes frames as they follow
        each other in a sequence, a transformer takes them in the order of time."""
        return np.asarray(self.model.layout.arrange(frames_bthwc)) if self.name == "tokenizer" else frames_bthwc

    def _key(self, purpose: str, counter: int) -> jax.Array:
        rng = np.random.default_rng([self.config.seed, counter, *f"{self.name} {purpose}".encode()])
        return jax.random.key(int(rng.integers(2**31)))

    @property
    def _pieces(self) -> int:
        """Of a batch, each with gradients of its own."""
        return getattr(self.model, f"{self.name}_optimizer").accumulate

    @property
    def _has_turn(self) -> bool:
        """Whether the update that comes next is followed by one of the discriminator, on segments of its own."""
        return self.program.turn is not None and self.step >= self.model.tokenizer.adversarial_start_step

    def _take_turn(self, batch: Segments | TokenSegments) -> dict[str, jax.Array]:
        """One update of the discriminator, from pieces as `_update` makes it."""
        assert isinstance(batch, Segments)  # a tokenizer learns from frames
        frames, metrics = self._arrange(batch.frames_bthwc), dict[str, jax.Array]()
        for index in range(self._pieces):
            key = self._key("turn", self.step * self._pieces + index)
            piece = from_this_process(by_segment(self.mesh), frames[index :: self._pieces])
            self.state, metrics = self.program.turn(self.state, piece, key)
        return metrics

    def _update(self, batch: Segments | TokenSegments) -> dict[str, jax.Array]:
        """One update, from as many pieces of the batch as the optimizer accumulates; metrics of the last piece."""
        segments = batch.tokens_bl if isinstance(batch, TokenSegments) else self._arrange(batch.frames_bthwc)
        arrays = (segments, self._actions(batch), batch.rewards_bt)
        metrics: dict[str, jax.Array] = {}
        for index in range(self._pieces):
            key = self._key("update", self.step * self._pieces + index)
            piece, actions_bta, rewards_bt = (
                from_this_process(by_segment(self.mesh), array[index :: self._pieces]) for array in arrays
            )
            given = self.program.arguments(
                self.state, self.params.tokenizer, piece, actions_bta, rewards_bt, key, self.perceptual
            )
            self.state, metrics = self.program.step(*given)
        if self.average is not None:
            self.average = _average(self.average, self.state.params, self.config.ema_decay)
        return metrics


@jax.jit
def _average(average: Any, params: Any, decay: float) -> Any:
    return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, params)
