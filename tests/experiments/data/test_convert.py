"""Conversions: what was broken is counted and named, what was stopped goes on, and the command says what it made."""

import contextlib
import functools
import threading

import numpy as np
import pytest

from agent.replay import save_episode
from experiments.data.convert import HOPELESS, convert
from experiments.data.converters.source import EpisodeRef, Source
from experiments.data.recording import DataError
from experiments.data.store import Store
from experiments.data.writer import StoreWriter
from experiments.errors import UsageError


class Killed(BaseException):
    pass


def source(numbered, count: int, broken=(), killed_at: int | None = None, read: list | None = None) -> Source:
    def one(number: int):
        if number == killed_at:
            raise Killed
        if number in broken:
            raise OSError("bad sector\nand more")
        if read is not None:
            read.append(number)
        return numbered(number, 5)

    return Source(count, (EpisodeRef(str(i), lambda i=i: one(i)) for i in range(count)))


def test_a_broken_episode_is_skipped_counted_and_named(numbered, tmp_path):
    with StoreWriter(tmp_path / "set", {}) as writer:
        *_, last = convert(source(numbered, 6, broken=(0, 3)), writer)
    assert (last.done, last.total, last.metrics["skipped"]) == (6, 6, 2)
    store = Store(tmp_path / "set")
    assert store.names == ["1", "2", "4", "5"]
    assert store.skipped == [("0", "OSError: bad sector"), ("3", "OSError: bad sector")]


def test_an_episode_with_other_actions_is_skipped(numbered, tmp_path):
    kinds = [EpisodeRef(str(i), lambda i=i: numbered(i, 3, action_size=2 + (i == 1))) for i in range(3)]
    with StoreWriter(tmp_path / "set", {}) as writer:
        list(convert(Source(3, kinds), writer))
    assert [name for name, _ in Store(tmp_path / "set").skipped] == ["1"]


@pytest.mark.parametrize("killed_at", [1, 4, 9])
def test_a_killed_conversion_goes_on_and_ends_like_one_that_was_never_stopped(numbered, tmp_path, killed_at, contents):
    with StoreWriter(tmp_path / "whole", {}, 600) as writer:
        list(convert(source(numbered, 10, broken=(2, 7)), writer))
    with pytest.raises(Killed), StoreWriter(tmp_path / "killed", {}, 600) as writer:
        list(convert(source(numbered, 10, (2, 7), killed_at), writer))
    read = []
    with StoreWriter(tmp_path / "killed", {}, 600) as writer:
        list(convert(source(numbered, 10, (2, 7), read=read), writer))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert (len(read) < 8) == (killed_at > 1)  # what whole shards hold is not read again


@pytest.mark.parametrize("killed_at", [None, 5])
def test_several_workers_write_what_one_writes(numbered, tmp_path, contents, killed_at):
    for workers in (1, 3):
        with contextlib.suppress(Killed), StoreWriter(tmp_path / str(workers), {}, 600) as writer:
            list(convert(source(numbered, 20, (2, 7), killed_at), writer, workers=workers))
    assert contents(tmp_path / "3") == contents(tmp_path / "1")
    assert len(contents(tmp_path / "1")) > 4


def test_workers_read_at_the_same_time_and_only_so_far_ahead(numbered, tmp_path):
    together, started = threading.Barrier(2, timeout=10), []

    def meets(number: int):
        started.append(number)
        together.wait()
        return numbered(number, 5)

    candidates = (EpisodeRef(str(i), functools.partial(meets, i)) for i in range(8))
    with StoreWriter(tmp_path / "set", {}) as writer:
        for progress in convert(Source(8, candidates), writer, workers=2):
            assert len(started) <= progress.done + 2
    assert Store(tmp_path / "set").names == [str(i) for i in range(8)]


def test_what_was_skipped_before_is_read_again_where_that_is_asked_for(numbered, tmp_path, contents):
    folder = tmp_path / "set"
    with StoreWriter(folder, {}, 600) as writer:
        list(convert(source(numbered, 10, broken=(0, 3, 4)), writer, limit=8))
    before, read = contents(folder), []
    for _ in range(2):  # the second time finds nothing to do
        with StoreWriter(folder, {}, 600) as writer:
            *_, last = convert(source(numbered, 10, broken=(3,), read=read), writer, retry=True)
    assert (last.phase, last.done, last.total, last.metrics["skipped"]) == ("episodes skipped before", 1, 1, 1)
    assert sorted(read) == [0, 4, 8, 9]
    after = contents(folder)
    assert all(after[name] == before[name] for name in before if name != "dataset.json")
    store = Store(folder)
    assert store.names == ["1", "2", "5", "6", "7", "8", "9", "0", "4"]
    assert store.skipped == [("3", "OSError: bad sector")]
    np.testing.assert_array_equal(store.read(8).frames, numbered(4, 5).frames)


def test_a_source_in_which_everything_is_broken_ends_early_and_leaves_nothing(numbered, tmp_path):
    everything = range(1000)
    with StoreWriter(tmp_path / "set", {}) as writer:
        with pytest.raises(DataError, match=f"none of the first {HOPELESS} episodes could be read, '0' because"):
            list(convert(source(numbered, 1000, everything), writer))
    with pytest.raises(DataError, match="not whole"):
        Store(tmp_path / "set")


def test_a_missing_package_is_not_a_broken_episode(tmp_path):
    def missing():
        raise UsageError("pip install")

    with StoreWriter(tmp_path / "set", {}) as writer, pytest.raises(UsageError):
        list(convert(Source(1, [EpisodeRef("a", missing)]), writer))


def test_the_command_converts_says_what_it_made_and_may_be_typed_again(ivideogpt, make_episode, tmp_path):
    for number in range(3):
        save_episode(tmp_path / "in" / f"{number:03d}.npz", make_episode(offset=number))
    (tmp_path / "in" / "003.npz").write_bytes(b"broken")
    for _ in range(2):
        done = ivideogpt("convert-data", "npz", tmp_path / "in", tmp_path / "out")
        assert done.code == 0
        assert "3 episodes with 4 numbers an action and rewards, 1 skipped" in done.out
        assert "skipped 003.npz" in done.out
    store = Store(tmp_path / "out")
    np.testing.assert_array_equal(store.read(2).frames, make_episode(offset=2).frames)
    refused = ivideogpt("convert-data", "npz", tmp_path / "in", tmp_path / "out", "--resolution", 4)
    assert refused.code == 2 and "choose another folder" in refused.sentence


@pytest.mark.parametrize(("good", "code"), [(5, 1), (2, 1), (1, 0)])
def test_a_conversion_that_skips_most_of_a_source_is_no_success(ivideogpt, make_episode, tmp_path, good, code):
    """Fault 11: an odd first file decides what all must hold; five good ones were skipped with exit code 0."""
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "000.npz", image=np.zeros((5, 8, 8, 3), np.uint8))
    for number in range(good):
        save_episode(tmp_path / "in" / f"{number + 1:03d}.npz", make_episode(offset=number))
    for _ in range(2):  # the second time, it finds nothing to do
        done = ivideogpt("convert-data", "npz", tmp_path / "in", tmp_path / "out")
        assert done.code == code
        assert done.out.startswith(f"{tmp_path / 'out'}: 1 episode with 0 numbers an action")
        assert (f"ivideogpt: {good} of {good + 1} episodes were skipped" in done.err) == bool(code)
    assert Store(tmp_path / "out").names == ["000.npz"]


def test_a_full_disk_is_one_sentence_and_what_whole_shards_hold_stays(
    ivideogpt, make_episode, tmp_path, monkeypatch, contents
):
    for number in range(4):
        save_episode(tmp_path / "in" / f"{number:03d}.npz", make_episode(offset=number))
    monkeypatch.setattr("experiments.data.convert_command.StoreWriter", functools.partial(StoreWriter, shard_bytes=1))
    typed = ("convert-data", "npz", tmp_path / "in", tmp_path / "out")
    add, added = StoreWriter.add, []

    def fills(writer, name, recording):
        if len(added) == 2:  # in the words of ArrayRecord
            raise RuntimeError("write() failed: No space left on device; writing out/.tmp/00002.arrayrecord")
        added.append(name)
        add(writer, name, recording)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "add", fills)
        refused = ivideogpt(*typed)
    assert (refused.code, "no space left on the disk" in refused.err) == (2, True)
    before = contents(tmp_path / "out")
    assert {"00000.arrayrecord", "00001.arrayrecord"} <= set(before)
    assert ivideogpt(*typed).code == 0
    after = contents(tmp_path / "out")
    assert all(after[name] == before[name] for name in before if name != "dataset.json")
    assert Store(tmp_path / "out").names == ["000.npz", "001.npz", "002.npz", "003.npz"]


def test_a_limit_takes_the_first_and_more_can_be_added_later(ivideogpt, make_episode, tmp_path):
    for number in range(3):
        save_episode(tmp_path / "in" / f"{number:03d}.npz", make_episode(offset=number))
    command = ("convert-data", "npz", tmp_path / "in", tmp_path / "out")
    assert ivideogpt(*command, "--limit", 1).code == 0
    assert Store(tmp_path / "out").names == ["000.npz"]
    assert ivideogpt(*command).code == 0
    assert Store(tmp_path / "out").names == ["000.npz", "001.npz", "002.npz"]


def test_lists_of_names_part_a_source_into_training_and_test(ivideogpt, make_episode, tmp_path):
    for number in range(4):
        save_episode(tmp_path / "in" / f"{number:03d}.npz", make_episode(offset=number))
    (tmp_path / "test.txt").write_text("001.npz\n003.npz\n")
    command = ("convert-data", "npz", tmp_path / "in")
    assert ivideogpt(*command, tmp_path / "test", "--only", tmp_path / "test.txt").code == 0
    assert ivideogpt(*command, tmp_path / "train", "--without", tmp_path / "test.txt").code == 0
    assert Store(tmp_path / "test").names == ["001.npz", "003.npz"]
    assert Store(tmp_path / "train").names == ["000.npz", "002.npz"]
    (tmp_path / "test.txt").write_text("1.npz")
    refused = ivideogpt(*command, tmp_path / "other", "--only", tmp_path / "test.txt")
    assert refused.code == 2 and "holds no episode '1.npz', but for example '000.npz'" in refused.sentence


def test_two_sources_do_not_become_one_data_set(ivideogpt, make_episode, tmp_path):
    for name in ("one", "other"):
        save_episode(tmp_path / name / "1.0.0" / f"{name}.npz", make_episode())
    assert ivideogpt("convert-data", "npz", tmp_path / "one" / "1.0.0", tmp_path / "out").code == 0
    refused = ivideogpt("convert-data", "npz", tmp_path / "other" / "1.0.0", tmp_path / "out")
    assert refused.code == 2
    assert "'source': 'one/1.0.0'" in refused.sentence and "'source': 'other/1.0.0'" in refused.sentence
    assert Store(tmp_path / "out").names == ["one.npz"]


@pytest.mark.parametrize("option", ["--only", "--without"])
def test_a_list_of_names_is_known_by_what_it_holds(ivideogpt, make_episode, tmp_path, option):
    for number in range(3):
        save_episode(tmp_path / "in" / f"{number:03d}.npz", make_episode(offset=number))
    command = ("convert-data", "npz", tmp_path / "in", tmp_path / "out", option)
    for file, names, code in (
        ("a.txt", "000.npz\n001.npz", 0),
        ("b.txt", "001.npz\n\n000.npz\n", 0),
        ("a.txt", "000.npz\n002.npz", 2),
    ):
        (tmp_path / file).write_text(names)
        assert ivideogpt(*command, tmp_path / file).code == code


def test_what_is_not_there_is_said_in_one_line(ivideogpt, tmp_path):
    refused = ivideogpt("convert-data", "videos", tmp_path / "nowhere", tmp_path / "out")
    assert refused.code == 2 and "no such file or folder" in refused.sentence
    assert not (tmp_path / "out").exists()
