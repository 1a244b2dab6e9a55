"""Where a command writes what it was asked for: whether it can is known before the work, not after it."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import tempfile
from collections.abc import Iterator

from experiments.errors import UsageError


def check_output(path: pathlib.Path, folder: bool = False) -> None:
    """Raise UsageError where this file, or this folder with files in it, could not be written; leaves nothing there."""
    with writing(path):
        place = path if folder else path.parent
        if not folder and path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        there = next(each for each in (place, *place.absolute().parents) if each.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Raises UsageError where what the block writes there cannot be written."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error}): choose another place") from error
