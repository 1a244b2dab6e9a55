"""Runs as a table: of an agent's run a row for each evaluation, of a pre-training or fine-tuning run a row for each
evaluation of its model. The columns say what a run was; the command that was typed stands at the end, for people to
copy."""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from experiments.errors import UsageError
from experiments.reports import protocols
from experiments.reports.reading import read_run
from experiments.runs.metrics_log import latest
from experiments.runs.run_folder import RunFolder, RunFolderError, flat

AGENT = ("kind", "task", "algorithm", "preset", "seed", "pretrained", "settings")
"""What an agent's run was, which tells it from others."""
TRAINING = (
    "kind",
    "beginning",
    "data",
    "source",
    "tokenizer_updates",
    "transformer_updates",
    "trajectories",
    "preset",
    "seed",
    "settings",
)
"""What a pre-training or fine-tuning run was, which tells it from others."""
BEGINNINGS = ("from scratch", "zero-shot", "tokenizer", "transformer", "full")
"""A new model; a pre-trained one as it is, and with one part or both trained further."""
MODEL = (
    "model/mse_imagined",
    "model/mse_copy_last",
    "model/mse_shuffled_actions",
    "model/moving_mse_imagined",
    "model/moving_mse_copy_last",
)
STAMPS = ("agent_steps", "env_steps", "wall_seconds")
LEARNED = (
    "validation/tokenizer/future_mse",
    "validation/transformer/cross_entropy",
    "validation/transformer/token_accuracy",
)
EVALUATED = ("mse", "psnr", "ssim", "lpips")
"""What `ivideogpt evaluate` finds of a model: columns `best_<name>` (of several samples) and `copy_last_<name>`."""


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    """Every evaluation of a run: which run, when, what was measured, and what the world model was like then.

    Model columns are empty where it was not evaluated at that step. Raises RunFolderError where there is no run, where
    an earlier version wrote it, and where its configuration or its evaluation is damaged, and MetricsError.
    """
    record, lines = read_run(folder)
    config, session = flat(record["config"]), record["sessions"][-1]
    run = describe(folder, record)
    if "task" in config:
        found = _find_agent_evaluations(lines)
    else:
        found, last = _find_model_evaluations(lines), read_evaluation(folder)
        found = [row | (last if row is found[-1] else dict.fromkeys(last, "")) for row in found]
    return [run | row | {"command": session["command"], "commit": session["commit"]} for row in found]


def describe(folder: RunFolder, record: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was, by the columns AGENT or TRAINING. Raises RunFolderError where its configuration is damaged."""
    config = flat(record["config"])
    try:
        run = (_describe_agent if "task" in config else _describe_training)(config)
    except KeyError as missing:
        raise RunFolderError(f"{folder.config} is damaged: it has no {missing.args[0]}") from missing
    except (TypeError, AttributeError) as error:
        raise RunFolderError(f"{folder.config} is damaged: {error}") from error
    told = {"protocol": as_words(protocols.of_config(config))} if "task" in config else {}
    return run | {"settings": as_words(record["settings"])} | told


def as_words(settings: Mapping[str, Any]) -> str:
    """Settings as a table has them: `name=value` by their names, with a space between two and nowhere else."""
    values = {
        name: value if isinstance(value, str) else str(value).replace(", ", ",") for name, value in settings.items()
    }
    return " ".join(f"{name}={values[name].replace(' ', '%20')}" for name in sorted(values))


def find_beginning(config: Mapping[str, Any]) -> str:
    """Which of BEGINNINGS the configuration (by dotted names) of a pre-training or fine-tuning run stands for."""
    if config["kind"] == "pretrain":
        return "from scratch"
    parts = [part for part in ("tokenizer", "transformer") if config[f"{part}.steps"]]
    return "full" if len(parts) == 2 else parts[0] if parts else "zero-shot"


def _describe_agent(config: Mapping[str, Any]) -> dict[str, Any]:
    run = {name: config[name] for name in ("task", "algorithm", "preset", "seed")}
    return {"kind": "agent"} | run | {"pretrained": config.get("pretrained") or ""}


def _describe_training(config: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("tokenizer.steps", "transformer.steps"):
        if not isinstance(config[name], int):
            raise TypeError(f"{name} is {config[name]!r}, no whole number")
    return {
        "kind": config["kind"],
        "beginning": find_beginning(config),
        "data": " ".join(pathlib.Path(part["folder"]).name for part in config["data"]),
        "source": config["source"] or "",
        "tokenizer_updates": config["tokenizer.steps"],
        "transformer_updates": config["transformer.steps"],
        "trajectories": config["trajectories"] or "",
        "preset": config["preset"],
        "seed": config["seed"],
    }


def _find_agent_evaluations(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = []
    for line in lines:
        if "eval/success" not in line:
            continue
        evaluated = latest([other for other in lines if other["agent_steps"] == line["agent_steps"]], MODEL[0]) or {}
        table.append(
            {name: line[name] for name in STAMPS}
            | {name: line[f"eval/{name}"] for name in ("success", "return", "episodes")}
            | {name.removeprefix("model/"): evaluated.get(name, "") for name in MODEL}
        )
    return table


def _find_model_evaluations(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: line[name] for name in ("updates", "wall_seconds")}
        | {name.removeprefix("validation/").replace("/", "_"): line.get(name, "") for name in LEARNED}
        | {name.removeprefix("model/"): line.get(name, "") for name in MODEL}
        for line in lines
        if any(name.startswith("validation/") for name in line)
    ]


def read_evaluation(folder: RunFolder) -> dict[str, Any]:
    """What `ivideogpt evaluate RUN` found of a run's model; empty where it was not evaluated."""
    path = folder.evaluation / "evaluation.json"
    try:
        found = json.loads(path.read_text()) if path.exists() else {"metrics": {}, "protocol": {"samples": ""}}
        samples = found["protocol"]["samples"]
        row = {"evaluated_samples": samples}
        for name in EVALUATED:
            values = found["metrics"].get(name, {})
            row |= {
                f"best_{name}": _number(values, f"best_of_{samples}"),
                f"copy_last_{name}": _number(values, "copy_last"),
            }
        return row
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: 'ivideogpt evaluate {folder.path}' writes it again") from error


def _number(values: Mapping[str, Any], name: str) -> float | str:
    """A measured value; nothing where it was not measured."""
    value = values.get(name, "")
    if value != "" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{name} is {value!r}")
    return value


def as_csv(folders: Sequence[RunFolder]) -> str:
    """All runs in one table, in the order given. Raises UsageError where an agent's runs are beside others."""
    table = [row for folder in folders for row in rows(folder)]
    if not table:
        return ""
    if any(set(row) != set(table[0]) for row in table):
        raise UsageError("one table holds agents' runs, or pre-training and fine-tuning runs: make a --csv of each")
    return csv_text(list(table[0]), table)


def csv_text(columns: Sequence[str], table: Iterable[Mapping[str, Any]]) -> str:
    """Rows as a CSV file holds them; what a row lacks stays empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


WRITES = "'ivideogpt report RUN... --csv FILE' writes those"


def read(path: str | os.PathLike, needed: Collection[str], kind: str, repair: str = WRITES) -> list[dict[str, str]]:
    """The rows of a CSV file with at least these columns, such as `as_csv` made. kind, repair: for the error, of what
    the table is, and where one comes from.

    Raises UsageError, which says what is wrong, for everything else.
    """
    try:
        reader = csv.DictReader(io.StringIO(pathlib.Path(path).read_text(encoding="utf-8"), newline=""))
        table = [_check_cells(row, path, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}") from error
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing or not table:
        lacks = f"it has no column {missing[0]}" if missing else "it has no rows"
        raise UsageError(f"{path} is no table of {kind} ({lacks}): {repair}")
    return table


def _check_cells(row: dict[Any, Any], path: str | os.PathLike, line: int) -> dict[str, str]:
    """The row. Raises UsageError where it has more or fewer cells than there are columns."""
    if None in row or None in row.values():
        raise UsageError(f"{path}, line {line}: a row with more or fewer cells than there are columns")
    return row
