"""Random resized crop and colour jitter, drawn once a sequence: its frames all change alike (paper section 4.1)."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

GREY = np.array([0.299, 0.587, 0.114], np.float32)
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32)
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far a draw may go; the published ranges."""

    crop_area: tuple[float, float] = (0.8, 1.0)
    """Share of the largest square in the picture."""
    crop_ratio: tuple[float, float] = (0.9, 1.1)
    """Width by height."""
    brightness: float = 0.1
    """Factors of brightness, contrast and saturation are drawn from 1 plus or minus this."""
    contrast: float = 0.1
    saturation: float = 0.1
    hue: float = 0.05
    """Largest turn of the colour circle either way; 1 is a whole turn."""


Box = tuple[float, float, float, float]
"""Left, upper, right, lower, in pixels."""


def augment(frames_thwc: np.ndarray, resolution: int, kind: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """uint8 [T, H, W, 3] to uint8 [T, resolution, resolution, 3]: one crop and one change of colours for all frames."""
    cropped = resize(frames_thwc, resolution, draw_box(*frames_thwc.shape[1:3], kind, rng))
    return change_colours(cropped, *draw_colours(cropped, kind, rng))


def resize(frames_thwc: np.ndarray, resolution: int, box: Box | None = None) -> np.ndarray:
    """The whole picture or a box of it as a square, antialiased; uint8 [T, resolution, resolution, 3]."""
    whole = (0, 0, frames_thwc.shape[2], frames_thwc.shape[1])
    if box in (None, whole) and frames_thwc.shape[1:3] == (resolution, resolution):
        return frames_thwc
    size = (resolution, resolution)
    images = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames_thwc)
    return np.stack([np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=box)) for image in images])


def draw_box(height: int, width: int, kind: Augmentation, rng: np.random.Generator) -> Box:
    """A box of a random area, shape and place that lies within the picture."""
    area = min(height, width) ** 2 * rng.uniform(*kind.crop_area)
    ratio = np.exp(rng.uniform(*np.log(kind.crop_ratio)))
    w, h = min(np.sqrt(area * ratio), width), min(np.sqrt(area / ratio), height)
    left, upper = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, upper, min(left + w, width), min(upper + h, height)


def draw_colours(
    frames_thwc: np.ndarray, kind: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A matrix [3, 3] and an offset [3] that turn hue, then change saturation, contrast and brightness.

    Contrast is about the mean grey of the sequence, so that it does not flicker. All four are linear in the colours, and
    one matrix does them at once.
    """
    brightness, contrast, saturation = (
        1 + rng.uniform(-reach, reach) for reach in (kind.brightness, kind.contrast, kind.saturation)
    )
    angle = 2 * np.pi * rng.uniform(-kind.hue, kind.hue)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]], np.float32)
    hue = _FROM_YIQ @ turn @ _TO_YIQ
    saturated = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * GREY[None]
    mean = frames_thwc.mean(axis=(0, 1, 2)) @ GREY
    matrix = brightness * contrast * saturated @ hue
    return matrix.astype(np.float32), np.full(3, brightness * (1 - contrast) * mean, np.float32)


def change_colours(frames_thwc: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Every pixel times a matrix plus an offset, rounded and clipped to uint8."""
    changed = frames_thwc.reshape(-1, 3).astype(np.float32) @ matrix.T + offset
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8).reshape(frames_thwc.shape)
