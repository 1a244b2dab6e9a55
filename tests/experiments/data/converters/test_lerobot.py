"""LeRobot data sets of versions 2.1 and 3.0, in files that pyarrow and PyAV write as that project lays them out."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from experiments.data.converters.lerobot import fill_template
from experiments.data.recording import DataError

CAMERA = "observation.images.top"
LENGTHS = [6, 9, 5]
DATA = {
    "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "v3.0": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
VIDEO = {
    "v2.1": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    "v3.0": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}


def rows(episode: int) -> dict[str, list]:
    """Action t of an episode is (episode, t), its reward t."""
    steps = range(LENGTHS[episode])
    return {
        "action": [[float(episode), float(t)] for t in steps],
        "next.reward": [float(t) for t in steps],
        "episode_index": [episode for _ in steps],
        "frame_index": list(steps),
    }


def write(path, content: bytes | dict):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(pa.table(content), path)


def write_info(folder, version: str, camera: str = CAMERA, dtype: str = "video"):
    info = {
        "codebase_version": version,
        "total_episodes": len(LENGTHS),
        "chunks_size": 2,
        "fps": 10,
        "data_path": DATA[version],
        "video_path": VIDEO[version],
        "features": {
            camera: {"dtype": dtype, "shape": [32, 48, 3]},
            "action": {"dtype": "float32", "shape": [2]},
            "next.reward": {"dtype": "float32", "shape": [1]},
        },
    }
    write(folder / "meta" / "info.json", json.dumps(info).encode())


@pytest.fixture
def version_2(tmp_path, film):
    folder = tmp_path / "v2"
    write_info(folder, "v2.1")
    lines = [json.dumps({"episode_index": i, "tasks": [], "length": length}) for i, length in enumerate(LENGTHS)]
    write(folder / "meta" / "episodes.jsonl", "\n".join(lines).encode())
    for i, length in enumerate(LENGTHS):
        where = {"episode_chunk": i // 2, "episode_index": i, "video_key": CAMERA}
        write(folder / DATA["v2.1"].format(**where), rows(i))
        write(folder / VIDEO["v2.1"].format(**where), film(range(length)))
    return folder


@pytest.fixture
def version_3(tmp_path, film):
    """The first two episodes share a table and a video."""
    folder = tmp_path / "v3"
    write_info(folder, "v3.0")
    packed, starts = [[0, 1], [2]], [0.0, LENGTHS[0] / 10, 0.0]
    files = {episode: number for number, episodes in enumerate(packed) for episode in episodes}
    meta = {"episode_index": [0, 1, 2], "length": LENGTHS, "data/chunk_index": [0] * 3}
    meta["data/file_index"] = [files[i] for i in range(3)]
    meta[f"videos/{CAMERA}/chunk_index"], meta[f"videos/{CAMERA}/file_index"] = [0] * 3, meta["data/file_index"]
    meta[f"videos/{CAMERA}/from_timestamp"] = starts
    write(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet", meta)
    for number, episodes in enumerate(packed):
        where = {"chunk_index": 0, "file_index": number, "video_key": CAMERA}
        tables = [rows(i) for i in episodes]
        columns = {key: [value for table in tables for value in table[key]] for key in tables[0]}
        write(folder / DATA["v3.0"].format(**where), columns)
        write(folder / VIDEO["v3.0"].format(**where), film([t for i in episodes for t in range(LENGTHS[i])]))
    return folder


@pytest.mark.parametrize("version", ["version_2", "version_3"])
def test_both_versions_give_the_same_episodes(converted, numbers_of, request, version):
    store = converted("lerobot", request.getfixturevalue(version))
    assert store.names == ["episode_000000", "episode_000001", "episode_000002"]
    for i, length in enumerate(LENGTHS):
        recording = store.read(i)
        assert numbers_of(recording.frames) == list(range(length))
        np.testing.assert_array_equal(recording.actions, rows(i)["action"])
        np.testing.assert_array_equal(recording.rewards, [0, *rows(i)["next.reward"][:-1]])


def test_pictures_within_the_table_are_read_too(converted, grey, numbers_of, tmp_path):
    folder = tmp_path / "pictures"
    write_info(folder, "v2.1", dtype="image")
    lines = [json.dumps({"episode_index": i, "length": length}) for i, length in enumerate(LENGTHS)]
    write(folder / "meta" / "episodes.jsonl", "\n".join(lines).encode())
    for i, length in enumerate(LENGTHS):
        cells = []
        for frame in grey(range(length)):
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "PNG")
            cells.append({"bytes": buffer.getvalue(), "path": None})
        write(folder / DATA["v2.1"].format(episode_chunk=i // 2, episode_index=i), {**rows(i), CAMERA: cells})
    store = converted("lerobot", folder)
    assert [numbers_of(store.read(i).frames) for i in range(3)] == [list(range(length)) for length in LENGTHS]


def test_an_episode_whose_video_is_broken_or_too_short_is_skipped_and_named(converted, film, version_2):
    videos = sorted(version_2.rglob("*.mp4"))
    videos[0].write_bytes(film(range(4)))
    videos[1].write_bytes(b"no video")
    store = converted("lerobot", version_2)
    assert store.names == ["episode_000002"]
    reasons = dict(store.skipped)
    assert "4 frames from 0 s on, 6 are expected" in reasons["episode_000000"]
    assert "Invalid" in reasons["episode_000001"]


def test_what_cannot_be_chosen_is_asked_for(converted, version_2, tmp_path):
    with pytest.raises(DataError, match=r"has the cameras observation\.images\.top: choose one"):
        converted("lerobot", version_2, image_key="front")
    info = json.loads((version_2 / "meta" / "info.json").read_text())
    info["features"]["observation.images.wrist"] = info["features"][CAMERA]
    write(version_2 / "meta" / "info.json", json.dumps(info).encode())
    with pytest.raises(DataError, match=r"cameras observation.images.top, observation.images.wrist"):
        converted("lerobot", version_2)
    write(version_2 / "meta" / "info.json", json.dumps({**info, "codebase_version": "v1.6"}).encode())
    with pytest.raises(DataError, match=r"version v1\.6; versions 2 and 3 are read"):
        converted("lerobot", version_2)
    with pytest.raises(DataError, match="no LeRobot data set"):
        converted("lerobot", tmp_path)


def change_info(folder, **changes):
    info = json.loads((folder / "meta" / "info.json").read_text())
    write(folder / "meta" / "info.json", json.dumps(info | changes).encode())


@pytest.mark.parametrize("version", ["version_2", "version_3"])
@pytest.mark.parametrize(("name", "path"), [("data_path", "/etc/passwd"), ("video_path", "videos/../../film.mp4")])
def test_a_path_that_leads_out_of_the_folder_is_refused(converted, request, version, name, path):
    """Fault 16: what it named was read."""
    folder = request.getfixturevalue(version)
    change_info(folder, **{name: path})
    with pytest.raises(DataError, match=f"the path '{path}' leads out of {folder}"):
        converted("lerobot", folder)


def test_a_picture_or_a_camera_outside_the_folder_is_refused(converted, grey, version_2, tmp_path):
    """Fault 16: what it named was read."""
    Image.fromarray(grey([7])[0]).save(tmp_path / "outside.png")
    write_info(version_2, "v2.1", dtype="image")
    for path in version_2.glob("data/*/*.parquet"):
        episode = int(path.stem[-6:])
        cells = [{"bytes": None, "path": "../outside.png"} for _ in range(LENGTHS[episode])]
        write(path, {**rows(episode), CAMERA: cells})
    with pytest.raises(DataError, match=r"the path '\.\./outside\.png' leads out of"):
        converted("lerobot", version_2)
    write_info(version_2, "v2.1", camera="../../..")
    with pytest.raises(DataError, match="leads out of"):
        converted("lerobot", version_2)


def test_only_the_fields_of_lerobots_own_paths_are_filled_in(converted, version_2):
    """Fault 15: {episode_index:999999999d} took gigabytes, and any attribute of a value could be named."""
    values = {"episode_index": 7, "video_key": "top"}
    assert fill_template("a/{video_key}/{episode_index:06d}-{episode_index}", values) == "a/top/000007-7"
    for field in (
        "{episode_index:999999999d}",
        "{episode_index:013d}",
        "{episode_index:>9}",
        "{video_key.__class__}",
        "{video_key!r}",
        "{nothing}",
        "{",
    ):
        change_info(version_2, data_path=f"data/{field}.parquet")
        with pytest.raises(DataError, match=r"the path 'data/.* has (the field|fields)"):
            converted("lerobot", version_2)


@pytest.mark.parametrize("content", [b'{"episode_index": 0, "leng', b'{"episode_index": 0}', b"[]", None])
def test_a_damaged_list_of_episodes_is_one_sentence(converted, version_2, content):
    """Fault 14: a list that was cut short was a traceback."""
    path = version_2 / "meta" / "episodes.jsonl"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match="its list of episodes is damaged"):
        converted("lerobot", version_2)


@pytest.mark.parametrize("total", [float("inf"), float("nan"), "many", None, []])
def test_a_count_of_episodes_that_is_none_is_one_sentence(converted, version_2, total):
    """An infinite one was a traceback."""
    change_info(version_2, total_episodes=total)
    with pytest.raises(DataError, match=r"info\.json is damaged"):
        converted("lerobot", version_2)
