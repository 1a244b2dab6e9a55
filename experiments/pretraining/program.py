"""The updates that pre-training consists of, as programs for a mesh of devices."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

import tokenizer
import world_model
from experiments.pretraining.mesh import MeshConfig, computing_shardings, everywhere, state_shardings
from world_model import WorldModelConfig


@dataclasses.dataclass(frozen=True)
class Program:
    """Of one part of a model. `step` takes what `arguments` puts in order, and consumes the state."""

    part: str  # tokenizer, transformer, or tokens: the transformer, from segments that are tokenized already
    init: Callable[[jax.Array], Any]  # a key to a state, on one device
    step: Any  # jitted
    shardings: Any  # of the state
    turn: Any = None  # jitted: a state, frames and a key; the discriminator's own update, where it has some

    def arguments(self, state, frozen, segments, actions_bta, rewards_bt, key, perceptual) -> tuple:
        """segments: frames [B, T, H, W, 3], or tokens [B, L]. frozen: the tokenizer's parameters, for the transformer.
        perceptual: LPIPS's weights, for the tokenizer."""
        if self.part == "tokenizer":
            return state, segments, key, perceptual
        if self.part == "tokens":
            return state, segments, actions_bta, rewards_bt, key
        return state, frozen, segments, actions_bta, rewards_bt, key


@functools.lru_cache(maxsize=16)
def program(part: str, model: WorldModelConfig, config: MeshConfig, mesh: Mesh) -> Program:
    """The update of a part as `Program` names them; the same one for the same arguments."""
    if part == "tokenizer":
        static = (model.tokenizer, model.tokenizer_optimizer)
        init, step = tokenizer.init, tokenizer.train_step
    else:
        static, init = (model,), world_model.init_transformer
        step = world_model.token_train_step if part == "tokens" else world_model.transformer_train_step
    begin = functools.partial(init, *static)
    state = jax.eval_shape(begin, jax.random.key(0))
    shardings, computing = state_shardings(mesh, config, state), computing_shardings(mesh, state.params)

    def constrain(params: Any) -> Any:
        return jax.lax.with_sharding_constraint(params, computing)

    def update(state: Any, *others: Any) -> tuple[Any, dict[str, jax.Array]]:
        return step(*static, state.replace(params=constrain(state.params)), *others, constrain_gradients=constrain)

    def turn(state: Any, segments: jax.Array, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        return tokenizer.discriminator_step(*static, state, segments, key)

    places = (shardings, everywhere(mesh))
    has_turns = part == "tokenizer" and model.tokenizer.has_turns
    compiled = [jax.jit(step, out_shardings=places, donate_argnums=0) for step in (update, turn)]
    return Program(part, begin, compiled[0], shardings, compiled[1] if has_turns else None)
