"""From stored pictures to the model's square: the middle of each, or one random crop and one change of colours for all
frames of a sequence (paper section 4.1). Either is cut from the picture as it is stored and shrunk once."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

GREY = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
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


STRONG = Augmentation((0.6, 1.0), (0.75, 4 / 3), 0.4, 0.4, 0.4, 0.5)
"""The wider ranges that the published code offers."""


Box = tuple[float, float, float, float]
"""Left, upper, right, lower, in pixels."""


def augment(frames_thwc: np.ndarray, resolution: int, kind: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """uint8 [T, H, W, 3] to uint8 [T, resolution, resolution, 3]: one crop and one change of colours for all frames."""
    height, width = frames_thwc.shape[1:3]
    box = draw_box(height, width, kind, rng)
    return crop_and_colour(frames_thwc, resolution, box, draw_colours(frames_thwc, kind, rng))


def centre_square(frames_thwc: np.ndarray, resolution: int) -> np.ndarray:
    """The largest square in the middle, antialiased; uint8 [T, resolution, resolution, 3].

    What training without augmentation, validation, `evaluate` and `predict` see of a picture. The published code cuts
    RoboNet's test pictures so, and squashes those of other sets, though it never trains on squashed ones.
    """
    height, width = frames_thwc.shape[1:3]
    side = min(height, width)
    left, upper = round((width - side) / 2), round((height - side) / 2)
    square = frames_thwc[:, upper : upper + side, left : left + side]
    return square if side == resolution else crop_and_colour(square, resolution, (0, 0, side, side))


def crop_and_colour(
    frames_thwc: np.ndarray, resolution: int, box: Box, colours: np.ndarray | None = None
) -> np.ndarray:
    """A box of each frame as a square, antialiased, its colours times a matrix [3, 4] whose last column is added.

    Pillow does both in C without the interpreter's lock, so that threads share the work; it rounds and clips to uint8.
    """
    size, matrix = (resolution, resolution), None if colours is None else tuple(colours.ravel().tolist())
    frames = np.empty((len(frames_thwc), *size, 3), np.uint8)
    for frame, into in zip(frames_thwc, frames, strict=True):
        image = Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.BILINEAR, box=box)
        into[:] = np.asarray(image if matrix is None else image.convert("RGB", matrix))
    return frames


def draw_box(height: int, width: int, kind: Augmentation, rng: np.random.Generator) -> Box:
    """A box of a random area, shape and place that lies within the picture."""
    area = min(height, width) ** 2 * rng.uniform(*kind.crop_area)
    ratio = np.exp(rng.uniform(*np.log(kind.crop_ratio)))
    w, h = min(np.sqrt(area * ratio), width), min(np.sqrt(area / ratio), height)
    left, upper = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, upper, min(left + w, width), min(upper + h, height)


def draw_colours(frames_thwc: np.ndarray, kind: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """A matrix [3, 4] that turns hue, then changes saturation, contrast and brightness; the last column is added.

    Contrast is about the mean grey of the sequence, so that it does not flicker. All four are linear in the colours, so
    one matrix does them at once.
    """
    brightness, contrast, saturation = (
        1 + rng.uniform(-reach, reach) for reach in (kind.brightness, kind.contrast, kind.saturation)
    )
    angle = 2 * np.pi * rng.uniform(-kind.hue, kind.hue)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    saturated = saturation * np.eye(3) + (1 - saturation) * GREY[None]
    mean = np.einsum("thwc->c", frames_thwc, dtype=np.uint64) @ GREY / frames_thwc[..., 0].size
    matrix = brightness * contrast * saturated @ _FROM_YIQ @ turn @ _TO_YIQ
    return np.concatenate([matrix, np.full((3, 1), brightness * (1 - contrast) * mean)], axis=1)
