"""What a tokenizer is made of and how it learns: one frozen dataclass, passed whole."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, TypeVar

from tokenizer.limits import require_at_least, require_positive, require_shares

Value = TypeVar("Value")


def architecture(default: Value) -> Value:
    """A field of a configuration that weights are made for: with another value they would mean something else."""
    return dataclasses.field(default=default, metadata={"architecture": True})


def other_architecture(config: Any, wanted: Any) -> list[str]:
    """The names of the architecture's fields in which two configurations of one kind differ."""
    fields = (field.name for field in dataclasses.fields(config) if field.metadata.get("architecture"))
    return [name for name in fields if getattr(config, name) != getattr(wanted, name)]


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """The compressive tokenizer (paper section 3.1). The defaults are the published 64 px model, 114 M parameters.

    Raises ValueError, with the numbers, for sizes that do not fit each other.
    """

    resolution: int = architecture(64)  # side of a frame in pixels
    context_frames: int = 2  # C

    # Architecture
    channels: tuple[int, ...] = architecture((128, 256, 512))  # one per level; the last level does not resample
    layers_per_block: int = architecture(2)  # residual layers of a down block; an up block has one more
    mid_layers: int = architecture(2)  # residual layers of a mid block; its attention comes after the first
    latent_channels: int = architecture(64)  # of the latent map; also the dimension of a vq code
    norm_groups: int = architecture(32)
    norm_per_position: bool = architecture(False)  # statistics per position, so that what stays still keeps its codes
    stem_patch: int = architecture(1)  # 1: 3x3 convolutions as published; p > 1: matmuls on p x p patches at both ends
    future_patch: int = architecture(4)  # side of the latent patches that make one future token
    future_pair: Literal["vqgan", "patches"] = architecture("vqgan")  # patches: each coded by its change, unpublished
    patch_width: int = architecture(384)  # of the hidden layers of future_pair "patches"
    context_mid_attention: bool = architecture(False)
    future_mid_attention: bool = architecture(True)
    max_attention_resolution: int = architecture(16)  # cross-attention only on maps of at most this side
    attention_heads: int = architecture(4)
    dropout: float = 0.1  # on the weights and the output of cross-attention, in training

    # Codes
    quantizer: Literal["vq", "fsq"] = architecture("vq")  # fsq: the levels give the number of codes
    context_codes: int = architecture(8192)
    future_codes: int = architecture(8192)
    fsq_levels: tuple[int, ...] = architecture((8, 5, 5, 5))
    future_levels: tuple[int, ...] | None = architecture(None)  # fsq: of the future codes; None: fsq_levels, too
    future_groups: int = architecture(1)  # patches: tokens that code one patch together
    commitment_weight: float = 1.0
    dead_code_steps: int | None = None  # vq: a code unused for so many updates restarts from a latent
    freeze_codebooks: bool = False  # the paper's choice for fine-tuning in model-based RL

    # Reconstruction
    context_residual: bool = architecture(False)  # the future pair codes changes, painted over the last context frame
    motion_floor: float | None = None  # a future pixel weighs its share of the largest change, at least this; None: 1
    still_weight: float = 0.0  # fsq: keeps a future patch's code at rest where it equals the last context frame
    l1_weight: float = 1.0
    l2_weight: float = 0.0
    balanced_loss: bool = False  # context and future losses weigh as many frames as they are, not the same
    perceptual_weight: float = 1.0  # of LPIPS, equal to L1's as in the paper; 0: no LPIPS, and no weights needed for it
    adversarial_weight: float = 0.0  # of the discriminator's term, times the adaptive weight; 0: no discriminator
    adversarial_start_step: int = 0  # updates before the discriminator joins
    discriminator: Literal["published", "patchgan"] = "published"  # patchgan: VQGAN's, with no turns of its own
    discriminator_rate: float = 1e-4  # published: learning rate of its own optimizer, otherwise like the tokenizer's

    # Training
    future_sample: int | None = 6  # future frames of a segment that a step draws; None: all
    shuffle_frames: bool = False  # a step draws its frames, those of the context too, in any order
    recompute: bool = False  # keep less between forward and backward pass, at the price of a second forward pass

    # Of convolutions and matmuls. Parameters, statistics of norms, softmax, codes and losses are always float32.
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        self._check_sizes()
        shrinking = self.stem_patch * 2 ** (len(self.channels) - 1)
        _require(bool(self.channels), "channels must name at least one level")
        _require(self.context_frames > 0, f"context_frames must be positive, found {self.context_frames}")
        _require(
            self.resolution % shrinking == 0,
            f"resolution {self.resolution} is not a multiple of {shrinking}, by which stem_patch {self.stem_patch} and "
            f"{len(self.channels)} levels shrink a frame",
        )
        _require(
            self.grid % self.future_patch == 0,
            f"future_patch {self.future_patch} does not divide the latent grid of {self.grid}",
        )
        for width in self.channels:
            _require(width % self.norm_groups == 0, f"norm_groups {self.norm_groups} does not divide {width} channels")
            _require(
                width % self.attention_heads == 0,
                f"attention_heads {self.attention_heads} does not divide {width} channels",
            )
        _require(
            self.mid_layers > 0 or not (self.context_mid_attention or self.future_mid_attention),
            "mid attention stands after the first mid layer, and mid_layers is 0",
        )
        _require(self.quantizer in ("vq", "fsq"), f"quantizer must be 'vq' or 'fsq', found {self.quantizer!r}")
        _require(
            self.compute_dtype in ("float32", "bfloat16"),
            f"compute_dtype must be 'float32' or 'bfloat16', found {self.compute_dtype!r}",
        )
        self._check_losses()
        self._check_codes()

    def _check_sizes(self):
        require_at_least(1, self, "resolution", "latent_channels", "norm_groups", "stem_patch", "future_patch")
        require_at_least(
            1,
            self,
            "attention_heads",
            "context_codes",
            "future_codes",
            "future_sample",
            "dead_code_steps",
            "patch_width",
        )
        require_at_least(1, self, "future_groups")
        require_at_least(0, self, "layers_per_block", "mid_layers", "max_attention_resolution", "commitment_weight")
        require_shares(self, "dropout", "motion_floor")
        _require(min(self.channels, default=1) > 0, f"channels must be positive, found {self.channels}")

    def _check_losses(self):
        for name in (
            "l1_weight",
            "l2_weight",
            "still_weight",
            "perceptual_weight",
            "adversarial_weight",
            "adversarial_start_step",
        ):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, found {getattr(self, name)}")
        _require(
            self.discriminator in ("published", "patchgan"),
            f"discriminator must be 'published' or 'patchgan', found {self.discriminator!r}",
        )
        require_positive(self, "discriminator_rate")
        _require(
            not (self.has_turns and self.perceptual_weight == 0),
            "the published discriminator is weighed against the perceptual loss: set perceptual_weight, or "
            "discriminator to 'patchgan'",
        )
        _require(
            self.adversarial_weight == 0 or self.resolution >= SMALLEST_DISCRIMINATED,
            f"the discriminator needs frames of at least {SMALLEST_DISCRIMINATED} pixels per side, found "
            f"{self.resolution}",
        )

    def _check_codes(self):
        self._check_future_pair()
        if self.quantizer == "vq":
            _require(self.still_weight == 0, "still_weight is for fsq: vq has no code that stands out")
            _require(self.future_levels is None, "future_levels is for fsq: vq has no levels")
            return
        for name, levels, still in (
            ("context_codes", self.fsq_levels, 0),
            ("future_codes", self.levels_of_future, int(self.future_pair == "patches")),
        ):
            codes = math.prod(levels) + still
            _require(
                getattr(self, name) == codes,
                f"fsq levels {levels} make {codes} codes{' with the one of a still patch' if still else ''}, but "
                f"{name} is {getattr(self, name)}",
            )
        _require(self.dead_code_steps is None, "dead_code_steps is for vq: fsq has no codebook to restart")
        _require(not self.freeze_codebooks, "freeze_codebooks is for vq: fsq has no codebook to freeze")

    def _check_future_pair(self):
        _require(
            self.future_pair in ("vqgan", "patches"),
            f"future_pair must be 'vqgan' or 'patches', found {self.future_pair!r}",
        )
        if self.future_pair == "vqgan":
            _require(self.future_groups == 1, "future_groups is for future_pair patches: a vqgan patch has one token")
            return
        _require(self.quantizer == "fsq", "future_pair patches codes its changes by fsq: set quantizer to 'fsq'")
        _require(
            self.context_residual and self.still_weight == 0,
            "future_pair patches always paints over the last context frame and has a code for still patches: set "
            "context_residual to True and still_weight to 0",
        )
        side = self.patch_side
        _require(side % 2 == 0 and side >= 8, f"patches of {side} pixels: expected an even number from 8 on")

    @property
    def has_turns(self) -> bool:
        """Whether there is a discriminator that learns in updates of its own."""
        return self.adversarial_weight > 0 and self.discriminator == "published"

    @property
    def grid(self) -> int:
        """Side of the latent map."""
        return self.level_resolution(len(self.channels) - 1)

    def level_resolution(self, level: int) -> int:
        """Side of the map that enters the down block of a level."""
        return self.resolution // self.stem_patch // 2**level

    @property
    def tokens_per_context(self) -> int:
        """N"""
        return self.grid**2

    @property
    def patch_grid(self) -> int:
        """Patches per side of a future frame."""
        return self.grid // self.future_patch

    @property
    def patches(self) -> int:
        """Patches of a future frame."""
        return self.patch_grid**2

    @property
    def patch_side(self) -> int:
        """Pixels per side of such a patch."""
        return self.resolution // self.patch_grid

    @property
    def tokens_per_future(self) -> int:
        """n: those of a patch follow each other, the patches lie row by row."""
        return self.patches * self.future_groups

    @property
    def levels_of_future(self) -> tuple[int, ...]:
        """fsq: of each future code."""
        return self.future_levels or self.fsq_levels

    @property
    def code_dimension(self) -> int:
        """Numbers that one context code stands for."""
        return self.latent_channels if self.quantizer == "vq" else len(self.fsq_levels)

    @property
    def future_code_dimension(self) -> int:
        """Numbers that the future codes of one patch stand for."""
        if self.quantizer == "vq":
            return self.latent_channels
        return self.future_groups * len(self.levels_of_future)


SMALLEST_DISCRIMINATED = 24
"""Side of the smallest frames the discriminator can evaluate: its last layer gives them one logit."""


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
