"""What a world model is made of and how it learns: frozen dataclasses, passed whole."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from tokenizer import OptimizerConfig, TokenizerConfig
from tokenizer.config import architecture
from tokenizer.limits import require_at_least, require_positive, require_shares
from world_model.layout import SequenceLayout


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """A LLaMA in a GPT-2 size. The defaults are the published 138 M; medium is 24 layers, 1024, 16, 4096: 436 M."""

    layers: int = architecture(12)
    width: int = architecture(768)
    heads: int = architecture(12)
    feed_forward: int = architecture(3072)
    max_positions: int = 1024
    dropout: float = 0.1  # on attention weights, in training
    action_size: int = 0  # A; 0 is action-free
    reward_head: bool = False
    reward_bins: int | None = None  # the head tells them apart (symlog two-hot, unpublished); None: squared error
    reward_ensemble: int = 0  # networks beside the reward head, whose spread says how unsure it is; unpublished
    action_head: bool = False  # decoding tokens: reads back from every token of a frame the action that led there
    decoding: Literal["tokens", "frames"] = architecture("tokens")  # frames: all tokens of a frame at once, unpublished
    action_history: int = architecture(0)  # decoding frames: actions since the context that are seen one by one
    action_modulation: bool = architecture(False)  # decoding frames: the actions scale and shift what each block reads
    context_tokens: bool = architecture(True)  # decoding frames: False: patches see each other and their own pixels
    mean_codes: bool = False  # decoding frames: temperature 0 paints the mean of the codes, not the likeliest ones
    place_embedding: bool = architecture(False)  # learned, of each place in a frame; unpublished, needs less data
    norm_epsilon: float = architecture(1e-6)
    rotary_base: float = architecture(10_000.0)
    initial_std: float = 0.02  # of every matrix except the action layer, which starts at zero
    recompute: bool = False  # blocks keep only their inputs for the backward pass and run forward a second time there
    # Of matmuls and the cache. Parameters, the stream between blocks, norms, softmax, logits and losses stay float32.
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        if self.layers < 1:
            raise ValueError(f"a transformer of {self.layers} layers: expected at least one")
        require_at_least(1, self, "width", "heads", "feed_forward", "max_positions")
        require_at_least(0, self, "action_size", "initial_std", "action_history", "reward_ensemble")
        require_positive(self, "norm_epsilon", "rotary_base")
        require_shares(self, "dropout")
        if self.reward_bins is not None and (self.reward_bins < 3 or self.reward_bins % 2 == 0):
            raise ValueError(f"reward_bins is {self.reward_bins}: expected an odd number from 3 on, for one at zero")
        if self.reward_ensemble == 1:
            raise ValueError("reward_ensemble is 1: expected 2 or more networks, which can differ, or 0 for none")
        if self.width % self.heads or self.head_size % 2:
            raise ValueError(f"width {self.width} over {self.heads} heads: expected an even number of channels a head")
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise ValueError(f"compute_dtype must be 'float32' or 'bfloat16', found {self.compute_dtype!r}")
        if self.action_head and (self.decoding == "frames" or not self.action_size):
            raise ValueError("action_head reads actions back from the tokens of a model that takes some")
        if self.decoding == "tokens" and (
            self.action_history or self.action_modulation or self.mean_codes or not self.context_tokens
        ):
            raise ValueError("action_history, action_modulation, mean_codes and context_tokens are for decoding frames")

    @property
    def head_size(self) -> int:
        return self.width // self.heads

    @property
    def reward_outputs(self) -> int:
        """Numbers that the reward head says."""
        return self.reward_bins or 1

    @property
    def reward_networks(self) -> int:
        """Of the ensemble: none without a reward head."""
        return self.reward_ensemble if self.reward_head else 0


@dataclasses.dataclass(frozen=True)
class WorldModelConfig:
    """Tokenizer and transformer, and how each learns. `segment_frames` T is what a training segment holds."""

    tokenizer: TokenizerConfig = TokenizerConfig()
    transformer: TransformerConfig = TransformerConfig()
    tokenizer_optimizer: OptimizerConfig = OptimizerConfig()
    transformer_optimizer: OptimizerConfig = OptimizerConfig(weight_decay=0.01)
    segment_frames: int = 12
    reward_weight: float = 1.0  # of the reward's loss beside the cross entropy
    action_weight: float = 1.0  # of the squared error of the actions that an action head reads back
    lora_rank: int | None = None  # the transformer learns changes of this rank only; None: all of it
    lora_alpha: float = 32.0  # by which these are multiplied, divided by the rank
    frame_sample: int | None = None  # decoding frames: future frames of a segment that a step draws; None: all
    pixel_weight: float = 0.0  # decoding frames: of the squared error of frames painted with the mean of the codes
    frame_masking: float = 0.0  # a segment hides each of its frames with a probability drawn from [0, this)
    goal_conditioned: bool = False  # the context is the segment's last frame, then its first C - 1

    def __post_init__(self):
        require_at_least(0, self, "reward_weight", "action_weight", "frame_masking", "pixel_weight")
        require_at_least(1, self, "lora_rank")
        require_positive(self, "lora_alpha")
        if self.segment_frames <= self.tokenizer.context_frames:
            raise ValueError(
                f"segments of {self.segment_frames} frames leave no future after {self.tokenizer.context_frames} "
                f"context frames"
            )
        if self.transformer.decoding == "frames":
            self._check_frame_decoding()
        elif self.frame_sample is not None or self.pixel_weight:
            raise ValueError(
                "frame_sample and pixel_weight are for decoding frames: token after token, a sequence is learned as a "
                "whole, by its cross entropy"
            )
        if self.goal_conditioned and self.tokenizer.context_frames < 2:
            raise ValueError(
                f"a goal-conditioned model's context holds the goal and at least one frame to start from: "
                f"context_frames is {self.tokenizer.context_frames}, expected 2 or more"
            )

    def _check_frame_decoding(self) -> None:
        if self.goal_conditioned:
            raise ValueError("decoding frames predicts from the newest frames alone: set goal_conditioned to False")
        if self.lora_rank is not None:
            raise ValueError("lora_rank is for decoding tokens: a frame predictor has other matrices")
        if self.frame_masking or self.transformer.place_embedding or self.transformer.dropout:
            raise ValueError(
                "decoding frames hides all other frames, has places of its own and no dropout: set frame_masking to 0, "
                "place_embedding to False and dropout to 0"
            )

    @property
    def of_decoding(self) -> dict[str, Any]:
        """The settings of how it learns that belong to its kind of decoding, and that the other kind refuses."""
        return {name: getattr(self, name) for name in ("frame_masking", "frame_sample", "pixel_weight")}

    @property
    def trained_horizon(self) -> int:
        """Future frames of a training segment."""
        return self.segment_frames - self.tokenizer.context_frames

    @property
    def layout(self) -> SequenceLayout:
        """Where the tokens of this model's sequences sit."""
        return SequenceLayout(
            context_frames=self.tokenizer.context_frames,
            tokens_per_context=self.tokenizer.tokens_per_context,
            tokens_per_future=self.tokenizer.tokens_per_future,
            context_codes=self.tokenizer.context_codes,
            future_codes=self.tokenizer.future_codes,
            goal_first=self.goal_conditioned,
            resolution=self.tokenizer.resolution,
            future_groups=self.tokenizer.future_groups,
            still_code=self.tokenizer.future_pair == "patches",
        )

    def check_horizon(self, future_frames: int) -> None:
        """Raise ValueError where the transformer has no positions for so many future frames."""
        if self.transformer.decoding == "tokens":
            self.layout.check_horizon(future_frames, self.transformer.max_positions)
