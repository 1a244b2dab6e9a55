"""`--data` and `--mixture`: which data sets a command reads, at which weights and step sizes."""

from __future__ import annotations

import argparse
import math
import pathlib
import re

from experiments.data import mixture
from experiments.data.loader import Part
from experiments.errors import UsageError

SETTINGS = {"weight": float, "step": int}
"""What may stand behind a folder, as in data/bridge@step=2,weight=12.75."""
_BEHIND = re.compile(rf"^(.+)@((?:{'|'.join(SETTINGS)})=.*)$")


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """The options that `parts` reads."""
    parser.add_argument(
        "--data", nargs="+", metavar="FOLDER[@step=N,weight=W]",
        help="data set folders; every N-th frame of one (default 1), at a weight relative to the others' (default 1)",
    )  # fmt: skip
    parser.add_argument(
        "--mixture", type=pathlib.Path, metavar="ROOT",
        help="the paper's mixture, from folders of its names in ROOT, at the published weights and step sizes; a "
        "transformer goes without something_something_v2",
    )  # fmt: skip
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="of --mixture: these sets alone")


def parts(options: argparse.Namespace, videos: bool) -> tuple[Part, ...]:
    """The data sets that were typed. videos: whether the mixture brings those without actions.

    Raises UsageError where none or both kinds were typed, or what stands behind a folder cannot be read; DataError for sets
    that are not in the mixture or not in its folder.
    """
    if bool(options.data) == bool(options.mixture):
        raise UsageError("say what to read: either --data FOLDER... or --mixture ROOT, and not both")
    if options.sets and not options.mixture:
        raise UsageError("--sets names sets of --mixture ROOT")
    if options.mixture:
        found = tuple(mixture.parts(options.mixture, options.sets, videos))
        if not found:
            raise UsageError(f"{mixture.SOMETHING} has no actions: a transformer learns from other sets")
        return found
    return tuple(map(part_of, options.data))


def part_of(typed: str) -> Part:
    """What one word behind --data stands for. Raises UsageError where what stands behind the folder cannot be read."""
    found = _BEHIND.match(typed)
    if not found:
        return Part(pathlib.Path(typed))
    folder, settings = found[1], {}
    for setting in found[2].split(","):
        name, _, value = setting.partition("=")
        try:
            settings[name] = SETTINGS[name](value)
        except (KeyError, ValueError):
            raise UsageError(f"--data {typed}: '{setting}' is neither step=N nor weight=W, as in {folder}@step=2,weight=0.5") from None
    part = Part(pathlib.Path(folder), **settings)
    if not 0 < part.weight < math.inf or part.step < 1:
        raise UsageError(f"--data {typed}: a weight is positive and a step at least 1")
    return part
