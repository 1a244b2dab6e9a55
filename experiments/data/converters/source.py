"""What every converter gives: episodes by name, each read only when it is its turn."""

from __future__ import annotations

import dataclasses
import io
import pathlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from experiments.data.recording import DataError, Recording


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """What to take from a source. Keys that are None are the format's own."""

    resolution: int | None = None
    """Pixels of a picture's shorter side that are kept at most; None: pictures stay as they are."""
    image_key: str | None = None
    action_keys: tuple[str, ...] | None = None
    held_out: frozenset[str] | None = None
    """Names of recordings that nobody learns from; None: those that the format says."""


@dataclasses.dataclass(frozen=True)
class EpisodeRef:
    """An episode that a source holds. `read` raises any error where it is broken."""

    name: str
    read: Callable[[], Recording]
    shard: str = ""
    """The file that it shares with its neighbours, which are best read together; empty: it has its own."""


@dataclasses.dataclass(frozen=True)
class Source:
    """total: how many episodes come, always in the same order under the same names."""

    total: int
    episodes: Iterable[EpisodeRef]
    held_out: frozenset[str] = frozenset()
    """Names of recordings that nobody learns from."""


def shrink(picture_hwc: np.ndarray, resolution: int | None) -> np.ndarray:
    """A picture whose shorter side is at most `resolution`, its shape kept, antialiased; uint8 [H', W', 3].

    The square is cut out when a batch is made, so that random crops are not squashed and reach the whole picture.
    """
    height, width = picture_hwc.shape[:2]
    if resolution is None or min(height, width) <= resolution:
        return picture_hwc
    scale = resolution / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture_hwc)).resize(size, Image.Resampling.BILINEAR))


def shrink_all(pictures: Iterable[np.ndarray], resolution: int | None) -> np.ndarray:
    """All frames of an episode, uint8 [T, H', W', 3]; where they shrink, only the small ones are in memory."""
    frames = [shrink(as_rgb(picture), resolution) for picture in pictures]
    if not frames:
        raise DataError("it has no frames")
    return np.stack(frames)


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """A picture of any integer kind from 0 to 255 as uint8 [H, W, 3]; refuses what is not one."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype.kind not in "iu":
        raise DataError(f"a frame is {picture.dtype} {picture.shape}, expected integers [H, W, 3]")
    if picture.dtype != np.uint8 and (picture.min() < 0 or picture.max() > 255):
        raise DataError(f"a frame holds {picture.min()} to {picture.max()}, expected 0 to 255")
    return picture.astype(np.uint8, copy=False)


def decode_image(image: bytes) -> np.ndarray:
    """A JPEG or PNG file as uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def find_files(source: pathlib.Path, suffixes: Sequence[str]) -> list[pathlib.Path]:
    """All files of these endings in a folder and those within it, in the order of their names.

    A file stands for itself. Raises DataError where there are none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise DataError(f"{source} holds no files ending in {', '.join(suffixes)}")
    return found


def name_of(path: pathlib.Path, source: pathlib.Path) -> str:
    """A file's name within the source, the same on every machine."""
    return path.name if path == source else path.relative_to(source).as_posix()
