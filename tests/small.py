"""World models small enough to compile in seconds, with weights large enough for everything to matter."""

import dataclasses

import jax

from tokenizer import TokenizerConfig
from world_model import TransformerConfig, WorldModel, WorldModelConfig

TOKENIZER = TokenizerConfig(
    resolution=16,
    channels=(8,),
    layers_per_block=1,
    mid_layers=1,
    latent_channels=4,
    norm_groups=2,
    stem_patch=4,
    future_patch=2,
    attention_heads=2,
    context_codes=24,
    future_codes=20,
)
TRANSFORMER = TransformerConfig(
    layers=2, width=32, heads=2, feed_forward=48, max_positions=64, action_size=3, reward_head=True, initial_std=0.3
)
CONFIG = WorldModelConfig(tokenizer=TOKENIZER, transformer=TRANSFORMER, segment_frames=5)
"""C = 2, N = 16, n = 4, A = 3: 33 context tokens, 5 a future frame, room for 6 future frames."""


def small_model() -> WorldModel:
    """Random weights; the action layer, which begins at zero, is made to matter."""
    made = WorldModel.init(CONFIG, jax.random.key(0))
    kernel = made.params.transformer["action"]["kernel"]
    kernel[...] = jax.random.normal(jax.random.key(1), kernel.shape)
    return made


FRAMES_CONFIG = dataclasses.replace(
    CONFIG,
    tokenizer=dataclasses.replace(
        TOKENIZER, quantizer="fsq", fsq_levels=(6, 4), context_residual=True, future_pair="patches", patch_width=24,
        future_levels=(4, 2), future_groups=2, future_codes=9,
    ),
    transformer=dataclasses.replace(TRANSFORMER, layers=1, dropout=0.0, decoding="frames", mean_codes=True),
)  # fmt: skip
"""As the bundled checkpoint: patches, and all tokens of a frame at once."""


def small_frames_model(action_size: int = 3) -> WorldModel:
    """Random weights; the action layer, which begins at zero, is made to matter."""
    transformer = dataclasses.replace(FRAMES_CONFIG.transformer, action_size=action_size)
    made = WorldModel.init(dataclasses.replace(FRAMES_CONFIG, transformer=transformer), jax.random.key(0))
    kernel = made.params.transformer["action_output"]["kernel"]
    kernel[...] = jax.random.normal(jax.random.key(1), kernel.shape)
    return made
