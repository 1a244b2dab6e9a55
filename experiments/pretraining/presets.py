"""The presets of pre-training and fine-tuning: the published settings to the letter, and ours for a laptop.

Each of the published ones names the script of the published code that it equals. Its tokenizer 'steps' count a turn of
the discriminator as well, also where that is never taken, so that they are about twice our updates; its batches are
those of four devices. `docs/published_settings.csv` holds every number beside the published one, and a test compares.
"""

from __future__ import annotations

import dataclasses

from agent.mbpo import MBPOConfig
from experiments.errors import by_name
from experiments.pretraining.config import Pretraining, Stage
from experiments.training import presets
from tokenizer import OptimizerConfig
from world_model import WorldModelConfig

PRETRAINING_RATE, TUNING_RATE = 5e-4, 1e-4
"""Of a tokenizer and its discriminator; a transformer always has the second."""


def updates(turns: int) -> int:
    """Of a tokenizer, among so many published steps: every other one, from the first on."""
    return (turns + 1) // 2


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


def _paper(
    name: str,
    base: WorldModelConfig,
    tokenizer: Stage,
    transformer: Stage,
    *,
    rate: float = TUNING_RATE,
    clip_norm: float | None = None,
    segment_frames: int = 16,
    context_frames: int = 2,
    action_size: int = 0,
    goal_conditioned: bool = False,
    videos: bool = True,
    **of_tokenizer,
) -> Pretraining:
    """A published setting: bfloat16, no rewards, a cosine for the transformer, whose gradients are not clipped.

    rate: of the tokenizer and of its discriminator.
    """
    tokenizer_config = dataclasses.replace(
        base.tokenizer,
        compute_dtype="bfloat16",
        context_frames=context_frames,
        discriminator_rate=rate,
        **of_tokenizer,
    )
    model = dataclasses.replace(
        base,
        tokenizer=tokenizer_config,
        transformer=dataclasses.replace(
            base.transformer, compute_dtype="bfloat16", action_size=action_size, reward_head=False
        ),
        tokenizer_optimizer=OptimizerConfig(rate, warmup_steps=500),
        transformer_optimizer=OptimizerConfig(TUNING_RATE, 5000, weight_decay=0.01, clip_norm=clip_norm),
        segment_frames=segment_frames,
        goal_conditioned=goal_conditioned,
    )
    return Pretraining(name, model, tokenizer, transformer, videos=videos)


def _cosine(steps: int, batch: int, cosine_steps: int | None = None) -> Stage:
    return Stage(steps, batch, cosine=True, cosine_steps=cosine_steps)


LAPTOP = Pretraining("laptop", _BASE["laptop"], Stage(3000, 8), _cosine(10_000, 4), augmentation=False)
"""Two CPU cores."""

LAPTOP_FRAMES = Pretraining("laptop-frames", _FRAMES, _cosine(14_000, 8), _cosine(18_000, 16), augmentation=False)
"""Two CPU cores; all tokens of a frame at once. The bundled checkpoint."""

LAPTOP_FINETUNE = Pretraining(
    "laptop-finetune", _slower(_BASE["laptop"]), Stage(600, 8), _cosine(1500, 4), augmentation=False,
    validate_every=500, checkpoint_every=500,
)  # fmt: skip
"""What a model of laptop size learns from a few recordings."""

DEBUG = Pretraining(
    "debug", _BASE["debug"], Stage(4, 2), _cosine(4, 2), validate_every=2, validation_batches=1,
    evaluated_recordings=2, horizon=2, checkpoint_every=2,
)  # fmt: skip
"""Seconds; for tests."""

PAPER_64 = _paper(
    "paper-64", _BASE["paper-64"], Stage(updates(1_000_000), 64), _cosine(700_000, 64, 1_000_000), rate=PRETRAINING_RATE
)
"""scripts/pretrain/oxe-64-act-free.sh: `--train_batch_size 16` on four devices, `--disc_start 1000005`, never reached.

The transformer's cosine falls over the script's million steps, of which the paper takes 700,000.
"""

MEDIUM_64 = _paper(
    "medium-64", _BASE["medium-64"], Stage(updates(1_000_000), 64), _cosine(700_000, 64, 1_000_000),
    rate=PRETRAINING_RATE, clip_norm=1.0,
)  # fmt: skip
"""scripts/pretrain/oxe-64-act-free-medium.sh: the 436 M transformer with `--max_grad_norm 1.0`."""

PAPER_256 = _paper(
    "paper-256", _BASE["paper-256"], Stage(updates(250_000), 32), _cosine(350_000, 16, 1_000_000),
    rate=PRETRAINING_RATE, adversarial_weight=0.8, adversarial_start_step=updates(250_000), videos=False,
)  # fmt: skip
"""scripts/pretrain/oxe-256-act-free.sh: `--disc_start 250000`, where the paper's tokenizer ends; robots' sets alone.

Its tokenizer starts from aMUSEd's: `import-weights` that, then `finetune MODEL --mode tokenizer --preset paper-256`.
"""

GOAL_COND_64 = _paper(
    "goal-cond-64", _BASE["paper-64"], Stage(updates(1_000_000), 64, segment_frames=16), _cosine(1_000_000, 64),
    segment_frames=17, goal_conditioned=True, shuffle_frames=True,
)  # fmt: skip
"""scripts/pretrain/oxe-64-goal-cond.sh: `--rand_shuffle` draws 8 frames of 16 in any order for the tokenizer, which
starts from that of paper-64 (`finetune MODEL --mode tokenizer`); `--segment_length 17` for the transformer."""

BAIR_64_ACTION_FREE = _paper(
    "bair-64-action-free", _BASE["paper-64"], Stage(updates(200_005), 64), _cosine(70_005, 64), context_frames=1,
    future_sample=7,
)  # fmt: skip
"""scripts/finetune/bair-64-act-free.sh: `--segment_length 8 --context_length 1`, so that 7 future frames are drawn."""

BAIR_64 = _paper(
    "bair-64", _BASE["paper-64"], Stage(updates(200_005), 64), _cosine(100_005, 64), context_frames=1, future_sample=7,
    action_size=4,
)  # fmt: skip
"""scripts/finetune/bair-64-act-cond.sh: as bair-64-action-free with `--action_dim 4` and `--max_train_steps 100005`."""

ROBONET_64 = _paper(
    "robonet-64", _BASE["paper-64"], Stage(updates(600_005), 64), _cosine(600_005, 64), segment_frames=12, action_size=5
)
"""scripts/finetune/robonet-64-act-cond.sh: `--segment_horizon 12 --action_dim 5`."""

ROBONET_256 = _paper(
    "robonet-256", _BASE["paper-256"], Stage(updates(200_005), 32, augmentation=False), _cosine(600_005, 32),
    segment_frames=12, action_size=5,
)  # fmt: skip
"""scripts/finetune/robonet-256-act-cond.sh: the tokenizer with `--no_aug --disc_start 1000005`, so without augmentation
and adversary; the transformer with batches of 4 x 2 a device."""

VP2_ROBOSUITE_64 = _paper(
    "vp2-robosuite-64", _BASE["paper-64"], Stage(updates(200_005), 64), _cosine(200_005, 64), segment_frames=12,
    action_size=4,
)  # fmt: skip
"""scripts/finetune/vp2-robosuite-64-act-cond.sh: `--action_dim 4`."""

VP2_ROBODESK_64 = _paper(
    "vp2-robodesk-64", _BASE["paper-64"], Stage(updates(200_005), 64), _cosine(200_005, 64), segment_frames=12,
    action_size=5,
)  # fmt: skip
"""scripts/finetune/vp2-robodesk-64-act-cond.sh: `--action_dim 5`."""

PUBLISHED = (
    PAPER_64, MEDIUM_64, PAPER_256, GOAL_COND_64, BAIR_64_ACTION_FREE, BAIR_64, ROBONET_64, ROBONET_256,
    VP2_ROBOSUITE_64, VP2_ROBODESK_64,
)  # fmt: skip
_PRESETS = {preset.preset: preset for preset in (LAPTOP, LAPTOP_FRAMES, LAPTOP_FINETUNE, DEBUG, *PUBLISHED)}


def names() -> tuple[str, ...]:
    return tuple(_PRESETS)


def get(name: str) -> Pretraining:
    """A preset by name. Raises UsageError with the closest names."""
    return by_name("preset", name, _PRESETS)
