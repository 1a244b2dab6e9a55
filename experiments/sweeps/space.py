"""The space of a sweep: which settings vary, over which values, and which only where another one has a certain value.

space:
  algorithm:
    choice:
      drqv2: {drqv2.batch: {choice: [64, 128]}}     # only where algorithm is drqv2
      mbpo:
        mbpo.model:
          horizon: {integer: [2, 10]}
          temperature: 0.5                           # a value alone stays as it is
  schedule.random-agent-steps: {grid: [500, 1000]}
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.errors import UsageError

Point = Mapping[str, Any]
"""A value for every setting that is in force, by the name that it is typed by, in the order of the file."""


@dataclasses.dataclass(frozen=True)
class Values:
    """A setting that has one of these values."""

    name: str
    key: str
    """The name with the conditions before it, which tells it from the same setting elsewhere in the space."""
    values: tuple[Any, ...]
    nested: Mapping[Any, Space] = dataclasses.field(default_factory=dict)
    """Settings that are only there where this one has a certain value."""
    gone_through: bool = False
    """Whether a random search goes through all of them (`grid`) instead of drawing one (`choice`)."""

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[int(rng.integers(len(self.values)))]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """A setting that is a number from `low` to `high`, both included."""

    name: str
    key: str
    kind: str  # one of INTERVALS
    low: float
    high: float
    nested: Mapping[Any, Space] = dataclasses.field(default_factory=dict)  # none: conditions are on values

    def __post_init__(self):
        if not self.low < self.high or (self.kind == "log-uniform" and self.low <= 0):
            above = "above 0, " if self.kind == "log-uniform" else ""
            raise UsageError(
                f"space: {self.name}: {self.kind} [{self.low}, {self.high}] is no range: {above}low < high"
            )

    def draw(self, rng: np.random.Generator) -> float | int:
        if self.kind == "integer":
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        if self.kind == "log-uniform":
            return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        return float(rng.uniform(self.low, self.high))


Space = tuple[Values | Bounds, ...]
VALUES, INTERVALS = ("choice", "grid"), ("uniform", "log-uniform", "integer")


def parse_space(raw: Any, where: str = "") -> Space:
    """What the file says under `space`. Raises UsageError. where: the conditions that hold already."""
    return tuple(
        _domain(name, value, f"{where}{name}") for name, value in flatten(raw, "space", VALUES + INTERVALS).items()
    )


def flatten(raw: Any, where: str, leaves: Sequence[str] = (), prefix: str = "") -> dict[str, Any]:
    """Groups of settings as dotted names, as they are typed; mappings with one of `leaves` alone are values.

    Raises UsageError for what is no mapping, and for a setting that is there twice.
    """
    if not isinstance(raw, Mapping):
        raise UsageError(f"{where} is {raw!r}, expected settings with their values")
    found: dict[str, Any] = {}
    for key, value in raw.items():
        name = f"{prefix}{key}".replace("_", "-")
        group = isinstance(value, Mapping) and not (len(value) == 1 and next(iter(value)) in leaves)
        for each, inner in (flatten(value, where, leaves, f"{name}.") if group else {name: value}).items():
            if each in found:
                raise UsageError(f"{where}: {each} is there twice")
            found[each] = inner
    return found


def _domain(name: str, raw: Any, key: str) -> Values | Bounds:
    if not isinstance(raw, Mapping):
        return Values(name, key, (number(raw),), gone_through=True)
    ((kind, given),) = raw.items()
    if kind in INTERVALS:
        bounds = [number(each) for each in given] if isinstance(given, list) else []
        whole = int if kind == "integer" else int | float
        if len(bounds) != 2 or not all(isinstance(each, whole) and math.isfinite(each) for each in bounds):
            raise UsageError(f"space: {name}: {kind} is {given!r}, expected [low, high]")
        return Bounds(name, key, kind, *bounds)
    listed: list[Any] = given if isinstance(given, list) else []
    options = given if isinstance(given, Mapping) else dict.fromkeys(map(_hashable, listed))
    if not options:
        raise UsageError(f"space: {name}: {kind} is {given!r}, expected a list of values")
    nested = {number(value): parse_space(inner, f"{key}={number(value)}/") for value, inner in options.items() if inner}
    return Values(name, key, tuple(map(number, options)), nested, gone_through=kind == "grid")


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def number(value: Any) -> Any:
    """The value; a number where it is written like 1e-4, which YAML takes for text."""
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


# --- points -----------------------------------------------------------------------------------------------------------

Pick = Callable[[Values | Bounds], Sequence[Any]]
"""Which values of a setting to go through."""


def expand(space: Space, pick: Pick) -> Iterator[dict[str, Any]]:
    """Every combination of the values that are picked, with the settings that each of them brings."""
    if not space:
        yield {}
        return
    first, *others = space
    for value in pick(first):
        for point in expand((*first.nested.get(value, ()), *others), pick):
            if first.name in point:
                raise UsageError(f"space: {first.name} is there twice under one condition")
            yield {first.name: value, **point}


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination there is. Raises UsageError where a setting has no end of values."""

    _refuse_ranges(space, "a grid", "grid")
    return list(expand(space, _values))


def ablation(space: Space) -> list[dict[str, Any]]:
    """For each combination of what is gone through: the point with the first value of every choice, and with each other
    value alone. The first ones come first. Raises UsageError as `grid` does."""
    _refuse_ranges(space, "an ablation", "choice")
    found = list(expand(space, _first_values))
    for domain in _all_domains(space):
        if isinstance(domain, Values) and not domain.gone_through:
            for value in domain.values[1:]:
                found += expand(space, _leading_to(domain, value, _first_values))
    return found


def _values(domain: Values | Bounds) -> Sequence[Any]:
    return (domain.low, domain.high) if isinstance(domain, Bounds) else domain.values


def _first_values(domain: Values | Bounds) -> Sequence[Any]:
    """All values of what is gone through, the first one of anything else."""
    values = _values(domain)
    return values if isinstance(domain, Values) and domain.gone_through else values[:1]


def _refuse_ranges(space: Space, who: str, under: str) -> None:
    for domain in _all_domains(space):
        if isinstance(domain, Bounds):
            raise UsageError(
                f"space: {domain.name}: {who} goes through values, and {domain.kind} is a range: list values under "
                f"{under}, or search: {{kind: random}}"
            )


def gone_through(space: Space) -> list[str]:
    """The names of settings that a sweep goes through, wherever they are in the space."""
    domains = (domain for domain in _all_domains(space) if isinstance(domain, Values))
    return list(dict.fromkeys(domain.name for domain in domains if domain.gone_through and len(domain.values) > 1))


def _leading_to(domain: Values | Bounds, value: Any, others: Pick) -> Pick:
    """The value of a setting, the values that lead to it where it is nested, and `others` of all others."""

    def pick(other: Values | Bounds) -> Sequence[Any]:
        if other.key == domain.key:
            return [value]
        leading = [each for each in _values(other) if domain.key.startswith(f"{other.key}={each}/")]
        return leading or others(other)

    return pick


def draw(space: Space, seed: int, samples: int) -> list[dict[str, Any]]:
    """So many random points, for each the whole of what is gone through; a function of the seed and their number."""
    points: list[dict[str, Any]] = []
    for sample in range(samples):

        def pick(domain: Values | Bounds, sample: int = sample) -> Sequence[Any]:
            if isinstance(domain, Values) and domain.gone_through:
                return domain.values
            return [domain.draw(np.random.default_rng([seed, sample, *domain.key.encode()]))]

        points += expand(space, pick)
    return points


def probe(space: Space) -> list[dict[str, Any]]:
    """Points in which every value of every setting is once, of a range its two ends: few, for checking."""
    found: list[dict[str, Any]] = []
    for domain in _all_domains(space):
        for value in _values(domain):
            found += expand(space, _leading_to(domain, value, lambda other: _values(other)[:1]))
    return found or [{}]


def _all_domains(space: Space) -> Iterator[Values | Bounds]:
    for domain in space:
        yield domain
        for inner in domain.nested.values():
            yield from _all_domains(inner)


def names_of(space: Space) -> list[str]:
    """The names of all settings that may vary or be there, each once."""
    return list(dict.fromkeys(domain.name for domain in _all_domains(space)))
