"""LeRobot data sets of versions 2.0, 2.1 and 3.0: parquet tables and videos, read without torch.

Version 2 has one table and one video per episode; version 3 packs many episodes into each file, and a table of episodes
says where each one is.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from agent.replay import rewards_of_arriving
from experiments.data.converters.source import ConvertOptions, EpisodeRef, Source, decode_image, shrink_all
from experiments.data.converters.video import video_frames
from experiments.data.packages import need
from experiments.data.recording import DataError, Recording, make_recording

ACTION, REWARD = "action", "next.reward"
_FIELD = re.compile(r"\{(\w+)(?::0(\d{1,3})d)?\}")
"""In a path: a name, and how many digits its number has at least."""
WIDEST = 12
"""Digits."""


@dataclasses.dataclass(frozen=True)
class LeRobotEpisode:
    """Where an episode is: its table, its video (None where its pictures are in the table), and its start in that."""

    number: int
    length: int
    table: pathlib.Path
    video: pathlib.Path | None
    start: float  # in seconds


def open_lerobot(source: pathlib.Path, options: ConvertOptions) -> Source:
    """The folder that holds `meta/info.json`. The camera is the only one there is, or `--image-key`.

    The action is `action`. `next.reward`, where there is one, becomes the reward of arriving at the frame after. Raises
    DataError where the version is another one, where there are several cameras to choose from, or where a path leads
    out of the folder.
    """
    info = _read_info(source)
    camera = _choose_camera(source, info, options)
    list_episodes = _list_episodes_3 if info["codebase_version"].startswith("v3.") else _list_episodes_2
    read = functools.partial(_read, source, info["features"], camera, options)

    def refer() -> Iterator[EpisodeRef]:
        try:
            for episode in list_episodes(source, info, camera):
                yield EpisodeRef(f"episode_{episode.number:06d}", functools.partial(read, episode))
        except DataError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{source}: its list of episodes is damaged ({type(error).__name__}: {error})") from None

    return Source(info["total_episodes"], refer())


def _read_info(source: pathlib.Path) -> dict[str, Any]:
    path = source / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version, info["total_episodes"] = str(info["codebase_version"]), int(info["total_episodes"])
        info["features"] = {name: {"dtype": feature["dtype"]} for name, feature in info["features"].items()}
    except FileNotFoundError:
        raise DataError(f"{source} is no LeRobot data set: it lacks meta/info.json") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is damaged ({error})") from None
    if not version.startswith(("v2.", "v3.")):
        raise DataError(f"{source} is a LeRobot data set of version {version}; versions 2 and 3 are read")
    return info


def _choose_camera(source: pathlib.Path, info: dict[str, Any], options: ConvertOptions) -> str:
    cameras = [name for name, feature in info["features"].items() if feature["dtype"] in ("video", "image")]
    if options.image_key is not None and options.image_key in cameras:
        return options.image_key
    if options.image_key is not None or len(cameras) != 1:
        raise DataError(f"{source} has the cameras {', '.join(cameras) or 'none'}: choose one with --image-key")
    return cameras[0]


def _list_episodes_2(source: pathlib.Path, info: dict[str, Any], camera: str) -> Iterator[LeRobotEpisode]:
    with open(source / "meta" / "episodes.jsonl", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    for row in rows:
        number = row["episode_index"]
        values = {"episode_index": number, "episode_chunk": number // info["chunks_size"], "video_key": camera}
        table = find_inside(source, fill_template(info["data_path"], values))
        video = find_inside(source, fill_template(info["video_path"], values)) if _has_video(info, camera) else None
        yield LeRobotEpisode(number, row["length"], table, video, 0.0)


def _list_episodes_3(source: pathlib.Path, info: dict[str, Any], camera: str) -> Iterator[LeRobotEpisode]:
    filmed, prefix = _has_video(info, camera), f"videos/{camera}"
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    if filmed:
        columns += [f"{prefix}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    for path in sorted((source / "meta" / "episodes").rglob("*.parquet")):
        for row in need("pyarrow.parquet").read_table(path, columns=columns).to_pylist():
            data = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
            table = find_inside(source, fill_template(info["data_path"], data))
            video, start = None, 0.0
            if filmed:
                film = {"video_key": camera} | {name: row[f"{prefix}/{name}"] for name in data}
                video = find_inside(source, fill_template(info["video_path"], film))
                start = row[f"{prefix}/from_timestamp"]
            yield LeRobotEpisode(row["episode_index"], row["length"], table, video, start)


def fill_template(template: str, values: Mapping[str, Any]) -> str:
    """A path with its fields, such as {video_key} or {episode_index:06d}, filled in; `str.format` would do far more.

    Raises DataError for fields of another kind or of more than WIDEST digits.
    """

    def fill(field: re.Match[str]) -> str:
        name, width = field[1], int(field[2] or 0)
        if name not in values or width > WIDEST:
            raise DataError(f"the path '{template[:200]}' has the field {field[0]}, which is not one of LeRobot's")
        return str(values[name]).zfill(width)

    if "{" in _FIELD.sub("", template):
        raise DataError(f"the path '{template[:200]}' has fields that are not LeRobot's")
    return _FIELD.sub(fill, template)


def find_inside(source: pathlib.Path, path: str) -> pathlib.Path:
    """A path within the data set's folder. Raises DataError for one that leads out of it."""
    relative = pathlib.PurePath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"the path '{path[:200]}' leads out of {source}")
    return source / relative


def _has_video(info: dict[str, Any], camera: str) -> bool:
    return info["features"][camera]["dtype"] == "video"


def _read(
    source: pathlib.Path, features: dict[str, Any], camera: str, options: ConvertOptions, episode: LeRobotEpisode
) -> Recording:
    action_keys = ((ACTION,) if ACTION in features else ()) if options.action_keys is None else options.action_keys
    rewarded = (REWARD,) if REWARD in features else ()
    pictures = () if episode.video else (camera,)
    rows = need("pyarrow.parquet").read_table(
        episode.table,
        columns=["frame_index", *action_keys, *rewarded, *pictures],
        filters=[("episode_index", "=", episode.number)],
    )
    if len(rows) != episode.length:
        raise DataError(f"its table has {len(rows)} rows, {episode.length} are expected")
    rows = rows.sort_by("frame_index")
    if episode.video:
        frames = video_frames(episode.video, options.resolution, episode.start, episode.length)
    else:
        frames = shrink_all((_picture(source, cell) for cell in rows[camera].to_pylist()), options.resolution)
    actions = [_numbers(rows[key]).reshape(len(rows), -1) for key in action_keys]
    rewards = rewards_of_arriving(_numbers(rows[REWARD]).ravel()[:-1]) if rewarded else None
    return make_recording(frames, np.concatenate(actions, axis=1) if actions else None, rewards)


def _numbers(column: Any) -> np.ndarray:
    return np.array(column.to_pylist(), np.float32)


def _picture(source: pathlib.Path, cell: dict[str, Any]) -> np.ndarray:
    """A picture within the table, or the file that it names."""
    return decode_image(cell["bytes"] if cell["bytes"] else find_inside(source, cell["path"]).read_bytes())
