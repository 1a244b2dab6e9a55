"""Tables of the results page, from the CSV files in experiments/results that hold every evaluation.

As a program, for `make results`: prints the page as Markdown with its tables.
"""

from __future__ import annotations

import csv
import pathlib
import re
import statistics
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from experiments.reports import ablation, imagination_gain
from experiments.reports.plots import wilson

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "results"
SOLVED = 0.8
"""Share of the evaluation episodes from which a task counts as solved."""

Row = Mapping[str, str]


def read(name: str) -> list[Row]:
    """The rows of a table."""
    return list(csv.DictReader((FOLDER / f"{name}.csv").read_text().splitlines()))


def make(words: str) -> str:
    """`KIND TABLE...`: one Markdown table."""
    kind, *tables = words.split()
    return KINDS[kind]([row for table in tables for row in read(table)])


def sources(rows: list[Row]) -> str:
    """Of every file: how many runs it holds, the command of the first one, and the commits."""
    lines = []
    for path in sorted(FOLDER.glob("*.csv")):
        found = read(path.stem)
        commits = dict.fromkeys(row["commit"].partition("+")[0][:8] for row in found if row.get("commit"))
        runs = {(row.get("command"), row.get("commit")) for row in found}
        said = ", ".join(f"`{commit}`" for commit in list(commits)[:4]) + (" ..." if len(commits) > 4 else "")
        lines.append([f"`{path.name}`", str(len(runs)), f"`{found[0]['command']}`", said or "not kept"])
    return _table(("file", "commands", "the first one", "commits"), lines)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def _runs(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows by run; each run's in the order of time."""
    runs: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.get("task", ""), row["seed"])):
        runs.setdefault(f"{row['command']} {row['commit']}", []).append(row)
    return runs


def _errors(row: Row) -> list[str]:
    return [f"{float(row[name]):.5f}" for name in ("mse_imagined", "mse_copy_last", "mse_shuffled_actions")]


def _count(row: Row) -> str:
    return f"{round(float(row['success']) * int(row['episodes']))}"


def first_and_last(rows: list[Row]) -> str:
    """Of each run: successes before and at the end, and the world model's errors at the end."""
    head = ("task, seed", "successes of 20, before", "at the end", "imagined", "copy-last", "shuffled actions")
    lines = []
    for run in _runs(rows).values():
        first, last = run[0], run[-1]
        lines.append([f"{last['task']}, {last['seed']}", _count(first), _count(last), *_errors(last)])
    return _table(head, lines)


def every_evaluation(rows: list[Row]) -> str:
    """Of each run: success at each evaluation, and the world model's errors at the end."""
    head = ("task, seed", "agent steps", "success", "imagined", "copy-last", "shuffled actions")
    lines = []
    for run in _runs(rows).values():
        steps = " / ".join(f"{int(row['agent_steps'])}" for row in run)
        success = " / ".join(f"{float(row['success']):.0%}" for row in run)
        lines.append([f"{run[-1]['task']}, {run[-1]['seed']}", steps, success, *_errors(run[-1])])
    return _table(head, lines)


def margins(rows: list[Row]) -> str:
    """By how much imagination beats both comparisons, at every evaluation of the model."""
    head = ("task, seed", "agent step", "less error than copy-last", "less than with shuffled actions")
    lines = []
    for row in (row for run in _runs(rows).values() for row in run):
        if row["mse_imagined"]:
            mine = float(row["mse_imagined"])
            better = [f"{1 - mine / float(row[name]):.1%}" for name in ("mse_copy_last", "mse_shuffled_actions")]
            lines.append([f"{row['task']}, {row['seed']}", row["agent_steps"], *better])
    return _table(head, lines)


def first_solved(rows: list[Row]) -> str:
    """The first evaluation with at least 80% success: environment step and minutes, seed by seed."""
    cells: dict[tuple[str, str], list[str]] = {}
    for run in _runs(rows).values():
        solved = next((row for row in run if float(row["success"]) >= SOLVED), None)
        best = max(float(row["success"]) for row in run)
        minutes = f"{float(solved['wall_seconds']) / 60:.1f} min" if solved else ""
        said = f"{int(solved['env_steps'])} ({minutes})" if solved else f"not ({best:.0%})"
        cells.setdefault((run[0]["task"], run[0]["algorithm"]), []).append(said)
    tasks = list(dict.fromkeys(task for task, _ in cells))
    algorithms = [one for one in ("mbpo", "drqv2", "dreamerv3") if any(one == found for _, found in cells)]
    lines = [[task, *(", ".join(cells.get((task, a), ["not run"])) for a in algorithms)] for task in tasks]
    return _table(["task", *algorithms], lines)


def solved_runs(rows: list[Row]) -> str:
    """Run by run: settings, the first evaluation with at least 80%, and the end."""
    head = (
        "task, seed",
        "settings that differ",
        "solved first, env steps",
        "minutes",
        "return at the end",
        "successes",
    )
    runs = list(_runs(rows).values())
    common = set.intersection(*(set(run[0]["settings"].split()) for run in runs))
    lines = []
    for run in runs:
        solved = next((row for row in run if float(row["success"]) >= SOLVED), None)
        own = [f"`{setting}`" for setting in run[0]["settings"].split() if setting not in common]
        first = (solved["env_steps"], f"{float(solved['wall_seconds']) / 60:.0f}") if solved else ("not", "")
        last = run[-1]
        end = (f"{float(last['return']):.0f}", f"{_count(last)} of {last['episodes']}")
        lines.append([f"{last['task']}, {last['seed']}", " ".join(own), *first, *end])
    return _table(head, lines)


BEGINNINGS = {
    "from scratch": "from scratch",
    "tokenizer": "tokenizer alone",
    "transformer": "transformer alone",
    "full": "all of it",
}
"""What a model began with and which part of it learned, as a heading says it."""


def adaptation(rows: list[Row]) -> str:
    """Mean error over seeds, its range, and the error under shuffled actions, in thousandths."""
    cells: dict[tuple[int, str], list[Row]] = {}
    for row in (run[-1] for run in _runs(rows).values()):
        if row["mse_imagined"]:
            cells.setdefault((int(row["trajectories"] or 0), row["beginning"]), []).append(row)
    columns = [kind for kind in BEGINNINGS if any(kind == found for _, found in cells)]
    lines = []
    for recordings in sorted({number for number, _ in cells}):
        line = [str(recordings) if recordings else "none (as it is)"]
        for kind in columns:
            found = cells.get((recordings, "zero-shot" if recordings == 0 and kind == "full" else kind))
            line.append(_mean_and_range(found) if found else "")
        lines.append(line)
    return _table(["recordings", *(BEGINNINGS[kind] for kind in columns)], lines)


def _mean_and_range(rows: list[Row]) -> str:
    own, other = ([1e3 * float(row[name]) for row in rows] for name in ("mse_imagined", "mse_shuffled_actions"))
    spread = f", {min(own):.2f} to {max(own):.2f}" if len(own) > 1 else ""
    return f"{statistics.mean(own):.2f}{spread} ({statistics.mean(other):.2f})"


def last_errors(rows: list[Row]) -> str:
    """Of each run: what learned and from what, for how long, and the world model's errors at the end."""
    head = ("model", "seed", "updates", "seconds", "imagined", "copy-last", "shuffled actions")
    lines = []
    for run in _runs(rows).values():
        last = run[-1]
        model = last["source"] if last["beginning"] == "zero-shot" else last["preset"]
        lines.append([model, last["seed"], last["updates"], f"{float(last['wall_seconds']):.0f}", *_errors(last)])
    return _table(head, lines)


def training_errors(rows: list[Row]) -> str:
    """Of a training: the errors on held-out recordings at each evaluation of the world model."""
    head = ("updates", "minutes", "imagined", "copy-last", "shuffled actions")
    measured = sorted((row for row in rows if row["mse_imagined"]), key=lambda row: int(row["updates"]))
    return _table(head, [[row["updates"], f"{float(row['wall_seconds']) / 60:.0f}", *_errors(row)] for row in measured])


def horizons(rows: list[Row]) -> str:
    """Of one model: its errors over futures of several lengths."""
    head = ("frames ahead", "imagined", "copy-last", "shuffled actions", "imagined over copy-last")
    lines = []
    for row in rows:
        settings = dict(setting.split("=") for setting in row["settings"].split())
        share = float(row["mse_imagined"]) / float(row["mse_copy_last"])
        lines.append((int(settings.get("horizon", 10)), [*_errors(row), f"{share:.2f}"]))
    return _table(head, [[f"{horizon}", *errors] for horizon, errors in sorted(lines)])


def planning(rows: list[Row]) -> str:
    """A line for each task and what was planned in: successes with their 95% interval (Wilson), what is left of the
    first picture's squared error to the goal, and how well random plans were ranked."""
    head = ("task", "planned in", "planner", "cost", "tried", "succeeded", "95%", "error left", "steps", "agreement")
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(_planned_in(row), []).append(row)
    return _table(head, [[*group, *_planned(found)] for group, found in groups.items()])


def _planned_in(row: Row) -> tuple[str, ...]:
    if row["model"] == "random":
        return row["task"], "`random`", "", "", ""
    settings = dict(word.split("=") for word in row["settings"].split())
    tried = int(settings["samples"]) * int(settings["iterations"])
    return row["task"], f"`{row['model']}`", row["planner"], row["cost"], str(tried)


def _planned(rows: list[Row]) -> list[str]:
    number, solved = len(rows), sum(int(row["success"]) for row in rows)
    low, high = (float(np.clip(bound, 0, 1)) for bound in wilson(np.array(solved / number), np.array(number)))
    left = statistics.mean(float(row["goal_error_end"]) / float(row["goal_error_start"]) for row in rows)
    steps = [int(row["agent_steps"]) for row in rows if row["success"] == "1"]
    ranked = [[float(row[name]) for row in rows if row[name]] for name in ("agreement_first", "agreement_last")]
    return [
        f"{solved} of {number}",
        f"{100 * low:.0f} to {100 * high:.0f}%".replace(" ", "\N{NO-BREAK SPACE}"),
        f"{left:.0%}",
        f"{statistics.median(steps):.0f}" if steps else "",
        ", ".join(f"{statistics.mean(each):.2f}" for each in ranked if each),
    ]


def imagination(rows: list[Row]) -> str:
    """A line for each task and what imagined for the agent there."""
    return _table(imagination_gain.HEAD, map(imagination_gain.cells, imagination_gain.find(rows)))


def before_acting(rows: list[Row]) -> str:
    """As `imagination`, of the policies before their first step alone."""
    first = min(int(row["agent_steps"]) for row in rows if int(row["env_steps"]) > 0)
    return imagination([row for row in rows if int(row["agent_steps"]) == first])


def ablated(rows: list[Row]) -> str:
    """A line for each setting beside the one that the table begins with."""
    return _table(ablation.HEAD, map(ablation.cells, ablation.find(rows)))


KINDS: dict[str, Callable[[list[Row]], str]] = {
    "first-and-last": first_and_last,
    "every-evaluation": every_evaluation,
    "margins": margins,
    "first-solved": first_solved,
    "solved-runs": solved_runs,
    "adaptation": adaptation,
    "last-errors": last_errors,
    "training-errors": training_errors,
    "horizons": horizons,
    "planning": planning,
    "imagination": imagination,
    "before-acting": before_acting,
    "ablation": ablated,
    "sources": sources,
}

MARK = re.compile(r"^<!-- generated: results (.*?) -->$", re.MULTILINE)

if __name__ == "__main__":
    page = FOLDER.parents[1] / "docs" / "results.md"
    print(MARK.sub(lambda mark: make(mark[1]), page.read_text(encoding="utf-8")))
