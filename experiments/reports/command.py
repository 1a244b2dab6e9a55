"""`ivideogpt report`, `curves` and `adaptation`: runs as pages, tables and pictures."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError
from experiments.runs.outputs import check_output, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def report(arguments: Sequence[str], description: str) -> int:
    """A page about a run or several, and their tables."""
    parser = argparse.ArgumentParser(prog="ivideogpt report", description=description)
    parser.add_argument(
        "run", nargs="+", type=pathlib.Path, help="a run folder, or a table of evaluations that --csv once wrote"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="default: report.html in the run, comparison.html in the first of several run folders, or here",
    )
    parser.add_argument(
        "--csv", type=pathlib.Path, help="write the evaluations of all run folders to this file as well"
    )
    parser.add_argument(
        "--findings", type=pathlib.Path, help="write all numbers of a comparison to this CSV file as well"
    )
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        type=pathlib.Path,
        metavar="FILE.csv",
        help="published series to stand beside the runs; FILE.yaml beside it has their source and protocol",
    )
    options = parser.parse_args(arguments)
    from experiments.reports.curves import read_table
    from experiments.reports.page import write_report
    from experiments.reports.tables import as_csv, rows
    from experiments.runs.run_folder import RunFolder, write_atomically

    for path in (options.csv, options.out, options.findings):
        if path is not None:
            check_output(path)
    kept = [row for path in options.run if path.is_file() for row in read_table(path)]
    folders = [RunFolder(path) for path in options.run if not path.is_file()]
    if options.csv:
        table = as_csv(folders)
        for folder in folders:
            if not rows(folder):
                print(f"{folder.path} was never evaluated: it has no row in {options.csv}", file=sys.stderr)
        with writing(options.csv):
            options.csv.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(options.csv, table)
    if options.findings:
        _write_findings([*(row for folder in folders for row in rows(folder)), *kept], options.findings)
    with writing(options.out or options.run[0]):
        written = write_report(folders, options.out, kept, options.reference)
    print(written)
    return 0


def _write_findings(table: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Raises UsageError where no agent was evaluated."""
    from experiments.reports import findings
    from experiments.runs.run_folder import write_atomically

    agents = [row for row in table if row["kind"] == "agent"]
    if not agents:
        raise UsageError("--findings compares agents, and none of these runs is an evaluated one: leave it out")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, findings.as_csv(findings.find(agents)))


def curves(arguments: Sequence[str], description: str) -> int:
    """A picture of learning curves, and a list of when each run first solved its task."""
    parser = argparse.ArgumentParser(prog="ivideogpt curves", description=description)
    parser.add_argument("table", nargs="+", type=pathlib.Path, metavar="TABLE.csv")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("curves.png"), help="default: curves.png")
    parser.add_argument("--over", choices=("env_steps", "agent_steps", "wall_seconds"), default="env_steps")
    parser.add_argument("--of", choices=("success", "return"), default="success")
    options = parser.parse_args(arguments)
    from experiments.reports import curves

    check_output(options.out)
    rows = [row for path in options.table for row in curves.read_table(path)]
    _save(curves.draw(rows, options.over, options.of), options.out)
    print(curves.as_text(curves.summarize(rows)))
    print(f"written to {options.out}")
    return 0


def adaptation(arguments: Sequence[str], description: str) -> int:
    """A picture of errors by how much was seen, and a list of them."""
    parser = argparse.ArgumentParser(prog="ivideogpt adaptation", description=description)
    parser.add_argument("table", nargs="+", type=pathlib.Path, metavar="TABLE.csv")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("adaptation.png"), help="default: adaptation.png"
    )
    from experiments.reports import adaptation

    what = (
        "mse: what a run evaluated its model by (default); best-...: what evaluate found for runs that were evaluated"
    )
    parser.add_argument("--of", choices=adaptation.MEASURES, default="mse", help=what)
    options = parser.parse_args(arguments)
    check_output(options.out)
    rows = [row for path in options.table for row in adaptation.read_table(path, options.of)]
    text, figure = adaptation.as_text(rows, options.of), adaptation.draw(rows, options.of)
    _save(figure, options.out)
    print(text)
    for path in options.table:
        for name in adaptation.name_unevaluated(path, options.of):
            print(f"not evaluated, and left out: {name}")
    print(f"written to {options.out}")
    return 0


def _save(figure: Figure, path: pathlib.Path) -> None:
    """Write a picture in the format that its name ends in. Raises UsageError."""
    kinds = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix[1:].lower() not in kinds:
        raise UsageError(f"{path} is no name for a picture: it ends in one of {', '.join(kinds)}, as in curves.png")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, bbox_inches="tight")
