"""A place that cannot be written is found before the work, by every command that is told where to write."""

import pytest

from experiments.errors import UsageError
from experiments.runs.outputs import check_output


def test_a_place_that_can_be_written_stays_as_it_was(tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    for path, folder in [(tmp_path / "a" / "b.png", False), (tmp_path / "there.csv", False), (tmp_path / "new", True)]:
        check_output(path, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("place", "folder", "said"),
    [
        ("file/inside.csv", False, "Not a directory"),
        ("file", True, "Not a directory"),
        ("folder", False, "Is a directory"),
        ("x" * 300, False, "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, place, folder, said):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=rf"cannot be written \({said}\): choose another place$"):
        check_output(tmp_path / place, folder)


@pytest.mark.parametrize(
    "typed",
    [
        ["predict", "nowhere", "--out"],
        ["evaluate", "nowhere", "--out"],
        ["report", "nowhere", "--out"],
        ["report", "nowhere", "--csv"],
        ["curves", "nowhere.csv", "--out"],
        ["adaptation", "nowhere.csv", "--out"],
        ["convert-data", "npz", "nowhere"],
        ["collect-data", "--tasks", "reach"],
        ["collect-demos", "--task", "reach", "--out"],
    ],
    ids=" ".join,
)
def test_every_command_finds_it_before_it_begins(ivideogpt, tmp_path, typed):
    """Fault 14: predict found it after it had computed everything, report and curves in a traceback."""
    (tmp_path / "file").touch()
    done = ivideogpt(*typed, tmp_path / "file" / "inside.png")
    assert done.code == 2 and "inside.png cannot be written (Not a directory)" in done.sentence


def test_a_run_folder_that_cannot_be_made_is_one_sentence(ivideogpt, tmp_path):
    """Fault 14."""
    (tmp_path / "file").touch()
    done = ivideogpt("train", "--preset", "debug", "--task", "drawer-close", "--run-dir", tmp_path / "file" / "run")
    assert "file/run cannot be made (Not a directory); choose another --run-dir" in done.sentence
