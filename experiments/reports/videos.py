"""Frames to files, and pictures that show an agent or a world model at a glance.

Frames are uint8 [T, H, W, 3]. Every tile is enlarged by a whole factor without smoothing, so that a pixel stays a
pixel.
"""

from __future__ import annotations

import fractions
import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import av
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from experiments.runs.run_folder import write_atomically

if TYPE_CHECKING:
    from agent.mbpo.model_evaluation import Comparison

TILE = 192
"""Tiles are enlarged to at most this height in pixels, or stay as they are where they are larger."""
GAP = 6
CAPTION = 22
BACKGROUND, TEXT, GOOD, BAD = (24, 24, 27), (228, 228, 231), (74, 222, 128), (161, 161, 170)
ERROR_CEILING = 0.3
"""Mean absolute error over the colours, of frames in [0, 1], that the error map shows at its brightest. Fixed, so that
pictures of different runs compare."""


def write_mp4(path: str | os.PathLike, frames_thwc: np.ndarray, fps: int = 10, scale: int = 1) -> None:
    """H.264 in yuv420p, which every browser plays; an odd side gains one pixel, as the format needs. Atomic."""
    frames = enlarge(_check(frames_thwc), scale)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fractions.Fraction(fps), options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    write_atomically(path, buffer.getvalue())


def write_gif(path: str | os.PathLike, frames_thwc: np.ndarray, fps: int = 10, scale: int = 1) -> None:
    """An endless GIF, for places that show no video. Atomic."""
    images = [Image.fromarray(frame) for frame in enlarge(_check(frames_thwc), scale)]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    write_atomically(path, buffer.getvalue())


def write_png(path: str | os.PathLike, image_hwc: np.ndarray) -> None:
    """One picture, uint8 [H, W, 3]. Atomic."""
    buffer = io.BytesIO()
    Image.fromarray(_check(image_hwc[None])[0]).save(buffer, "PNG", optimize=True)
    write_atomically(path, buffer.getvalue())


def evaluation_video(frames_mthwc: np.ndarray, successes: Sequence[bool] | np.ndarray, columns: int = 5) -> np.ndarray:
    """The first M evaluation episodes in a row (or rows of `columns`), each framed and named by how it ended.

    frames_mthwc: uint8 [M, T, H, W, 3]. successes: at least M. Returns uint8 [T, H', W', 3].
    """
    episodes, length = frames_mthwc.shape[:2]
    tiles = enlarge(_check(frames_mthwc))
    colours = [GOOD if successes[i] else BAD for i in range(episodes)]
    captions = [f"{i + 1}: {'success' if successes[i] else 'no success'}" for i in range(episodes)]
    video = []
    for t in range(length):
        cells = [_cell(tiles[i, t], captions[i], colours[i], framed=True) for i in range(episodes)]
        video.append(_grid([cells[i : i + columns] for i in range(0, episodes, columns)]))
    return np.stack(video)


def imagination_video(comparison: Comparison) -> np.ndarray:
    """A row for each segment: what happened, what was imagined, the error, and the same start under other actions.

    First the context frames, which the model is given, then F imagined ones. A model without actions has three columns.
    Returns uint8 [C + F, H', W', 3].
    """
    context, real, shuffled = comparison.context_frames, comparison.real_frames, comparison.shuffled_actions_frames
    segments, given, future = len(real), context.shape[1], real.shape[1]
    errors = error_map(comparison.imagined_frames, real)
    columns = [
        np.concatenate([context, real], axis=1),
        np.concatenate([context, comparison.imagined_frames], axis=1),
        np.concatenate([np.zeros_like(context), errors], axis=1),
        *([] if shuffled is None else [np.concatenate([context, shuffled], axis=1)]),
    ]
    columns = [enlarge(_check(column)) for column in columns]
    video = []
    for t in range(given + future):
        when = "given" if t < given else f"+{t - given + 1}"
        names = [f"real {when}", f"imagined {when}" if t >= given else "given", "error", "other actions"]
        rows = [
            [_cell(column[m, t], name) for column, name in zip(columns, names[: len(columns)], strict=True)]
            for m in range(segments)
        ]
        video.append(_grid(rows))
    return np.stack(video)


def comparing_video(real_mthwc: np.ndarray, made_mthwc: np.ndarray, name: str) -> np.ndarray:
    """A row for each segment: what was recorded, what was made (by its `name`), the error.

    Returns uint8 [T, H', W', 3].
    """
    return side_by_side({"real": real_mthwc, name: made_mthwc, "error": error_map(made_mthwc, real_mthwc)})


def side_by_side(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Videos uint8 [M, T, H, W, 3] under their names, a row for each of M. Returns uint8 [T, H', W', 3]."""
    tiles = {name: enlarge(_check(column)) for name, column in columns.items()}
    segments, length = next(iter(columns.values())).shape[:2]
    return np.stack(
        [_grid([[_cell(tiles[name][m, t], name) for name in tiles] for m in range(segments)]) for t in range(length)]
    )


def filmstrip(comparison: Comparison, segment: int = 0, steps: Sequence[int] | None = None) -> np.ndarray:
    """One picture: the last context frame, then real, imagined, error and other actions (if any) some steps ahead.

    steps: 1-based steps ahead; by default five, evenly from the first to the last. Returns uint8 [H', W', 3].
    """
    future = comparison.real_frames.shape[1]
    picked = np.unique(np.linspace(1, future, 5).round().astype(int)) if steps is None else np.asarray(steps)
    if picked.min() < 1 or picked.max() > future:
        raise ValueError(f"steps {picked.tolist()} ahead, of {future} imagined")
    real, imagined = comparison.real_frames[segment], comparison.imagined_frames[segment]
    last = comparison.context_frames[segment, -1:]
    named = {
        "real": (last, real),
        "imagined": (last, imagined),
        "error": (np.zeros_like(last), error_map(imagined, real)),
    }
    if comparison.shuffled_actions_frames is not None:
        named["other actions"] = (last, comparison.shuffled_actions_frames[segment])
    rows = []
    for row, (name, (start, frames)) in enumerate(named.items()):
        tiles = enlarge(_check(np.concatenate([start, frames[picked - 1]])))
        heads = ["last context frame", *(f"+{step}" for step in picked)] if row == 0 else [""] * len(tiles)
        rows.append([_side_label(name, tiles.shape[1]), *(_cell(t, h) for t, h in zip(tiles, heads, strict=True))])
    return _grid(rows)


def error_map(imagined: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean absolute error over the colours as a heat map, black for none; uint8 [..., H, W, 3] in and out."""
    error = np.abs(imagined.astype(np.float32) - real.astype(np.float32)).mean(-1) / 255
    heat = matplotlib.colormaps["inferno"](np.clip(error / ERROR_CEILING, 0, 1))
    return (heat[..., :3] * 255).round().astype(np.uint8)


def enlarge(frames: np.ndarray, scale: int | None = None) -> np.ndarray:
    """Repeat each pixel `scale` times both ways; by default as often as fits into TILE. [..., H, W, 3]."""
    factor = max(TILE // frames.shape[-3], 1) if scale is None else scale
    return frames.repeat(factor, axis=-3).repeat(factor, axis=-2)


def _check(frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim < 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(
            f"frames are {frames.dtype} {frames.shape}, expected uint8 [..., T, H, W, 3], none of them empty"
        )
    return frames


def _write(image: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    """Text into an uint8 picture, as large as fits its width."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    fonts = (_load_font(size) for size in range(15, 8, -1))
    fitting = (font for font in fonts if draw.textlength(text, font=font) <= image.shape[1] - at[0])
    draw.text(at, text, fill=colour, font=next(fitting, None) or _load_font(8))
    return np.asarray(picture)


_load_font = functools.cache(ImageFont.load_default)


def _canvas(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _cell(tile: np.ndarray, caption: str, colour: tuple[int, int, int] = TEXT, framed: bool = False) -> np.ndarray:
    """A tile under its caption (no room for an empty one), with a frame in the caption's colour where asked."""
    head = CAPTION if caption else 0
    cell = _canvas(tile.shape[0] + head, tile.shape[1])
    if caption:
        cell = _write(cell, caption, (2, 1), colour).copy()
    cell[head:] = tile
    if framed:
        inside = cell[head + 3 : -3, 3:-3].copy()
        cell[head:] = colour
        cell[head + 3 : -3, 3:-3] = inside
    return cell


def _side_label(text: str, height: int) -> np.ndarray:
    return _write(_canvas(height, 92), text, (0, height // 2 - 9), TEXT)


def _grid(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Cells side by side, feet on one line, and rows under each other, on the background with gaps around."""
    height = GAP + sum(max(cell.shape[0] for cell in cells) + GAP for cells in rows)
    width = GAP + max(sum(cell.shape[1] + GAP for cell in cells) for cells in rows)
    canvas, top = _canvas(height, width), GAP
    for cells in rows:
        left, foot = GAP, top + max(cell.shape[0] for cell in cells)
        for cell in cells:
            canvas[foot - cell.shape[0] : foot, left : left + cell.shape[1]] = cell
            left += cell.shape[1] + GAP
        top = foot + GAP
    return canvas
