"""Published learning curves, which stand beside our own under their source and their protocol and are never averaged
with them.

A reference is a table `FILE.csv` with the columns `task`, `method`, `seed`, `env_steps` and `success` (a share), and
beside it `FILE.yaml`:

    source: Who published it, and where
    protocol:
      benchmark: Meta-World v2
      camera: corner2
      demonstrations: 0

The protocol has the fields of `protocols.FIELDS`. What is left out counts as not stated, and is marked as such.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from experiments.errors import UsageError, by_name
from experiments.reports import curves, protocols, tables
from experiments.reports.scores import ScoredRun, methods_of

COLUMNS = ("task", "method", "seed", "env_steps", "success")


@dataclasses.dataclass(frozen=True)
class Reference:
    """The published runs of one file."""

    name: str
    source: str
    protocol: protocols.Protocol
    runs: tuple[ScoredRun, ...]


@dataclasses.dataclass(frozen=True)
class BesideLine:
    """A method on a task, ours or published: as much as both kinds of series have."""

    task: str
    method: str
    source: str  # of a published one; empty of ours
    seeds: int
    end: float  # environment steps of the shortest series
    success: float  # mean over seeds there
    mean_solved: float | None  # first environment step at which the mean over seeds reaches 80%
    solved: int  # seeds that reach it at all


def read_reference(path: pathlib.Path, tasks: Sequence[str]) -> Reference:
    """The published series of these tasks. Raises UsageError where the table or what is beside it is not as described
    above, and where it has none of the tasks."""
    source, protocol = _read_description(path.with_suffix(".yaml"))
    series: dict[tuple[str, str, str], dict[float, float]] = {}
    for number, row in enumerate(tables.read(path, COLUMNS, "published series", REPAIR), 2):
        if row["task"] in tasks:
            step, success = _numbers(row, path, number)
            points = series.setdefault((row["method"], row["task"], row["seed"]), {})
            if step in points:
                raise UsageError(f"{path}, line {number}: {row['method']}, {row['task']}, seed {row['seed']} has step "
                                 f"{step:.0f} twice")  # fmt: skip
            points[step] = success
    if not series:
        raise UsageError(f"{path} has none of the tasks of these runs ({', '.join(tasks)}): leave it out")
    runs = [_scored(*whose, points, protocol) for whose, points in sorted(series.items())]
    return Reference(path.stem, source, protocol, tuple(runs))


REPAIR = "docs/how-to/compare.md says what such a file holds"


def _scored(
    method: str, task: str, seed: str, points: Mapping[float, float], protocol: protocols.Protocol
) -> ScoredRun:
    steps = sorted(points)
    success = np.array([points[step] for step in steps])
    return ScoredRun(f"{method} (published)", task, seed, "", {"env_steps": np.array(steps)}, success, protocol)


def _numbers(row: Mapping[str, str], path: pathlib.Path, number: int) -> tuple[float, float]:
    try:
        step, success = float(row["env_steps"]), float(row["success"])
    except ValueError as error:
        raise UsageError(f"{path}, line {number}: {error}") from error
    if not (0 <= step < np.inf and 0 <= success <= 1):
        raise UsageError(f"{path}, line {number}: env_steps is {step}, success {success}; expected 0 or more, a share")
    return step, success


def _read_description(path: pathlib.Path) -> tuple[str, dict[str, str]]:
    """Source and protocol."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no YAML"
        raise UsageError(
            f"{path} cannot be read ({reason}): it holds the source and the protocol of the series; {REPAIR}"
        ) from error
    if not isinstance(told, Mapping) or not isinstance(told.get("source"), str) or not told["source"].strip():
        raise UsageError(f"{path} names no source: {REPAIR}")
    protocol: Any = told.get("protocol", {})
    if not isinstance(protocol, Mapping):
        raise UsageError(f"{path}: its protocol is {protocol!r}, expected a value for each field; {REPAIR}")
    for name in protocol:
        by_name("field of a protocol", str(name), dict.fromkeys(protocols.FIELDS))
    return told["source"].strip(), {name: str(protocol.get(name, protocols.UNKNOWN)) for name in protocols.FIELDS}


def beside(runs: Sequence[ScoredRun], references: Sequence[Reference]) -> list[BesideLine]:
    """Ours and theirs on the tasks that both have, each over its own budget."""
    theirs = {run.task for reference in references for run in reference.runs}
    parts = [("", runs), *((reference.source, reference.runs) for reference in references)]
    found = []
    for task in sorted(theirs & {run.task for run in runs}):
        for source, all_runs in parts:
            here = [run for run in all_runs if run.task == task]
            found += [_line(source, [run for run in here if run.method == method]) for method in methods_of(here)]
    return found


def _line(source: str, runs: Sequence[ScoredRun]) -> BesideLine:
    common, mean = mean_curve(runs)
    solved = np.flatnonzero(mean >= curves.SOLVED)
    return BesideLine(
        task=runs[0].task,
        method=runs[0].method,
        source=source,
        seeds=len(runs),
        end=float(common[-1]) if len(common) else float("nan"),
        success=float(mean[-1]) if len(common) else float("nan"),
        mean_solved=float(common[solved[0]]) if len(solved) else None,
        solved=sum(run.solved() < np.inf for run in runs),
    )


def mean_curve(runs: Sequence[ScoredRun]) -> tuple[np.ndarray, np.ndarray]:
    """Where all seeds were evaluated, environment steps [N], and the mean of their success there [N]."""
    common = sorted(set.intersection(*(set(run.over["env_steps"].tolist()) for run in runs)))
    rows = [run.success[np.searchsorted(run.over["env_steps"], common)] for run in runs]
    return np.array(common), np.array(rows).reshape(len(runs), -1).mean(0)
