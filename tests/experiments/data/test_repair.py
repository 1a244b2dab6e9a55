"""Damaged shards: the same conversion makes them again, byte for byte, and leaves the others as they are."""

import functools

import pytest

from agent.replay import save_episode
from experiments.data.convert import convert, verify
from experiments.data.converters.source import EpisodeRef, Source
from experiments.data.recording import DataError
from experiments.data.store import Store
from experiments.data.writer import StoreWriter

BROKEN = {2, 7}
HELD = [{0, 1}, {3, 4}, {5, 6}, {8, 9}]
"""Of each shard, what it takes to make it again."""


class Killed(BaseException):
    pass


@pytest.fixture
def converted(numbered):
    """Convert ten episodes into a folder; returns which of them were read."""

    def run(folder, broken=BROKEN, killed_at: int | None = None, check: bool = False, **options) -> list[int]:
        read = []

        def one(number: int):
            if number == killed_at:
                raise Killed
            read.append(number)
            if number in broken:
                raise OSError("bad sector")
            return numbered(number, 5)

        candidates = (EpisodeRef(str(i), functools.partial(one, i)) for i in range(10))
        with StoreWriter(folder, {}, 600) as writer:
            if check:
                list(verify(writer))
            list(convert(Source(10, candidates), writer, **options))
        return read

    return run


@pytest.fixture
def folder(converted, tmp_path):
    converted(tmp_path / "set")
    return tmp_path / "set"


def inodes(folder) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("0*")}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def remove(path):
    path.unlink()


def records(folder, number: int):
    return folder / f"{number:05d}.arrayrecord"


def index(folder, number: int):
    return folder / f"{number:05d}.json"


def both_removed(folder, number: int):
    remove(records(folder, number))
    remove(index(folder, number))


DAMAGE = {
    "records cut": lambda folder, number: cut(records(folder, number)),
    "records removed": lambda folder, number: remove(records(folder, number)),
    "index flipped": lambda folder, number: flip(index(folder, number)),
    "index cut": lambda folder, number: index(folder, number).write_bytes(b""),
    "index removed": lambda folder, number: remove(index(folder, number)),
    "both removed": both_removed,
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("number", range(4))
def test_a_damaged_shard_is_made_again_and_no_other(converted, folder, contents, kind, number):
    before, files = contents(folder), inodes(folder)
    DAMAGE[kind](folder, number)
    with pytest.raises(DataError, match="the same ivideogpt convert-data command makes it again"):
        Store(folder)
    assert set(converted(folder)) - BROKEN == HELD[number]
    assert contents(folder) == before
    assert {name for name, inode in inodes(folder).items() if inode != files[name]} <= {
        records(folder, number).name,
        index(folder, number).name,
    }


def test_several_damaged_shards_are_made_again_whatever_is_left_of_each(converted, folder, contents):
    before = contents(folder)
    for number, kind in enumerate(("index cut", "records removed", "both removed", "index flipped")):
        DAMAGE[kind](folder, number)
    converted(folder, workers=3)
    assert contents(folder) == before


@pytest.mark.parametrize("kind", ["records cut", "index cut"])
@pytest.mark.parametrize("killed_at", [3, 4, 9])
def test_a_repair_that_is_killed_goes_on(converted, folder, contents, kind, killed_at):
    before = contents(folder)
    for number in (1, 3):
        DAMAGE[kind](folder, number)
    with pytest.raises(Killed):
        converted(folder, killed_at=killed_at)
    converted(folder)
    assert contents(folder) == before


def test_damage_within_records_is_found_where_that_is_asked_for(converted, folder, contents):
    before, files = contents(folder), inodes(folder)
    content = bytearray(before["00001.arrayrecord"])
    content[300:304] = b"\xff\x00\xff\x00"
    records(folder, 1).write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged .* makes it again with --verify"):
        list(map(Store(folder).read, range(8)))
    assert not set(converted(folder)) - BROKEN
    assert set(converted(folder, check=True)) - BROKEN == HELD[1]
    assert contents(folder) == before
    assert {name for name, inode in inodes(folder).items() if inode != files[name]} <= {
        "00001.arrayrecord",
        "00001.json",
    }


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_shard_of_episodes_that_were_skipped_first_is_made_again_too(converted, folder, contents, kind, number):
    converted(folder, broken=(), retry=True)
    before = contents(folder)
    assert Store(folder).names[-2:] == ["2", "7"]
    DAMAGE[kind](folder, number)
    converted(folder, broken=() if number == 4 else BROKEN)
    if number == 1 and "records" not in kind:  # that 2 had been skipped was in the lost index alone
        del before["00001.json"]
    assert before.items() <= contents(folder).items()
    assert sorted(Store(folder).names) == [str(i) for i in range(10)]


def test_a_shard_of_which_nothing_can_be_read_any_more_stays_as_it_is(converted, folder):
    DAMAGE["records cut"](folder, 1)
    left = records(folder, 1).read_bytes()
    with pytest.raises(
        DataError, match=r"00001.arrayrecord is damaged and none of its episodes .*'3' because: OSError"
    ):
        converted(folder, broken={3, 4})
    assert records(folder, 1).read_bytes() == left
    assert set(converted(folder, broken={4})) == {3, 4}  # one of two is a broken episode like any other
    assert dict(Store(folder).skipped)["4"] == "OSError: bad sector"


def test_the_command_says_which_shard_it_makes_again(ivideogpt, make_episode, tmp_path, contents, monkeypatch):
    monkeypatch.setattr("experiments.data.convert_command.StoreWriter", functools.partial(StoreWriter, shard_bytes=1))
    for number in range(3):
        save_episode(tmp_path / "in" / f"{number:03d}.npz", make_episode(10 + number))
    typed = ("convert-data", "npz", tmp_path / "in", tmp_path / "out")
    assert ivideogpt(*typed).code == 0
    before = contents(tmp_path / "out")
    DAMAGE["records cut"](tmp_path / "out", 1)
    records(tmp_path / "out", 2).write_bytes(before["00000.arrayrecord"])  # whole in itself, but for another index
    done = ivideogpt(*typed, "--verify")
    assert done.code == 0
    again = [line for line in done.err.splitlines() if "made again" in line]
    assert len(again) == 2
    assert again[0].startswith("shard 1 is made again: ") and "00001.arrayrecord has" in again[0]
    assert "shards verified 1/2" in done.err
    assert contents(tmp_path / "out") == before
