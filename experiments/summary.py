"""Runs as a table: one row an evaluation, for CSV files that stand beside the commands which made them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from experiments.metrics import latest, read_metrics
from experiments.run_folder import RunFolder

MODEL = ("model/mse_imagined", "model/mse_repeat", "model/mse_swapped", "model/moving_mse_imagined", "model/moving_mse_repeat")
STAMPS = ("agent_steps", "env_steps", "wall_seconds")


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Every evaluation of a run: which run, when, success and return, and what the world model was like then.

    Model columns are empty where it was not judged at that step. Raises RunFolderError where there is no run.
    """
    record = folder.read()
    config, session = record["config"], record["sessions"][-1]
    lines = read_metrics(folder.metrics)
    table = []
    for line in lines:
        if "eval/success" not in line:
            continue
        judged = latest([other for other in lines if other["agent_steps"] == line["agent_steps"]], MODEL[0]) or {}
        table.append(
            {name: config[name] for name in ("task", "algorithm", "preset", "seed")}
            | {name: line[name] for name in STAMPS}
            | {name: line[f"eval/{name}"] for name in ("success", "return", "episodes")}
            | {name.removeprefix("model/"): judged.get(name, "") for name in MODEL}
            | {"command": session["command"], "commit": session["commit"]}
        )
    return table


def as_csv(folders: Sequence[RunFolder]) -> str:
    """All runs in one table, in the order given."""
    table = [row for folder in folders for row in rows(folder)]
    if not table:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
