"""`ivideogpt tasks`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from experiments.envs.registry import SUITES, get_suite


def tasks(arguments: Sequence[str], description: str) -> int:
    """Print the names of a suite's tasks."""
    names = ", ".join(suite.name for suite in SUITES)
    parser = argparse.ArgumentParser(prog="ivideogpt tasks", description=description)
    parser.add_argument("--suite", default=SUITES[0].name, help=f"{names}; default: {SUITES[0].name}")
    print("\n".join(get_suite(parser.parse_args(arguments).suite).task_names()))
    return 0
