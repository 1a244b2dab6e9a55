"""Files that a library does not come back from."""

import copy
import functools
import os
import pathlib

import pytest

from experiments.data.converters.isolation import IsolatedReader, Patience
from experiments.data.recording import DataError


def _loop_for_ever():
    while True:
        pass


def _fail(path):
    raise DataError(f"{path} has no frames")


def _process():
    return os.getpid()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "one.hdf5"
    path.write_bytes(b"x")
    return path


def test_what_never_ends_or_crashes_is_an_error_and_the_next_file_is_read(file):
    reader = IsolatedReader(Patience(seconds=1))
    for broken in (_loop_for_ever, os.abort):
        with pytest.raises(DataError, match="crashed, or did not end within 1 s"):
            reader.read(file, broken)
        assert reader.read(file, functools.partial(len, "four")) == 4


def test_a_process_reads_on_after_an_error_of_the_file(file):
    reader = IsolatedReader()
    first = reader.read(file, _process)
    with pytest.raises(DataError, match="no frames"):
        reader.read(file, functools.partial(_fail, pathlib.Path("two.hdf5")))
    assert reader.read(file, _process) == first != os.getpid()


def test_a_reader_can_be_sent_to_another_process(file):
    reader = IsolatedReader(Patience(seconds=1))
    first = reader.read(file, _process)
    copied = copy.copy(reader)
    assert first != copied.read(file, _process) != os.getpid()


def test_a_large_file_may_take_longer(tmp_path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(10**9)
    assert Patience().of(tmp_path / "large") == 103
