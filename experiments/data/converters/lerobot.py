"""LeRobot data sets of versions 2.0, 2.1 and 3.0: parquet tables and videos, read without torch.

Version 2 has a table and a video an episode; version 3 packs many episodes into each file and tells in a table of episodes
where each one is.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.data.converters.source import Candidate, Source, Wanted, decoded, shrunk_all
from experiments.data.converters.video import video_frames
from experiments.data.packages import need
from experiments.data.recording import DataError, Recording, recording

ACTION, REWARD = "action", "next.reward"


@dataclasses.dataclass(frozen=True)
class Episode:
    """Where an episode is: its table, its video (None where its pictures are in the table), and where in that it starts."""

    number: int
    length: int
    table: pathlib.Path
    video: pathlib.Path | None
    start: float


def open_lerobot(place: pathlib.Path, wanted: Wanted) -> Source:
    """The folder that holds `meta/info.json`. The camera is the only one there is, or `--image-key`; the action `action`.

    `next.reward`, where there is one, becomes the reward of arriving at the frame after. Raises DataError where the version
    is another one, or where there are several cameras to choose from.
    """
    info = _info(place)
    camera = _camera(place, info, wanted)
    episodes = _episodes_3 if info["codebase_version"].startswith("v3.") else _episodes_2
    read = functools.partial(_read, place, info["features"], camera, wanted)
    return Source(
        int(info["total_episodes"]),
        (
            Candidate(f"episode_{episode.number:06d}", functools.partial(read, episode))
            for episode in episodes(place, info, camera)
        ),
    )


def _info(place: pathlib.Path) -> dict[str, Any]:
    path = place / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version = info["codebase_version"]
    except FileNotFoundError:
        raise DataError(f"{place} is no LeRobot data set: it lacks meta/info.json") from None
    except (ValueError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error})") from None
    if not version.startswith(("v2.", "v3.")):
        raise DataError(f"{place} is a LeRobot data set of version {version}; versions 2 and 3 are read")
    return info


def _camera(place: pathlib.Path, info: dict[str, Any], wanted: Wanted) -> str:
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] in ("video", "image")]
    if wanted.image_key in cameras:
        return wanted.image_key
    if wanted.image_key is not None or len(cameras) != 1:
        raise DataError(f"{place} has the cameras {', '.join(cameras) or 'none'}: choose one with --image-key")
    return cameras[0]


def _episodes_2(place: pathlib.Path, info: dict[str, Any], camera: str) -> Iterator[Episode]:
    with open(place / "meta" / "episodes.jsonl", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    for row in rows:
        number = row["episode_index"]
        where = {"episode_index": number, "episode_chunk": number // info["chunks_size"], "video_key": camera}
        video = place / info["video_path"].format(**where) if _filmed(info, camera) else None
        yield Episode(number, row["length"], place / info["data_path"].format(**where), video, 0.0)


def _episodes_3(place: pathlib.Path, info: dict[str, Any], camera: str) -> Iterator[Episode]:
    filmed, prefix = _filmed(info, camera), f"videos/{camera}"
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    if filmed:
        columns += [f"{prefix}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    for path in sorted((place / "meta" / "episodes").rglob("*.parquet")):
        for row in need("pyarrow.parquet").read_table(path, columns=columns).to_pylist():
            data = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
            film = {name: row.get(f"{prefix}/{name}") for name in data}
            video = place / info["video_path"].format(video_key=camera, **film) if filmed else None
            table = place / info["data_path"].format(**data)
            start = row[f"{prefix}/from_timestamp"] if filmed else 0.0
            yield Episode(row["episode_index"], row["length"], table, video, start)


def _filmed(info: dict[str, Any], camera: str) -> bool:
    return info["features"][camera]["dtype"] == "video"


def _read(place: pathlib.Path, features: dict[str, Any], camera: str, wanted: Wanted, episode: Episode) -> Recording:
    chosen = ((ACTION,) if ACTION in features else ()) if wanted.action_keys is None else wanted.action_keys
    rewarded = (REWARD,) if REWARD in features else ()
    pictures = () if episode.video else (camera,)
    rows = need("pyarrow.parquet").read_table(
        episode.table,
        columns=["frame_index", *chosen, *rewarded, *pictures],
        filters=[("episode_index", "=", episode.number)],
    )
    if len(rows) != episode.length:
        raise DataError(f"its table has {len(rows)} rows, {episode.length} are expected")
    rows = rows.sort_by("frame_index")
    if episode.video:
        frames = video_frames(episode.video, wanted.resolution, episode.start, episode.length)
    else:
        frames = shrunk_all((_picture(place, cell) for cell in rows[camera].to_pylist()), wanted.resolution)
    actions = [_numbers(rows[key]).reshape(len(rows), -1) for key in chosen]
    rewards = np.concatenate([[0], _numbers(rows[REWARD]).ravel()[:-1]]) if rewarded else None
    return recording(frames, np.concatenate(actions, axis=1) if actions else None, rewards)


def _numbers(column: Any) -> np.ndarray:
    return np.array(column.to_pylist(), np.float32)


def _picture(place: pathlib.Path, cell: dict[str, Any]) -> np.ndarray:
    """A picture within the table, or the file that it names."""
    return decoded(cell["bytes"] if cell["bytes"] else (place / cell["path"]).read_bytes())
