"""What pre-training and fine-tuning are: one frozen dataclass, and the paper's settings as presets (appendix,
training)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, Literal

import tyro

from agent.mbpo import MBPOConfig
from experiments.data.augment import Augmentation
from experiments.data.loader import DatasetSpec, LoaderConfig
from experiments.data.segments import VALIDATION_SHARE
from experiments.errors import by_name
from experiments.pretraining.mesh import MeshConfig
from experiments.runs.run_folder import flat, plain
from experiments.runs.tracking import Tracking
from experiments.training import presets
from tokenizer import OptimizerConfig
from tokenizer.limits import require_at_least, require_shares
from world_model import WorldModelConfig

UNCOMPARED = {"preset", "seed", "data", "source", "trajectories", "tracking", "tokenizer.steps", "transformer.steps"}
"""Settings that tables have columns for."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """How long one part of the model is trained, and on how much at a time."""

    steps: int
    """Updates; 0: this part stays as it is."""
    batch: int
    """Segments an update, over all pieces of an accumulated one."""
    cosine: bool = False
    """Whether the learning rate falls to zero over these steps; it stays where it is otherwise."""

    def __post_init__(self):
        require_at_least(0, self, "steps")
        require_at_least(1, self, "batch")


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """First the tokenizer learns, then the transformer on its tokens; either may have no steps."""

    preset: tyro.conf.Suppress[str]
    world_model: WorldModelConfig
    tokenizer: Stage
    transformer: Stage
    data: tyro.conf.Suppress[tuple[DatasetSpec, ...]] = ()
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
            changed = dataclasses.replace(
                getattr(self.world_model, optimizer), decay_steps=stage.steps if stage.cosine and stage.steps else None
            )
            parts[optimizer] = changed
        return dataclasses.replace(self.world_model, **parts)

    def loader(self, batch: int) -> LoaderConfig:
        """How batches of so many segments are made for training."""
        return LoaderConfig(
            batch=batch,
            segment_frames=self.world_model.segment_frames,
            resolution=self.world_model.tokenizer.resolution,
            seed=self.seed,
            augmentation=Augmentation() if self.augmentation else None,
            validation_share=self.validation_share,
            trajectories=self.trajectories,
        )


def _paper(name: str, base: WorldModelConfig, tokenizer: Stage, transformer: Stage, **changes) -> Pretraining:
    """A setting of the paper: bfloat16, action-free unless said, a cosine for the transformer. Others are the
    tokenizer's."""
    rates = {"tokenizer": 5e-4, "transformer": 1e-4} | changes.pop("rates", {})
    actions = {"action_size": changes.pop("action_size", 0), "reward_head": False}
    context, segment = changes.pop("context_frames", 2), changes.pop("segment_frames", 16)
    model = dataclasses.replace(
        base,
        tokenizer=dataclasses.replace(base.tokenizer, compute_dtype="bfloat16", context_frames=context, **changes),
        transformer=dataclasses.replace(base.transformer, compute_dtype="bfloat16", **actions),
        tokenizer_optimizer=OptimizerConfig(rates["tokenizer"], 500),
        transformer_optimizer=OptimizerConfig(rates["transformer"], 5000, 0.01),
        segment_frames=segment,
    )
    return Pretraining(name, model, tokenizer, transformer)


def _slower(base: WorldModelConfig) -> WorldModelConfig:
    """With learning rates for what has been learned already: at those of pre-training, a few recordings undo more of
    it."""
    rates = {"tokenizer_optimizer": 2e-4, "transformer_optimizer": 1e-4}
    optimizers = {name: dataclasses.replace(getattr(base, name), learning_rate=rate) for name, rate in rates.items()}
    return dataclasses.replace(base, **optimizers)


_BASE = {
    name: presets.get(name, "mbpo").settings_as(MBPOConfig).world_model
    for name in ("laptop", "debug", "paper-64", "medium-64", "paper-256")
}
_FRAMES = dataclasses.replace(
    _BASE["laptop"],
    tokenizer=dataclasses.replace(
        _BASE["laptop"].tokenizer,
        future_pair="patches",
        patch_width=512,
        future_levels=(4, 4, 4),
        future_groups=4,
        future_codes=65,
        motion_floor=None,
    ),
    tokenizer_optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=50),
    transformer=dataclasses.replace(
        _BASE["laptop"].transformer,
        layers=4,
        width=256,
        heads=4,
        feed_forward=768,
        place_embedding=False,
        decoding="frames",
        action_history=10,
        action_modulation=True,
        context_tokens=False,
        mean_codes=True,
    ),
    frame_masking=0.0,
    frame_sample=2,
    pixel_weight=200.0,
)
_TUNED = {"tokenizer": 1e-4, "transformer": 1e-4}
_PRESETS = {
    preset.preset: preset
    for preset in (
        Pretraining("laptop", _BASE["laptop"], Stage(3000, 8), Stage(10_000, 4, cosine=True), augmentation=False),
        Pretraining("laptop-frames", _FRAMES, Stage(14_000, 8, cosine=True), Stage(18_000, 16, cosine=True),
                    augmentation=False),
        Pretraining("laptop-finetune", _slower(_BASE["laptop"]), Stage(600, 8), Stage(1500, 4, cosine=True),
                    augmentation=False, validate_every=500, checkpoint_every=500),
        Pretraining("debug", _BASE["debug"], Stage(4, 2), Stage(4, 2, cosine=True), validate_every=2,
                    validation_batches=1, evaluated_recordings=2, horizon=2, checkpoint_every=2),
        _paper("paper-64", _BASE["paper-64"], Stage(1_000_000, 64), Stage(700_000, 64, cosine=True)),
        _paper("medium-64", _BASE["medium-64"], Stage(1_000_000, 64), Stage(700_000, 64, cosine=True)),
        _paper("paper-256", _BASE["paper-256"], Stage(250_000, 32), Stage(350_000, 16, cosine=True)),
        _paper("bair-64", _BASE["paper-64"], Stage(200_000, 64), Stage(100_000, 64, cosine=True), rates=_TUNED,
               context_frames=1, action_size=4),
        _paper("robonet-64", _BASE["paper-64"], Stage(600_000, 64), Stage(600_000, 64, cosine=True), rates=_TUNED,
               segment_frames=12, action_size=5),
        _paper("robonet-256", _BASE["paper-256"], Stage(600_000, 32), Stage(600_000, 16, cosine=True), rates=_TUNED,
               segment_frames=12, action_size=5, adversarial_weight=1.0, adversarial_start_step=100_000),
        _paper("vp2-64", _BASE["paper-64"], Stage(200_000, 64), Stage(200_000, 64, cosine=True), rates=_TUNED,
               segment_frames=12, action_size=4),
    )
}  # fmt: skip


def names() -> tuple[str, ...]:
    return tuple(_PRESETS)


def get(name: str) -> Pretraining:
    """A preset by name. Raises UsageError with the closest names."""
    return by_name("preset", name, _PRESETS)
