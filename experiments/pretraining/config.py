"""What pre-training and fine-tuning are: one frozen dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, Literal

import tyro

from experiments.data.augment import STRONG, Augmentation
from experiments.data.loader import DatasetSpec, LoaderConfig
from experiments.data.segments import VALIDATION_SHARE
from experiments.pretraining.mesh import MeshConfig
from experiments.runs.run_folder import flat, plain
from experiments.runs.tracking import Tracking
from tokenizer.limits import require_at_least, require_shares
from world_model import WorldModelConfig

UNCOMPARED = {
    "preset", "seed", "data", "held_out", "source", "trajectories", "tracking", "tokenizer.steps", "transformer.steps",
}  # fmt: skip
"""Settings that tables have columns for."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """How long one part of the model is trained, and on how much at a time."""

    steps: int
    """Updates; 0: this part stays as it is."""
    batch: int
    """Segments an update, over all pieces of an accumulated one."""
    cosine: bool = False
    """Whether the learning rate falls along a cosine; it stays where it is otherwise."""
    cosine_steps: int | None = None
    """Updates after which it has fallen to zero, also where the stage ends before; None: its steps."""
    augmentation: bool | None = None
    """Whether its segments are augmented; None: as the run's."""
    segment_frames: int | None = None
    """Frames of its segments; None: as the model's."""

    def __post_init__(self):
        require_at_least(0, self, "steps")
        require_at_least(1, self, "batch", "cosine_steps", "segment_frames")

    @property
    def decay_steps(self) -> int | None:
        """As an optimizer's configuration takes them."""
        return (self.cosine_steps or self.steps) if self.cosine and self.steps else None


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """First the tokenizer learns, then the transformer on its tokens; either may have no steps."""

    preset: tyro.conf.Suppress[str]
    world_model: WorldModelConfig
    tokenizer: Stage
    transformer: Stage
    data: tyro.conf.Suppress[tuple[DatasetSpec, ...]] = ()
    held_out: tyro.conf.Suppress[tuple[str, ...]] = ()  # recordings of any of them that nobody learns from, by name
    source: tyro.conf.Suppress[str | None] = None  # the folder that the weights came from
    kind: tyro.conf.Suppress[Literal["pretrain", "finetune"]] = "pretrain"  # a new model, or one that was there
    seed: int = 0
    mesh: MeshConfig = MeshConfig()
    trajectories: int | None = None
    """Recordings of each data set that are learned from; None: all but the held-out ones."""
    validation_share: float = VALIDATION_SHARE
    """Of the recordings, which are held out."""
    tokens: str | None = None
    """A folder that keeps the transformer's training segments as tokens: made first, where they are not there yet, so
    that neither this run nor the next one on the same data and tokenizer has the tokenizer at work beside its
    updates."""
    token_segments: int | None = None
    """How many of them, which are gone through again and again; None: as many as the run takes, each once."""
    augmentation: bool = True
    strong_augmentation: bool = False
    """Wider ranges of it, as the published code has them for those who ask."""
    videos: tyro.conf.Suppress[bool] = True  # whether a mixture brings the tokenizer videos without actions
    ema_decay: float | None = None
    """Of a moving average of the weights, which is then validated and saved; None: the weights themselves."""
    validate_every: int = 1000
    validation_batches: int = 8
    evaluated_recordings: int = 24
    """Held-out ones from which futures are imagined, spread over the data sets."""
    horizon: int = 10
    """Imagined frames."""
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    tracking: tuple[Tracking, ...] = ()
    """Where else to send the metrics, which metrics.jsonl holds always; each has an extra of its name."""

    def __post_init__(self):
        require_at_least(0, self, "seed", "evaluated_recordings")
        require_at_least(1, self, "trajectories", "token_segments", "horizon", "validation_batches", "validate_every")
        require_at_least(1, self, "checkpoint_every", "keep_checkpoints")
        require_shares(self, "validation_share", "ema_decay")

    def select(self, typed: Collection[str]) -> dict[str, Any]:
        """The settings of these dotted names, with their values, that tell this run from others of its kind."""
        values = flat(plain(self))
        return {name: values[name] for name in sorted(set(typed) - UNCOMPARED)}

    @property
    def scheduled(self) -> WorldModelConfig:
        """The model with learning rates that fall over the steps of their stages."""
        parts = {}
        for name in ("tokenizer", "transformer"):
            stage, optimizer = getattr(self, name), f"{name}_optimizer"
            parts[optimizer] = dataclasses.replace(getattr(self.world_model, optimizer), decay_steps=stage.decay_steps)
        return dataclasses.replace(self.world_model, **parts)

    def loader(self, batch: int, stage: Stage | None = None) -> LoaderConfig:
        """How batches of so many segments are made for training, in a stage that may have settings of its own."""
        own = None if stage is None else stage.augmentation
        augmented = self.augmentation if own is None else own
        return LoaderConfig(
            batch=batch,
            segment_frames=(stage and stage.segment_frames) or self.world_model.segment_frames,
            resolution=self.world_model.tokenizer.resolution,
            seed=self.seed,
            augmentation=self._augmentation if augmented else None,
            validation_share=self.validation_share,
            trajectories=self.trajectories,
            held_out=self.held_out,
        )

    @property
    def _augmentation(self) -> Augmentation:
        return STRONG if self.strong_augmentation else Augmentation()
