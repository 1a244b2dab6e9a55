"""A learner small enough for tests, and a batch for it."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from agent.dreamerv3 import learner as agent
from agent.dreamerv3 import rssm
from agent.dreamerv3.config import SIZES, DreamerConfig, LaPropConfig
from agent.dreamerv3.learner import DreamerState
from agent.dreamerv3.objective import SequenceBatch

OPTIMIZER = LaPropConfig(learning_rate=3e-3, warmup_updates=0)


@pytest.fixture(scope="session")
def config() -> DreamerConfig:
    return DreamerConfig(model=SIZES["debug"], optimizer=OPTIMIZER, batch=2, length=5, imagination=3)


@pytest.fixture(scope="session")
def fresh(config) -> DreamerState:
    """A learner before its first update, as numpy arrays, which a donating step cannot take away.

    Drawn with keys of a kind that compiles in a fifth of the time.
    """
    return jax.tree.map(np.asarray, agent.init(config, jax.random.key(0, impl="unsafe_rbg")))


@pytest.fixture(scope="session")
def batch(config) -> SequenceBatch:
    """Pictures of which each shows one colour, random actions, rewards of a few units; no episode starts or ends."""
    rng, shape, side = np.random.default_rng(0), (config.batch, config.length), config.model.resolution
    colours = rng.integers(0, 255, (*shape, 1, 1, 3), dtype=np.uint8)
    nowhere = np.zeros(shape, bool)
    return SequenceBatch(
        frames_bthwc=np.broadcast_to(colours, (*shape, side, side, 3)),
        actions_bta=rng.uniform(-1, 1, (*shape, config.model.action_size)).astype(np.float32),
        rewards_bt=rng.uniform(0, 3, shape).astype(np.float32),
        first_bt=nowhere,
        last_bt=nowhere,
        terminal_bt=nowhere,
        start=rssm.initial(config.model, config.batch),
    )
