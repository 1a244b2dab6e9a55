"""What must never be saved or believed: numbers that are not finite, and impossible rewards and values.

Watching costs one small program per update and never waits for the device: whether a metric was finite is remembered
beside it, and read when the metrics are read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tokenizer.errors import UserError

NEVER = -1


class Diverged(UserError, ArithmeticError):
    """A loss, a parameter or an action is not finite; the message says which, when, and what to do."""

    def __init__(self, what: str, agent_steps: int):
        super().__init__(
            f"{what} was not finite at agent step {agent_steps}, so the run stopped; its checkpoints are from before. "
            "The same command fails again: try a lower learning rate in another --run-dir"
        )


class WatchedMetrics:
    """The newest metrics of each part of the training, left on the device until they are taken."""

    def __init__(self):
        self._newest: dict[str, Any] = {}
        self._since: dict[str, Array] = {}

    def note(self, group: str, metrics: Mapping[str, Any], agent_steps: int) -> None:
        """Replace what is known of `<group>/<name>`; values are scalars."""
        named = {f"{group}/{name}": value for name, value in metrics.items()}
        before = {name: self._since.get(name, np.int32(NEVER)) for name in named}
        self._since.update(_not_finite_since(named, before, np.int32(agent_steps)))
        self._newest.update(named)

    def take(self) -> dict[str, float]:
        """The newest metrics as numbers, each taken only once.

        Raises Diverged where one was not finite, now or at any time since metrics were last taken, naming the first.
        """
        newest, since = jax.device_get((self._newest, self._since))
        self.forget()
        bad = {name: int(step) for name, step in since.items() if step != NEVER}
        if bad:
            name = min(bad, key=bad.__getitem__)
            raise Diverged(name, bad[name])
        return {name: float(value) for name, value in newest.items()}

    def forget(self) -> None:
        self._newest, self._since = {}, {}


@jax.jit
def _not_finite_since(metrics: dict[str, Array], before: dict[str, Array], agent_steps: Array) -> dict[str, Array]:
    """For each metric the first agent step [] at which it was not finite, or NEVER."""
    return {
        name: jnp.where((before[name] == NEVER) & ~jnp.isfinite(jnp.asarray(value)), agent_steps, before[name])
        for name, value in metrics.items()
    }


def refuse_not_finite(arrays: Any, agent_steps: int) -> None:
    """Raise Diverged where a floating-point leaf of a pytree holds NaN or infinity, naming the first. Waits for it."""
    named = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    for (name, _), finite in zip(named, jax.device_get(_finite([leaf for _, leaf in named])), strict=True):
        if not finite:
            raise Diverged(name, agent_steps)


@jax.jit
def _finite(leaves: list[Array]) -> list[Array]:
    return [jnp.isfinite(leaf).all() for leaf in leaves]


@dataclasses.dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def widened(self, share: float) -> Range:
        """By a share of its own width on both sides."""
        margin = share * (self.high - self.low)
        return Range(self.low - margin, self.high + margin)


def reward_range(rewards: np.ndarray) -> Range:
    """Where an imagined reward may lie: the range of real ones [N], widened by its width on both sides."""
    return Range(float(rewards.min()), float(rewards.max())).widened(1.0)


def value_range(reward_scale: float, discount: float, rewards: np.ndarray) -> Range:
    """Where a Q value may lie: between earning the worst and the best real reward [N] for ever, widened by a tenth."""
    forever = reward_scale / (1 - discount)
    worst, best = min(0.0, float(rewards.min())), max(0.0, float(rewards.max()))
    return Range(worst * forever, best * forever).widened(0.1)


@dataclasses.dataclass(frozen=True)
class Outlier:
    """A metric far outside the real range."""

    name: str
    value: float
    allowed: Range


def outliers(
    metrics: Mapping[str, float], reward_scale: float, discount: float, rewards: np.ndarray
) -> Iterator[Outlier]:
    """Imagined rewards and Q values among `metrics` that no real experience [N rewards] accounts for."""
    imagined, values = reward_range(rewards), value_range(reward_scale, discount, rewards)
    allowed = {
        "imagined/reward_smallest": imagined,
        "imagined/reward_largest": imagined,
        "agent/value_smallest": values,
        "agent/value_largest": values,
    }
    for name, within in allowed.items():
        if name in metrics and metrics[name] not in within:
            yield Outlier(name, metrics[name], within)
