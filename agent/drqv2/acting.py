"""How DrQ-v2 acts: in an environment, and as the policy that a world model traces."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax import Array

from agent.drqv2.learner import DrQv2Config, DrQv2Parameters, Policy, as_channels, explore


@functools.partial(jax.jit, static_argnames="config")
def act(
    config: DrQv2Config, parameters: DrQv2Parameters | Policy, stacks_nshwc: Array, std: Array, key: Array
) -> Array:
    """Actions [N, A] in [-1, 1] for the newest frames, uint8 [N, stack, H, W, 3]; std 0 is the mean action."""
    return explore(config, parameters, as_channels(stacks_nshwc), std, key)


@functools.lru_cache(maxsize=16)
def _stack_policy(config: DrQv2Config) -> Callable[[DrQv2Parameters, Array, Array, Array], Array]:
    def policy(parameters: DrQv2Parameters, std: Array, frames_bshwc: Array, key: Array) -> Array:
        return explore(config, parameters, as_channels(frames_bshwc), std, key)

    return policy


def imagination_policy(config: DrQv2Config, parameters: DrQv2Parameters, std: Array) -> jax.tree_util.Partial:
    """The exploring policy as the world model traces it: `policy(frames_bshwc, key) -> actions_ba`.

    The function inside is the same object for one config, so that new parameters do not compile the program again.
    """
    return jax.tree_util.Partial(_stack_policy(config), parameters, std)
