"""The command line, `ivideogpt`: a table of commands, and what becomes of their errors.

What a command does is in its room: `ivideogpt train` in experiments/training/command.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import errno
import importlib
import os
import pathlib
import sys

from experiments.runs.huge_pages import restart_with_them
from experiments.runs.preemption import Preempted, stop_request


@dataclasses.dataclass(frozen=True)
class Command:
    """Where a command is: `room:function`, a function of the words behind its name and of this description."""

    where: str
    description: str
    saves: bool = False
    """Whether a request to end is noticed from the first moment on, while its programs are imported, too."""

    def run(self, arguments: list[str]) -> int:
        room, _, function = self.where.partition(":")
        with stop_request() if self.saves else contextlib.nullcontext():
            program = getattr(importlib.import_module(f"experiments.{room}.command"), function)
            return program(arguments, self.description)


COMMANDS = {
    "train": Command(
        "training:train", "Train an agent, and the world model it has, on a task of a simulator.", saves=True
    ),
    "pretrain": Command("pretraining:pretrain", "Train a tokenizer, or a transformer on its tokens, on data sets."),
    "finetune": Command("pretraining:finetune", "Train a model that is there, or one part of it, on other data."),
    "sweep": Command(
        "sweeps:sweep", "Run a command many times over a space of settings and over seeds, and say which were best."
    ),
    "evaluate": Command(
        "evaluation:evaluate",
        "Measure how well a world model predicts video it has not learned from; writes JSON, CSV, videos and a page.",
    ),
    "predict": Command(
        "evaluation:predict", "Predict futures of recordings and write them as videos beside what happened."
    ),
    "plan": Command(
        "planning:plan",
        "Act without a policy: search in a world model, or in what bounds it, for actions that lead to a picture.",
    ),
    "report": Command(
        "reports:report",
        "Write a page about a run, or one that compares several; --csv makes a table of their evaluations.",
    ),
    "curves": Command(
        "reports:curves",
        "Draw learning curves from tables of evaluations (report --csv), and say when each run first solved its task.",
    ),
    "adaptation": Command(
        "reports:adaptation",
        "Compare fine-tuned models and new ones by how much they saw, from a table of such runs (report --csv).",
    ),
    "collect-demos": Command(
        "data:collect_demos", "Collect successful episodes of a task's scripted policy.", saves=True
    ),
    "collect-data": Command(
        "data:collect_data",
        "Play tasks into data sets, one folder per task, that pretrain and finetune read.",
        saves=True,
    ),
    "convert-data": Command(
        "data:convert_data",
        "Convert robot data sets, videos or episodes of your own into a data set folder.",
        saves=True,
    ),
    "import-weights": Command(
        "weights:import_weights",
        "Read a folder of published weights, check every tensor, and write a folder of our own.",
    ),
    "estimate": Command(
        "benchmarks:estimate",
        "Say what an update of a pre-training preset would need on devices that are not here: memory, arithmetic, "
        "collectives, time.",
    ),
    "bench": Command("benchmarks:bench", "Time a hot path on this machine, beside the machine's own matmul peak."),
    "tasks": Command("envs:tasks", "List the tasks of a simulator."),
    "doctor": Command("benchmarks:doctor", "Say what this machine has, what is missing, and what to do about it."),
}


def _usage() -> str:
    lines = "\n".join(f"  {name:14} {command.description}" for name, command in COMMANDS.items())
    return f"usage: ivideogpt COMMAND ...\n\n{lines}\n\nivideogpt COMMAND --help says more."


def run(arguments: list[str]) -> int:
    """Do what these words say; returns the exit code. Errors that a user can mend become one sentence on stderr."""
    command, *rest = arguments or ["--help"]
    try:
        if command in ("-h", "--help"):
            print(_usage(), flush=True)
            return 0
        if command not in COMMANDS:
            close = difflib.get_close_matches(command, COMMANDS)
            hint = f": did you mean {', '.join(close)}?" if close else "; see ivideogpt --help"
            return _say(f"unknown command '{command}'{hint}", 2)
        code = COMMANDS[command].run(rest)
        sys.stdout.flush()
        return code
    except Preempted as stopped:
        return _say(stopped, stopped.exit_code)
    except KeyboardInterrupt:
        return _say("stopped; what was saved stays, and the same command goes on from there", 130)
    except Exception as error:
        from experiments.errors import UserError  # late: help needs none of the floors below

        if isinstance(error, UserError):
            return _say(error, 2)
        if not _disk_is_full(error):
            raise
        return _say(
            f"no space left on the disk ({str(error)[:160]}): make room, and the same command goes on; what was saved "
            "stays",
            2,
        )


def _say(what: object, code: int) -> int:
    print(f"ivideogpt: {what}", file=sys.stderr)
    return code


def main() -> None:
    """Do what was typed."""
    # XLA's own warnings about the machine's features are noise to everyone who has not compiled it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Compiled programs are kept between runs; a user's own choice of folder stands.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "ivideogpt" / "jax"))
    try:
        sys.exit(run(sys.argv[1:]))
    except BrokenPipeError:  # as in `ivideogpt tasks | head`; Python would complain once more while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def begin() -> None:
    """Entry point of the console script."""
    restart_with_them()
    main()


def _disk_is_full(error: BaseException) -> bool:
    """Whether this is why a file could not be written, by Python's own error or by the text of a library's."""
    return getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)


if __name__ == "__main__":
    begin()
