"""Every setting of DreamerV3, with the values of the authors' current code, and its published sizes."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

from agent.dreamerv3.convolution import KERNELS
from tokenizer.limits import require_at_least, require_positive, require_shares


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of all networks. A published size sets the first five; the rest is the same in each."""

    deter: int = 8192  # units of the recurrent state
    hidden: int = 1024  # units of the layers around it
    classes: int = 64  # of each categorical latent
    depth: int = 64  # channels of the convolutions, times one multiplier each
    units: int = 1024  # of every head and of the decoder
    stoch: int = 32  # categorical latents
    blocks: int = 8  # of the recurrent state, joined only through its inputs
    prior_layers: int = 2
    posterior_layers: int = 1
    multipliers: tuple[int, ...] = (2, 3, 4, 4)  # one per layer of the encoder
    kernel: int = 5
    patch: int = 1  # side in pixels of the patches that a linear layer reads, and draws, in place of a convolution
    reward_layers: int = 1
    continuation_layers: int = 1
    actor_layers: int = 3
    critic_layers: int = 3
    bins: int = 255
    unimix: float = 0.01  # share of the uniform distribution in every categorical latent
    actor_std: tuple[float, float] = (0.1, 1.0)
    resolution: int = 64  # side of a frame in pixels
    action_size: int = 4
    compute: Literal["bfloat16", "float32"] = "bfloat16"

    def __post_init__(self):
        require_at_least(1, self, "deter", "hidden", "classes", "depth", "units", "stoch", "blocks", "patch", "bins")
        require_at_least(0, self, "prior_layers", "posterior_layers", "reward_layers", "continuation_layers")
        require_at_least(0, self, "actor_layers", "critic_layers")
        require_at_least(1, self, "resolution", "action_size")
        require_shares(self, "unimix")
        if self.deter % self.blocks or self.depth * self.multipliers[-1] % self.blocks:
            raise ValueError(f"recurrent state and channels of the smallest map must divide into {self.blocks} blocks")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernels are one of {KERNELS} pixels wide; found {self.kernel}")
        if self.bins % 2 == 0:
            raise ValueError(f"an odd number of bins has one at zero; found {self.bins}")
        if self.smallest * self.patch * 2**self.halvings != self.resolution:
            raise ValueError(
                f"{self.resolution} pixels in patches of {self.patch} cannot be halved {self.halvings} times"
            )

    @property
    def halvings(self) -> int:
        """Convolutions: each is followed by a halving of the picture or, in the decoder, preceded by a doubling."""
        return len(self.multipliers) - (self.patch > 1)

    @property
    def smallest(self) -> int:
        """Side of the encoder's last map in pixels."""
        return self.resolution // (self.patch * 2**self.halvings)

    @property
    def features(self) -> int:
        """What the heads read: the recurrent state and the latents, one after the other."""
        return self.deter + self.stoch * self.classes


SIZES = {
    "1M": ModelConfig(512, 64, 4, 4, 64),
    "12M": ModelConfig(2048, 256, 16, 16, 256),
    "25M": ModelConfig(3072, 384, 24, 24, 384),
    "50M": ModelConfig(4096, 512, 32, 32, 512),
    "100M": ModelConfig(6144, 768, 48, 48, 768),
    "200M": ModelConfig(),
    "400M": ModelConfig(12288, 1536, 96, 96, 1536),
    "laptop": ModelConfig(256, 64, 8, 8, 64, multipliers=(6,), patch=8, compute="float32"),
    "debug": ModelConfig(
        16,
        8,
        4,
        2,
        8,
        stoch=4,
        blocks=4,
        prior_layers=1,
        multipliers=(2, 4),
        actor_layers=1,
        critic_layers=1,
        bins=41,
        resolution=16,
        compute="float32",
    ),
}
"""By name: the published sizes, one for two CPU cores and one for tests (pictures of 16 pixels)."""


@dataclasses.dataclass(frozen=True)
class LaPropConfig:
    """LaProp (Ziyin et al., 2020) after adaptive gradient clipping."""

    learning_rate: float = 4e-5
    warmup_updates: int = 1000
    clip: float = 0.3  # largest norm of a gradient, as a share of its parameter's norm
    clip_floor: float = 1e-3  # what counts as the norm of a smaller parameter
    rms_decay: float = 0.999
    momentum: float = 0.9
    epsilon: float = 1e-20

    def __post_init__(self):
        require_positive(self, "learning_rate", "clip", "clip_floor", "epsilon")
        require_at_least(0, self, "warmup_updates")
        require_shares(self, "rms_decay", "momentum")


class LossWeights(NamedTuple):
    """One per loss, in the structure that `losses` themselves have."""

    reconstruction: float = 1.0
    reward: float = 1.0
    continuation: float = 1.0
    dynamics: float = 1.0
    representation: float = 0.1
    policy: float = 1.0
    value: float = 1.0
    replay_value: float = 0.3


@dataclasses.dataclass(frozen=True)
class DreamerConfig:
    """The whole learner."""

    model: ModelConfig = ModelConfig()
    optimizer: LaPropConfig = LaPropConfig()
    weights: LossWeights = LossWeights()
    free_nats: float = 1.0
    imagination: int = 15  # imagined agent steps
    horizon: int = 333  # agent steps after which the discount has fallen to 1 / e
    lambda_: float = 0.95
    entropy: float = 3e-4
    slow_critic_rate: float = 0.02
    slow_critic_weight: float = 1.0
    return_percentiles: tuple[float, float] = (5.0, 95.0)
    return_rate: float = 0.01
    return_limit: float = 1.0  # smaller ranges of returns are not stretched
    batch: int = 16
    length: int = 64  # agent steps of a sequence
    train_ratio: float = 256.0  # replayed agent steps that are learned from for each new one

    def __post_init__(self):
        require_at_least(1, self, "imagination", "horizon", "batch", "length")
        require_at_least(0, self, "free_nats", "entropy", "slow_critic_weight", "train_ratio")
        require_positive(self, "return_limit")
        require_shares(self, "lambda_", "slow_critic_rate", "return_rate")
        low, high = self.return_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"return_percentiles are {low} and {high}, expected two that rise, from 0 to 100")

    @property
    def resolution(self) -> int:
        """Side in pixels of what the model sees."""
        return self.model.resolution

    @property
    def world_model(self) -> None:
        """It has no interactive world model."""

    def for_simulator(self, action_size: int, resolution: int) -> DreamerConfig:
        """The same learner for actions of `action_size` numbers and pictures of `resolution` pixels per side."""
        model = dataclasses.replace(self.model, action_size=action_size, resolution=resolution)
        return dataclasses.replace(self, model=model)

    @property
    def discount(self) -> float:
        return 1 - 1 / self.horizon

    @property
    def updates_per_agent_step(self) -> float:
        return self.train_ratio / (self.batch * self.length)
