"""Something-Something v2: videos of a hand and an object, 95 of its 174 classes (paper appendix on data)."""

from __future__ import annotations

import functools
import json
import pathlib

from experiments.data.converters.source import ConvertOptions, EpisodeRef, Source, name_of
from experiments.data.converters.video import SUFFIXES, video_frames
from experiments.data.recording import DataError, Recording, make_recording

CLASSES = frozenset(
    number
    for first, last in (
        (1, 1), (5, 6), (13, 21), (27, 31), (33, 40), (42, 43), (45, 58), (85, 120), (122, 123),
        (139, 141), (143, 148), (156, 160), (164, 164), (173, 173),
    )
    for number in range(first, last + 1)
)  # fmt: skip
"""Numbers, in the set's own table of labels, of the classes in the published mixture: those that handle objects."""

FEWEST_FRAMES = 16
"""Of a video in the published mixture."""

SPLITS = ("train", "validation")


def open_something(source: pathlib.Path, options: ConvertOptions) -> Source:
    """A folder that holds, at any depth, the videos and the JSON files of labels, train and validation.

    The train and validation videos of those classes become one data set, in the order of their numbers, which holds the
    latter out. A video that a list names and the folder lacks is skipped like a broken one. Raises DataError where a
    list is missing.
    """
    numbers = {label: int(number) for label, number in _json(source, "labels").items()}
    entries = {split: _json(source, split) for split in SPLITS}
    if strangers := sorted({_class(entry) for split in SPLITS for entry in entries[split]} - set(numbers)):
        raise DataError(f"{source}: its table of labels lacks '{strangers[0]}'")
    taken = {
        split: [int(entry["id"]) for entry in entries[split] if numbers[_class(entry)] in CLASSES] for split in SPLITS
    }
    videos_taken = sorted(number for split in SPLITS for number in taken[split])
    videos = {path.stem: path for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES}
    return Source(
        len(videos_taken),
        (EpisodeRef(str(number), functools.partial(_read, videos, number, source, options)) for number in videos_taken),
        frozenset(map(str, taken["validation"])),
    )


def _class(entry: dict) -> str:
    """The label that a template stands for: without the brackets around what was filled in."""
    return entry["template"].replace("[", "").replace("]", "")


def _json(source: pathlib.Path, name: str):
    found = sorted(path for path in source.rglob("*.json") if path.stem == name or path.stem.endswith(f"-{name}"))
    if not found:
        raise DataError(f"{source} lacks the set's list {name}.json (or ...-{name}.json)")
    try:
        return json.loads(found[0].read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{name_of(found[0], source)} is damaged: {error}") from None


def _read(videos: dict[str, pathlib.Path], number: int, source: pathlib.Path, options: ConvertOptions) -> Recording:
    if str(number) not in videos:
        raise DataError(f"{source} holds no video {number}")
    recording = make_recording(video_frames(videos[str(number)], options.resolution))
    if recording.length < FEWEST_FRAMES:
        raise DataError(f"its {recording.length} frames are fewer than the {FEWEST_FRAMES} that the mixture takes")
    return recording
