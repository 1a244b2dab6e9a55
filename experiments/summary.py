"""Runs as a table, for CSV files that stand beside the commands which made them: of an agent's run one row an evaluation,
of a pre-training or fine-tuning run one row a judgement of its model."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from experiments.adaptation import MEASURES
from experiments.errors import UsageError
from experiments.metrics import latest, read_metrics
from experiments.run_folder import RunFolder

MODEL = ("model/mse_imagined", "model/mse_repeat", "model/mse_swapped", "model/moving_mse_imagined", "model/moving_mse_repeat")
STAMPS = ("agent_steps", "env_steps", "wall_seconds")
LEARNED = ("validation/tokenizer/future_mse", "validation/transformer/cross_entropy", "validation/transformer/token_accuracy")


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Every evaluation of a run: which run, when, what was measured, and what the world model was like then.

    Model columns are empty where it was not judged at that step. Raises RunFolderError where there is no run.
    """
    record = folder.read()
    lines, session = read_metrics(folder.metrics), record["sessions"][-1]
    if "task" in record["config"]:
        found = _of_agent(record["config"], lines)
    else:
        found, last = _of_pretraining(record["config"], lines), _evaluated(folder)
        found = [row | (last if row is found[-1] else dict.fromkeys(last, "")) for row in found]
    return [row | {"command": session["command"], "commit": session["commit"]} for row in found]


def _of_agent(config: dict[str, Any], lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
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
        )
    return table


def _of_pretraining(config: dict[str, Any], lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sets = " ".join(pathlib.Path(part["folder"]).name for part in config["data"])
    return [
        {"data": sets, "source": config["source"] or ""}
        | {f"{part}_updates": config[part]["steps"] for part in ("tokenizer", "transformer")}
        | {"trajectories": config["trajectories"] or "", "preset": config["preset"], "seed": config["seed"]}
        | {name: line[name] for name in ("updates", "wall_seconds")}
        | {name.removeprefix("validation/").replace("/", "_"): line.get(name, "") for name in LEARNED}
        | {name.removeprefix("model/"): line.get(name, "") for name in MODEL}
        for line in lines
        if any(name.startswith("validation/") for name in line)
    ]


def _evaluated(folder: RunFolder) -> dict[str, Any]:
    """What `ivideogpt evaluate RUN --out RUN/evaluation` found of a run's model; empty where it was not evaluated."""
    path = folder.path / "evaluation" / "evaluation.json"
    found = json.loads(path.read_text()) if path.exists() else {"metrics": {}, "protocol": {"samples": ""}}
    samples = found["protocol"]["samples"]
    row = {"evaluated_samples": samples}
    for name, measure in MEASURES.items():
        if name.startswith("best-"):
            values = found["metrics"].get(name.removeprefix("best-"), {})
            row |= {measure.column: values.get(f"best_of_{samples}", ""), measure.repeat: values.get("repeat", "")}
    return row


def as_csv(folders: Sequence[RunFolder]) -> str:
    """All runs in one table, in the order given. Raises UsageError where an agent's runs are beside others."""
    table = [row for folder in folders for row in rows(folder)]
    if not table:
        return ""
    if any(set(row) != set(table[0]) for row in table):
        raise UsageError("one table holds agents' runs, or pre-training and fine-tuning runs: make a --csv of each")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
