"""`--data` and `--mixture`: which data sets a command reads, at which weights and step sizes."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from experiments.data import held_out, mixture
from experiments.data.loader import DatasetSpec
from experiments.data.store import Store
from experiments.errors import UsageError

SETTINGS = {"weight": float, "step": int}
"""What may stand behind a folder, as in data/bridge@step=2,weight=12.75."""
_BEHIND = re.compile(rf"^(.+)@((?:{'|'.join(SETTINGS)})=.*)$")


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Which data sets a command reads: either `data` or `mixture`."""

    data: tuple[str, ...] = ()
    """Each data set as FOLDER[@step=N,weight=W]: every N-th frame, and its weight beside the others (both 1)."""
    mixture: pathlib.Path | None = None
    """A folder with the data sets of the paper's mixture, read at the published weights and step sizes. A transformer
    goes without something_something_v2."""
    sets: tuple[str, ...] = ()
    """Of --mixture: these sets alone."""
    held_out: pathlib.Path | None = None
    """A file of names, one per line, of recordings that nobody learns from, in whichever data set they are; what a set
    holds out itself is held out anyway. Where a set has some, they are its validation split; other sets hold out their
    share."""

    def names_held_out(self, parts: Sequence[DatasetSpec]) -> tuple[str, ...]:
        """The names of the file, in order. Raises UsageError where no recording of these data sets has one of them."""
        if self.held_out is None:
            return ()
        return held_out.read_names_of(self.held_out, (Store(part.folder) for part in parts))

    def specs(self, videos: bool) -> tuple[DatasetSpec, ...]:
        """The data sets that were typed. videos: whether the mixture brings those without actions.

        Raises UsageError where none or both kinds were typed, or what stands behind a folder cannot be read; DataError
        for sets that are not in the mixture or not in its folder.
        """
        if bool(self.data) == (self.mixture is not None):
            raise UsageError("say what to read: either --data FOLDER... or --mixture ROOT, and not both")
        if self.sets and self.mixture is None:
            raise UsageError("--sets names sets of --mixture ROOT")
        if self.mixture is None:
            return tuple(map(parse_spec, self.data))
        found = tuple(mixture.specs(self.mixture, self.sets or None, videos))
        if not found:
            raise UsageError(f"{mixture.SOMETHING} has no actions: a transformer learns from other sets")
        return found


def parse_spec(typed: str) -> DatasetSpec:
    """What one word behind --data stands for. Raises UsageError where what stands behind the folder cannot be read."""
    found = _BEHIND.match(typed)
    if not found:
        return DatasetSpec(pathlib.Path(typed))
    folder, settings = found[1], dict[str, Any]()
    for setting in found[2].split(","):
        name, _, value = setting.partition("=")
        try:
            settings[name] = SETTINGS[name](value)
        except (KeyError, ValueError):
            raise UsageError(
                f"--data {typed}: '{setting}' is neither step=N nor weight=W, as in {folder}@step=2,weight=0.5"
            ) from None
    spec = DatasetSpec(pathlib.Path(folder), **settings)
    if not 0 < spec.weight < math.inf or spec.step < 1:
        raise UsageError(f"--data {typed}: a weight is positive and a step at least 1")
    return spec
