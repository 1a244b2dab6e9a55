"""Many futures of one moment: what planners compare.

The context is read once, whatever the number of candidates. A model that decodes frames does not need the frames before
the one that is asked for: up to the horizon it was trained for, only those that a planner looks at are computed. What
nobody looks at (pixels, where codes are compared) the compiler leaves out.
"""

from __future__ import annotations

from typing import Any, cast

import chex
import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from world_model.config import WorldModelConfig
from world_model.frame_codes import draw_codes
from world_model.frames import to_float
from world_model.imagination import FrameCache, NextFrame, RolloutState, begin, next_frame
from world_model.params import WorldModelParams, for_decoding, predictor_of, tokenizer_of
from world_model.pieces import in_pieces
from world_model.rewards import reward_of


class Futures(flax.struct.PyTreeNode):
    """K chosen frames of S futures of one moment."""

    frames_skhwc: Array  # float32 in [0, 1]
    codes_skpd: Array | None  # float32: what their tokens stand for; None of frames that no model made
    rewards_sk: Array | None  # float32 of arriving at each, own units; None without a reward head


def begin_futures(
    config: WorldModelConfig, params: WorldModelParams, frames_chwc: Array, agent_steps: int
) -> RolloutState:
    """The moment after frames [C, H, W, 3], uint8 or float32 in [0, 1], with room for so many steps."""
    return begin(config, params, frames_chwc[None], agent_steps)


def goal_codes(config: WorldModelConfig, params: WorldModelParams, frames_chwc: Array, goal_hwc: Array) -> Array:
    """The goal as a future frame of this moment: codes [patches, D], as `Futures.codes_skpd` are."""
    part = tokenizer_of(config, params)
    context = part.encode_context(to_float(frames_chwc[None, -config.tokenizer.context_frames :]))
    return part.future_codes(part.encode_future(to_float(goal_hwc)[None, None], context))[0, 0]


def futures(
    config: WorldModelConfig,
    params: WorldModelParams,
    moment: RolloutState,
    actions_sfa: Array,
    steps: tuple[int, ...],
    max_batch: int | None = None,
) -> Futures:
    """The most likely frames of S candidates [S, F, A], `steps` (from 1, ascending) after the moment.

    max_batch: at most so many candidates in memory at a time, which changes nothing else. Pure, to be compiled by who
    calls it. Raises ValueError for steps beyond the actions, and as `begin_futures` does.
    """
    chex.assert_shape(actions_sfa, (None, None, config.transformer.action_size))
    if not steps or min(steps) < 1 or max(steps) > actions_sfa.shape[1]:
        raise ValueError(f"steps {steps} ahead, of candidates of {actions_sfa.shape[1]} actions")
    direct = isinstance(moment.cache, FrameCache) and max(steps) <= config.trained_horizon
    decoding = for_decoding(config, params)

    def run(actions: Array, key: Array) -> Futures:
        if direct:
            return _at_once(config, params, moment, actions, steps)
        return _one_by_one(config, decoding, moment, actions, steps)

    return in_pieces(run, actions_sfa, jax.random.key(0), max_batch)


def _at_once(
    config: WorldModelConfig, params: WorldModelParams, moment: RolloutState, actions_sfa: Array, steps: tuple[int, ...]
) -> Futures:
    """Each frame from the context and the actions that lead to it, with no frame between them."""
    predictor, part = predictor_of(config, params), tokenizer_of(config, params)
    rows, given = actions_sfa.shape[:2]
    state = _repeat(moment, rows)
    cache = cast(FrameCache, state.cache)
    steps_k = jnp.array(steps)
    room = config.trained_horizon - min(given, config.trained_horizon)
    actions_sha = jnp.pad(actions_sfa[:, : config.trained_horizon], ((0, 0), (0, room), (0, 0)))
    own_kh = jnp.arange(config.trained_horizon) < steps_k[:, None]
    hidden = predictor(
        cache.context, actions_sha[:, None] * own_kh[..., None], jnp.broadcast_to(steps_k, (rows, len(steps)))
    )
    logits = predictor.logits(hidden)
    if config.transformer.mean_codes:
        probabilities = jax.nn.softmax(logits, axis=-1)
        codes, frames = part.mean_future_codes(probabilities), part.decode_mean(probabilities, state.context)
    else:
        drawn = draw_codes(config.layout, logits.reshape(-1, *logits.shape[2:]), jax.random.key(0), 0.0, None)
        tokens = drawn.reshape(rows, len(steps), -1)
        codes, frames = part.future_codes(tokens), part.decode_future(tokens, state.context)
    rewards = reward_of(predictor.reward_outputs(hidden)) if config.transformer.reward_head else None
    return Futures(jnp.clip(frames, 0, 1), codes, rewards)


def _one_by_one(
    config: WorldModelConfig, params: WorldModelParams, moment: RolloutState, actions_sfa: Array, steps: tuple[int, ...]
) -> Futures:
    """Frame after frame, as imagination does."""

    def step(state: RolloutState, actions_sa: Array) -> tuple[RolloutState, NextFrame]:
        return next_frame(config, params, state, actions_sa, jax.random.key(0), 0.0, None)

    ahead_fsa = actions_sfa.swapaxes(0, 1)[: max(steps)]
    _, new = jax.lax.scan(step, _repeat(moment, len(actions_sfa)), ahead_fsa)
    chosen: NextFrame = jax.tree.map(lambda x: x.swapaxes(0, 1)[:, jnp.array(steps) - 1], new)
    tokens = chosen.tokens_bn - config.layout.future_ids.start
    codes = tokenizer_of(config, params).future_codes(tokens)
    return Futures(chosen.frame_bhwc, codes, chosen.reward_b)


def _repeat(state: RolloutState, rows: int) -> RolloutState:
    """A batch of one as a batch of equal rows; counts have no batch."""

    def repeat(x: Any) -> Any:
        return jnp.broadcast_to(x, (rows, *x.shape[1:])) if x.ndim else x

    return jax.tree.map(repeat, state)
