"""A function in another process is called there, and fails here."""

import os
import pathlib

import pytest

from experiments.other_process import OtherProcess


def writer(path: pathlib.Path):
    """Of this module, since the other process has to find it; fails where the file exists when it is made or called thrice."""
    if path.exists():
        raise ValueError("there already")

    def run():
        written = path.read_text() if path.exists() else ""
        if written.count("\n") == 2:
            raise ArithmeticError("a third time")
        path.write_text(f"{written}{os.getpid()}\n")

    return run


def test_it_is_made_once_and_called_there(tmp_path):
    path = tmp_path / "calls"
    run = OtherProcess(writer, path)
    assert not path.exists()
    run()
    run()
    pids = path.read_text().split()
    assert len(set(pids)) == 1
    assert str(os.getpid()) not in pids
    with pytest.raises(ArithmeticError, match="a third time"):
        run()


def test_what_making_it_raises_is_raised_here(tmp_path):
    with pytest.raises(ValueError, match="there already"):
        OtherProcess(writer, tmp_path)
