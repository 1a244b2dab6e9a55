"""What the same agent reaches without a world model: the project's own runs of its presets, where there are some."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.reports import curves

RESULTS = pathlib.Path(__file__).parents[1] / "results"
TABLES = (RESULTS / "demo_without.csv", RESULTS / "imagination.csv")
"""Runs of presets as they are, among them those of `--algorithm drqv2`, as `ivideogpt report --csv` writes them."""


def find_without(config: Mapping[str, Any], agent_steps: int) -> list[curves.Row]:
    """The evaluations at this agent step of runs with this preset and task and nothing else changed, one per seed.

    config: a run's settings by their dotted names. Empty for a run that has no world model, and where nothing of the
    kind was measured.
    """
    if config.get("algorithm") != "mbpo":
        return []
    wanted = {name: config[name] for name in ("task", "preset")}
    wanted |= {"agent_steps": agent_steps, "algorithm": "drqv2", "settings": ""}
    rows = (row for table in TABLES if table.exists() for row in curves.read_table(table))
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def describe(success: float, without: list[curves.Row]) -> str:
    """One sentence or two; a difference is one only where all runs without a model are on one side of this run."""
    shares = [row["success"] for row in without]
    listed = ", ".join(f"{share:.0%} (seed {row['seed']})" for share, row in zip(shares, without, strict=True))
    if min(shares) > success:
        conclusion = "So here imagination took away more than it gave, as far as one run can tell."
    elif max(shares) < success:
        conclusion = f"So imagination contributed {success - max(shares):.0%} or more, as far as one run can tell."
    else:
        conclusion = "So nothing that imagination contributed can be seen on this task."
    return f"The same agent without a model, after as many steps: {listed}. {conclusion}"
