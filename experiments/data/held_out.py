"""Lists of recordings that nobody learns from: a benchmark's own test recordings, by name."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Collection, Iterable

from experiments.data.recording import DataError
from experiments.data.shards import HELD_OUT
from experiments.data.store import Store
from experiments.errors import UsageError

ROBONET_COPIES = "robo_net"
"""The set of Open X-Embodiment that holds 126 of RoboNet's test recordings, too."""


def read_names(path: pathlib.Path) -> frozenset[str]:
    """The lines of a file, without empty ones. Raises UsageError."""
    try:
        return frozenset(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no list of names ({error})") from None


def find(names: Iterable[str], held_out: Collection[str]) -> frozenset[str]:
    """Those names that are on a list, whole or by their last part: the name of the file that a recording comes from."""
    return frozenset(name for name in names if name in held_out or name.rpartition("/")[2] in held_out)


def read_names_of(path: pathlib.Path, stores: Iterable[Store]) -> tuple[str, ...]:
    """The names of a file, in order. Raises UsageError where no recording of these data sets has one of them."""
    names, example = read_names(path), None
    for store in stores:
        if find(store.names, names):
            return tuple(sorted(names))
        example = example or store.names[0]
    like = f", which are named like '{example}'" if example else ""
    raise UsageError(f"{path} names no recording of the data{like}")


@functools.cache
def robonet_test() -> frozenset[str]:
    """The files of RoboNet's 256 test recordings that its published results are on (beside this file)."""
    return read_names(pathlib.Path(__file__).with_name("robonet_test.txt"))


def refuse_copies(store: Store) -> None:
    """Raise DataError for a robo_net that was converted before its copies of test recordings were left out."""
    settings = store.settings
    origin = str(settings.get("source", "")).split("/")
    if settings.get("format") == "rlds" and ROBONET_COPIES in origin and HELD_OUT not in settings:
        raise DataError(
            f"{store.folder} was converted by an earlier version and still holds copies of RoboNet's test recordings: "
            f"convert it again, into another folder"
        )
