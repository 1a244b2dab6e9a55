"""The comparison with PyTorch: its process is made once and called, and what cannot be compared is one sentence."""

import importlib.util
import os
import pathlib

import pytest

from tests.parity import bench_against_torch


def writer(path: pathlib.Path):
    """Of this module, since the other process has to find it. Fails when it is called for the third time."""
    made = [os.getpid()]

    def run():
        if len(made) == 3:
            raise ArithmeticError("a third time")
        made.append(os.getpid())
        path.write_text(" ".join(map(str, made)))

    return run


def test_a_function_is_made_once_in_a_process_of_its_own_and_called_there(tmp_path):
    with bench_against_torch.in_other_process(writer, tmp_path / "calls") as run:
        run()
        run()
        pids = (tmp_path / "calls").read_text().split()
        assert len(pids) == 3 and len(set(pids)) == 1 and str(os.getpid()) not in pids
        with pytest.raises(ArithmeticError, match="a third time"):
            run()


@pytest.mark.parametrize(
    ("arguments", "torch", "sentence"),
    [
        ((), None, "PyTorch is not installed here: pip install"),
        (("--repeats", "0"), "somewhere", "--repeats 0: expected at least 1"),
        (("--preset", "laptop"), "somewhere", "take --preset paper-64"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(monkeypatch, capsys, arguments, torch, sentence):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: torch if name == "torch" else find_spec(name, *rest)
    )
    assert bench_against_torch.main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
