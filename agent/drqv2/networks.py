"""The networks of DrQ-v2 (Yarats et al., 2021): a picture encoder, an actor and twin critics."""

from __future__ import annotations

import dataclasses
from typing import Literal

import haiku as hk
import jax
import jax.numpy as jnp
from jax import Array

from tokenizer.convolution import conv3x3, conv3x3_unpadded
from tokenizer.layers import to_patches
from tokenizer.limits import require_at_least, require_positive

CPU_PIECE = 32
"""Pictures that go through all convolutions together, few enough that a CPU keeps what lies between in its cache.

An update of batch 256 took 0.58 s at once and 0.47 s in pieces.
"""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """`convolutions`: the published encoder. `patches`: the same role at matmul speed, for machines without a GPU."""

    encoder: Literal["convolutions", "patches"] = "convolutions"
    channels: int = 32
    features: int = 50
    hidden: int = 1024
    hidden_gain: float = 1.0  # of the orthogonal weights of hidden layers, as published; sqrt(2) keeps scale after ReLU
    critic_layer_norm: bool = False  # Ball et al., 2023: keeps values sane where demonstrations do not reach

    def __post_init__(self):
        require_at_least(1, self, "channels", "features", "hidden")
        require_positive(self, "hidden_gain")


class PictureEncoder(hk.Module):
    """uint8 pictures [B, H, W, 3 * stack] to flat features [B, D]."""

    def __init__(self, config: NetworkConfig):
        super().__init__(name="encoder")
        self.config = config

    def __call__(self, observations_bhwc: Array) -> Array:
        x = observations_bhwc.astype(jnp.float32) / 255.0 - 0.5
        x = self._patches(x) if self.config.encoder == "patches" else self._convolutions(x)
        return x.reshape(x.shape[0], -1)

    def _convolutions(self, x: Array) -> Array:
        layers, inputs = [], x.shape[-1]
        for index, stride in enumerate((2, 1, 1, 1)):
            shape = (3, 3, inputs, self.config.channels)
            kernel = hk.get_parameter(f"kernel_{index}", shape, init=hk.initializers.Orthogonal(2**0.5))
            bias = hk.get_parameter(f"bias_{index}", shape[-1:], init=jnp.zeros)
            layers.append((kernel, bias, stride))
            inputs = self.config.channels

        def through(x: Array) -> Array:
            for layer in layers:
                x = jax.nn.relu(conv3x3_unpadded(x, *layer))
            return x

        piece = CPU_PIECE if jax.default_backend() == "cpu" else len(x)
        return jnp.concatenate([through(x[i : i + piece]) for i in range(0, len(x), piece)])

    def _patches(self, x: Array) -> Array:
        width = self.config.channels
        for side in (4, 2):
            x = jax.nn.relu(hk.Linear(width, w_init=hk.initializers.Orthogonal(2**0.5))(to_patches(x, side)))
        kernel = hk.get_parameter("kernel", (3, 3, width, width), init=hk.initializers.VarianceScaling(2.0))
        bias = hk.get_parameter("bias", (width,), init=jnp.zeros)
        return jax.nn.relu(conv3x3(x, kernel, bias))


def _trunk(features_bd: Array, size: int, name: str) -> Array:
    x = hk.Linear(size, w_init=hk.initializers.Orthogonal(), name=f"{name}_trunk")(features_bd)
    return jnp.tanh(hk.LayerNorm(-1, True, True, name=f"{name}_trunk_norm")(x))


def _mlp(config: NetworkConfig, x: Array, out: int, layer_norm: bool, name: str) -> Array:
    for i in range(2):
        x = hk.Linear(config.hidden, w_init=hk.initializers.Orthogonal(config.hidden_gain), name=f"{name}_{i}")(x)
        if layer_norm:
            x = hk.LayerNorm(-1, True, True, name=f"{name}_{i}_norm")(x)
        x = jax.nn.relu(x)
    return hk.Linear(out, w_init=hk.initializers.Orthogonal(), name=f"{name}_out")(x)


def actor(config: NetworkConfig, features_bd: Array, action_size: int) -> Array:
    """The mean action [B, A] in (-1, 1)."""
    x = _trunk(features_bd, config.features, "actor")
    return jnp.tanh(_mlp(config, x, action_size, False, "actor"))


def critics(config: NetworkConfig, features_bd: Array, actions_ba: Array) -> Array:
    """Both values [2, B]."""
    x = jnp.concatenate([_trunk(features_bd, config.features, "critic"), actions_ba], axis=-1)
    return jnp.stack([_mlp(config, x, 1, config.critic_layer_norm, f"critic_{i}")[:, 0] for i in range(2)])


@dataclasses.dataclass(frozen=True)
class DrQv2Networks:
    """The three pure functions; each takes the parameters that its own init made."""

    encoder: hk.Transformed
    actor: hk.Transformed
    critics: hk.Transformed


def make_networks(config: NetworkConfig, action_size: int) -> DrQv2Networks:
    """Pure functions without random state: `apply(params, *inputs)`."""
    return DrQv2Networks(
        encoder=hk.without_apply_rng(hk.transform(lambda observations: PictureEncoder(config)(observations))),
        actor=hk.without_apply_rng(hk.transform(lambda features: actor(config, features, action_size))),
        critics=hk.without_apply_rng(hk.transform(lambda features, actions: critics(config, features, actions))),
    )
