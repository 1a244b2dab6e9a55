"""Recordings on disk: read back as written, whole or not at all, damage found and named."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from in_process_ray import travelled

from experiments.data.recording import CHUNK_FRAMES, DataError, Recording, decode, encode, make_recording
from experiments.data.store import Store
from experiments.data.writer import StoreWriter

LENGTHS = [1, CHUNK_FRAMES, CHUNK_FRAMES + 1, 3, 50]


def assert_same(one: Recording, other: Recording):
    np.testing.assert_array_equal(one.frames, other.frames)
    np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_array_equal(one.rewards, other.rewards)
    assert (one.rewards is None) == (other.rewards is None)


@pytest.mark.parametrize("kind", [{}, {"action_size": 0}, {"rewards": False}, {"action_size": 0, "rewards": False}])
def test_what_is_read_is_what_was_written(make_store, kind, numbered):
    store = make_store(LENGTHS, **kind)
    assert store.names == [str(i) for i in range(len(LENGTHS))]
    np.testing.assert_array_equal(store.lengths, LENGTHS)
    for i, length in enumerate(LENGTHS):
        assert_same(store.read(i), numbered(i, length, **kind))


def test_any_frames_of_a_recording_can_be_read_alone(make_store, numbered):
    store = make_store(LENGTHS)
    picks = np.array([0, 0, 7, CHUNK_FRAMES - 1, CHUNK_FRAMES, 49, 49])
    assert_same(store.read(4, picks), numbered(4, 50).take(picks))


def test_threads_and_copies_read_the_same(make_store):
    store = make_store(LENGTHS)
    copy = travelled(store)
    with ThreadPoolExecutor(4) as pool:
        for i, read in enumerate(pool.map(store.read, list(range(5)) * 8)):
            assert_same(read, copy.read(i % 5))


def test_a_stopped_writer_goes_on_and_ends_like_one_that_was_never_stopped(make_store, tmp_path, numbered, contents):
    whole = make_store(LENGTHS)
    assert len(contents(whole.folder)) > 4
    for stop in range(len(LENGTHS)):
        folder = tmp_path / f"stopped-{stop}"
        for last in (stop, len(LENGTHS)):
            with StoreWriter(folder, {"name": "set"}, 1500) as writer:
                for number, length in enumerate(LENGTHS[:last]):
                    if str(number) not in writer.done:
                        writer.add(str(number), numbered(number, length))
                if last == len(LENGTHS):
                    writer.finish()
                else:
                    with pytest.raises(DataError, match="not whole"):
                        Store(folder)
        assert contents(folder) == contents(whole.folder)


def test_what_a_killed_writer_left_half_done_is_written_anew(make_store, tmp_path, numbered, contents):
    whole = make_store(LENGTHS)
    folder = tmp_path / "killed"
    with StoreWriter(folder, {"name": "set"}):
        pass
    (folder / ".tmp").mkdir()
    for path in (folder / ".tmp" / "00000.arrayrecord", folder / "00000.arrayrecord"):
        path.write_bytes(b"half a shard" * 10_000)
    with StoreWriter(folder, {"name": "set"}, 1500) as writer:
        for number, length in enumerate(LENGTHS):
            writer.add(str(number), numbered(number, length))
        writer.finish()
    assert contents(folder) == contents(whole.folder)


def test_what_was_skipped_is_kept_with_its_reason(tmp_path, numbered):
    with StoreWriter(tmp_path / "set", {}) as writer:
        writer.skip("a", "no frames")
        writer.add("b", numbered(0, 3))
        writer.finish()
    store = Store(tmp_path / "set")
    assert (store.names, store.skipped) == (["b"], [("a", "no frames")])
    described = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert (described["recordings"], described["frames"], described["skipped"]) == (1, 3, 1)


def test_every_flipped_bit_of_a_chunk_is_found(numbered):
    record = encode(numbered(0, 2))
    for bit in range(0, 8 * len(record), 7):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DataError, match="checksum"):
            decode(bytes(damaged))


def test_damage_on_disk_is_found_and_the_recording_named(make_store):
    store = make_store(LENGTHS)
    for path in store.folder.glob("*.arrayrecord"):
        content = bytearray(path.read_bytes())
        content[300:304] = b"\xff\x00\xff\x00"
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"recording '\d' is damaged"):
        for i in range(len(store)):
            Store(store.folder).read(i)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "00000.arrayrecord").write_bytes(b""), "has 0 bytes, its index says"),
        (lambda folder: (folder / "00000.arrayrecord").unlink(), "has 0 bytes, its index says"),
        (lambda folder: (folder / "00000.json").write_text("{"), "00000.json is damaged"),
        (
            lambda folder: (folder / "00000.json").write_text((folder / "00000.json").read_text().replace("16", "17")),
            "00000.json is damaged .checksum",
        ),
        (
            lambda folder: (folder / "00000.json").unlink(),
            "00000.json is missing: the same ivideogpt convert-data command",
        ),
        (lambda folder: (folder / "00001.json").unlink(), "has 3 of 5 recordings: 00001.json is missing: the same"),
        (lambda folder: (folder / "dataset.json").unlink(), "is no data set"),
        (lambda folder: (folder / "dataset.json").write_text("[]"), "dataset.json is damaged"),
    ],
)
def test_a_damaged_folder_is_refused_and_the_file_named(make_store, damage, said):
    folder = make_store(LENGTHS).folder
    damage(folder)
    with pytest.raises(DataError, match=said):
        Store(folder)


def test_a_description_that_was_changed_is_refused_and_one_of_an_earlier_version_is_read(make_store):
    folder = make_store(LENGTHS).folder
    path = folder / "dataset.json"
    written = json.loads(path.read_text())
    for changed in ({"settings": {"held_out": ["a"]}}, {"recordings": 1}, {"settings": "none"}):
        path.write_text(json.dumps(written | changed))
        with pytest.raises(DataError, match=r"dataset\.json is damaged"):
            Store(folder)
    path.write_text(json.dumps({name: value for name, value in written.items() if name != "crc32"}))
    assert len(Store(folder)) == written["recordings"]


def test_a_writer_refuses_what_does_not_belong(make_store, tmp_path, numbered):
    folder = make_store(LENGTHS).folder
    with pytest.raises(DataError, match="was made with"):
        StoreWriter(folder, {"name": "another"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("mine")
    with pytest.raises(DataError, match="diary"):
        StoreWriter(tmp_path / "mine", {})
    with StoreWriter(folder, {"name": "set"}) as writer:
        with pytest.raises(DataError, match="is there already"):
            writer.add("3", numbered(3, 3))
        with pytest.raises(DataError, match="it has 5 numbers an action and rewards; those before have 2"):
            writer.add("new", numbered(3, 3, action_size=5))
        with pytest.raises(DataError, match="another process"):
            StoreWriter(folder, {"name": "set"})


def test_a_folder_that_holds_nothing_yet_takes_other_settings(tmp_path):
    for settings in ({"key": "wrong"}, {"key": "right"}):
        with StoreWriter(tmp_path / "set", settings) as writer:
            assert not writer.done
    assert json.loads((tmp_path / "set" / "dataset.json").read_text())["settings"] == {"key": "right"}


@pytest.mark.parametrize(
    ("frames", "actions", "said"),
    [
        (np.zeros((3, 4, 4, 3), np.float32), None, "frames are float32"),
        (np.zeros((0, 4, 4, 3), np.uint8), None, "not empty"),
        (np.zeros((3, 4, 4, 3), np.uint8), np.zeros((5, 2)), r"actions are float32 \(5, 2\)"),
        (np.zeros((3, 4, 4, 3), np.uint8), np.full((3, 2), np.nan), "not finite"),
    ],
)
def test_a_recording_that_does_not_fit_together_is_refused(frames, actions, said):
    with pytest.raises(DataError, match=said):
        make_recording(frames, actions)


def test_the_last_action_leads_nowhere_and_is_filled_where_a_source_has_none():
    filled = make_recording(np.zeros((3, 4, 4, 3), np.uint8), np.ones((2, 5)))
    np.testing.assert_array_equal(filled.actions, [[1] * 5, [1] * 5, [0] * 5])
