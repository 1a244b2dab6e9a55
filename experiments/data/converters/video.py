"""Folders of videos, and the decoding that other formats with videos share."""

from __future__ import annotations

import functools
import io
import itertools
import pathlib
from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer

from experiments.data.converters.source import ConvertOptions, EpisodeRef, Source, find_files, name_of, shrink_all
from experiments.data.recording import DataError, Recording, make_recording

SUFFIXES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".gif")


def open_videos(source: pathlib.Path, options: ConvertOptions) -> Source:
    """Every video in a folder and those within it: one episode per video, without actions."""
    found = find_files(source, SUFFIXES)
    return Source(
        len(found), (EpisodeRef(name_of(path, source), functools.partial(_read, path, options)) for path in found)
    )


def _read(path: pathlib.Path, options: ConvertOptions) -> Recording:
    return make_recording(video_frames(path, options.resolution))


def video_frames(
    video: pathlib.Path | bytes, resolution: int | None, start: float = 0.0, count: int | None = None
) -> np.ndarray:
    """Frames of a video file or of its bytes, shrunk; uint8 [T, H, W, 3].

    start: in seconds, where the first frame is. count: frames from there; None: all. Raises DataError where there are
    fewer, and PyAV's errors where the file is damaged.
    """
    with av.open(io.BytesIO(video) if isinstance(video, bytes) else str(video), "r") as container:
        if not container.streams.video:
            raise DataError("it has no video")
        pictures = (frame.to_ndarray(format="rgb24") for frame in _from(container, start))
        frames = shrink_all(itertools.islice(pictures, count), resolution)
    if count is not None and len(frames) < count:
        raise DataError(f"its video has {len(frames)} frames from {start:g} s on, {count} are expected")
    return frames


def _from(container: InputContainer, start: float) -> Iterator[av.VideoFrame]:
    """Frames from the one nearest to `start` on: after a jump to the key frame before it, those between are dropped."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    if start <= 0:
        yield from container.decode(stream)
        return
    if stream.time_base is None or stream.average_rate is None:
        raise DataError("its video does not say how many frames it has per second")
    container.seek(int(start / stream.time_base), stream=stream)
    half = 0.5 / float(stream.average_rate)
    yield from (frame for frame in container.decode(stream) if frame.time is not None and frame.time > start - half)
