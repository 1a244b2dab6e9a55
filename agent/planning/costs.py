"""How far futures are from a goal: small pure functions of the frames, codes or rewards of K chosen moments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, cast

import chex
import flax.struct
import jax.numpy as jnp
from jax import Array

from tokenizer import PerceptualWeights, lpips
from world_model.futures import Futures


class Goal(flax.struct.PyTreeNode):
    """What is to be seen at the end, in the forms that costs compare."""

    frame_hwc: Array  # float32 in [0, 1]
    codes_pd: Array | None = None  # as a future frame of the present moment; None where nothing needs them
    perceptual: PerceptualWeights | None = None  # for LPIPS


def pixel_cost(futures: Futures, goal: Goal) -> Array:
    """Mean squared error of the pixels, [S, K]."""
    return jnp.square(futures.frames_skhwc - goal.frame_hwc).mean((-3, -2, -1))


def code_cost(futures: Futures, goal: Goal) -> Array:
    """Mean squared distance of the codes, [S, K]: no frame has to be decoded."""
    assert futures.codes_skpd is not None and goal.codes_pd is not None
    return jnp.square(futures.codes_skpd - goal.codes_pd).mean((-2, -1))


def perceptual_cost(futures: Futures, goal: Goal) -> Array:
    """LPIPS, [S, K]."""
    assert goal.perceptual is not None
    s, k, *shape = futures.frames_skhwc.shape
    frames = futures.frames_skhwc.reshape(s * k, *shape)
    return lpips(goal.perceptual, frames, jnp.broadcast_to(goal.frame_hwc, frames.shape)).reshape(s, k)


def reward_cost(futures: Futures, goal: Goal) -> Array:
    """The predicted rewards with the sign of a cost, [S, K]; the goal is not looked at."""
    assert futures.rewards_sk is not None
    return -futures.rewards_sk


COSTS = {"pixels": pixel_cost, "codes": code_cost, "lpips": perceptual_cost, "reward": reward_cost}
"""Names that a user may weigh."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """A weighted sum of costs, of the last planned moment or of all of them."""

    weights: tuple[tuple[str, float], ...] = (("pixels", 1.0),)
    over: Literal["last", "every"] = "last"

    def __post_init__(self):
        unknown = [name for name, _ in self.weights if name not in COSTS]
        if unknown or not self.weights:
            raise ValueError(f"costs {', '.join(unknown) or 'none'}: expected some of {', '.join(COSTS)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.weights)

    def steps(self, horizon: int, hold: int) -> tuple[int, ...]:
        """Which agent steps ahead are looked at: the ends of planned actions."""
        return tuple(hold * k for k in range(1 if self.over == "every" else horizon, horizon + 1))


def parts(cost: Cost, futures: Futures, goal: Goal) -> Mapping[str, Array]:
    """Each cost by itself, [S]: its mean over the K moments, unweighted."""
    return {name: COSTS[name](futures, goal).mean(axis=1) for name in cost.names}


def total(cost: Cost, futures: Futures, goal: Goal) -> Array:
    """[S]: what a planner makes small."""
    found = parts(cost, futures, goal)
    weighed = cast(Array, sum(weight * found[name] for name, weight in cost.weights))
    chex.assert_rank(weighed, 1)
    return weighed
