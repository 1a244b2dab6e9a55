"""HDF5 files: VP2 (many demonstrations per file, robomimic's layout) and RoboNet (one trajectory per file)."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments.data.converters.isolation import IsolatedReader
from experiments.data.converters.source import (
    ConvertOptions,
    EpisodeRef,
    Source,
    decode_image,
    find_files,
    name_of,
    shrink_all,
)
from experiments.data.converters.video import video_frames
from experiments.data.held_out import robonet_test
from experiments.data.packages import need
from experiments.data.recording import DataError, Recording, make_recording
from experiments.errors import UsageError

SUFFIXES = (".hdf5", ".h5")
LARGE = 2**28
"""Bytes. An array that declares more must hold a thousandth of it at least: a few bytes can declare terabytes."""
VP2_IMAGES = ("agentview_shift_2_image", "camera_image")
"""The camera that VP2's models see: of robosuite, of RoboDesk."""
ROBONET_ACTIONS = 5
"""Size that all of RoboNet's actions are brought to: smaller ones filled up, larger ones cut."""


def open_vp2(source: pathlib.Path, options: ConvertOptions) -> Source:
    """`data/<demo>/obs/<camera>` [T, H, W, 3] and `data/<demo>/actions` [T, A] of every file.

    Demonstrations of `mask/train` and `mask/valid` become one data set, which holds the latter out; where a file lacks
    one of these lists, all of its demonstrations are taken. Links to other files are not followed.
    """
    reader = IsolatedReader()
    episodes: list[EpisodeRef] = []
    held_out: set[str] = set()
    for path in find_files(source, SUFFIXES):
        demonstrations, of_validation = _list_demonstrations(reader, path)
        file = name_of(path, source)
        held_out |= {f"{file}/{demo}" for demo in of_validation}
        for demo in demonstrations:
            read = functools.partial(_read_vp2, path, demo, options)
            episodes.append(EpisodeRef(f"{file}/{demo}", functools.partial(reader.read, path, read), str(path)))
    return Source(len(episodes), episodes, frozenset(held_out))


def open_robonet(source: pathlib.Path, options: ConvertOptions) -> Source:
    """Camera 0 (or `--image-key cam1_video`) and five-dimensional actions of every trajectory.

    The 256 trajectories that published results are on are held out, known by the names of their files. Links to other
    files are not followed.
    """
    reader, found = IsolatedReader(), find_files(source, SUFFIXES)
    return Source(
        len(found),
        (
            EpisodeRef(
                name_of(path, source),
                functools.partial(reader.read, path, functools.partial(_read_robonet, path, options)),
            )
            for path in found
        ),
        robonet_test(),
    )


def _list_demonstrations(reader: IsolatedReader, path: pathlib.Path) -> tuple[Sequence[str], Sequence[str]]:
    """Names in the order of their numbers, and those that the file itself keeps for validation.

    A file that cannot be opened stands for one broken episode.
    """
    try:
        return reader.read(path, functools.partial(_demonstrations, path))
    except UsageError:  # the package is missing
        raise
    except Exception:  # the package has an error of its own for each kind of damage
        return ("",), ()


def _demonstrations(path: pathlib.Path) -> tuple[Sequence[str], Sequence[str]]:
    with need("h5py").File(path) as file:
        names = sorted(_follow(file, "data"), key=lambda name: (len(name), name))
        if not (_has(file, "mask/train") and _has(file, "mask/valid")):
            return names, ()
        train, valid = ({word.decode() for word in _follow(file, f"mask/{part}")[()]} for part in ("train", "valid"))
        return [name for name in names if name in train | valid], sorted(valid)


def _read_vp2(path: pathlib.Path, demo: str, options: ConvertOptions) -> Recording:
    with need("h5py").File(path) as file:
        group = _follow(file, f"data/{demo}")
        cameras = _follow(group, "obs")
        camera = options.image_key or next((name for name in VP2_IMAGES if _has(cameras, name)), None)
        if camera is None or not _has(cameras, camera):
            raise DataError(f"it has no camera {camera or ''} among {', '.join(cameras)}: choose with --image-key")
        return make_recording(shrink_all(_follow(cameras, camera), options.resolution), _follow(group, "actions")[()])


def _read_robonet(path: pathlib.Path, options: ConvertOptions) -> Recording:
    with need("h5py").File(path) as file:
        camera = _follow(file, f"env/{options.image_key or 'cam0_video'}")
        frames = _robonet_frames(camera, options.resolution)
        actions = _robonet_actions(file)
    length = min(len(frames), len(actions) + 1)
    return make_recording(frames[:length], actions[: length - 1])


def _robonet_frames(camera: Any, resolution: int | None) -> np.ndarray:
    """A camera's frames, stored as one MP4 file or as a JPEG file each, in the order of colours that it says."""
    if _has(camera, "frames"):
        stored = _follow(camera, "frames")
        frames = video_frames(stored[()].tobytes(), resolution)
    else:
        stored = _follow(camera, "frame0")
        frames = shrink_all(_pictures(camera), resolution)
    order = stored.attrs.get("image_format", "RGB")
    order = order.decode() if isinstance(order, bytes) else order
    if order not in ("RGB", "BGR"):
        raise DataError(f"its colours are in the order {order}, expected RGB or BGR")
    return frames if order == "RGB" else frames[..., ::-1]


def _pictures(camera: Any) -> Iterator[np.ndarray]:
    for t in range(len(camera)):
        yield decode_image(_follow(camera, f"frame{t}")[()].tobytes())


def _robonet_actions(file: Any) -> np.ndarray:
    """float [T - 1, 5]. Where the gripper closes by itself, its action is what it did: the state after, at a bound."""
    actions = np.asarray(_follow(file, "policy/actions")[()], np.float32)
    size = actions.shape[1]
    if size == ROBONET_ACTIONS - 1 and _find_fact(file, "primitives") in ("autograsp", b"autograsp"):
        low, high = (float(np.ravel(_find_fact(file, bound))[-1]) for bound in ("low_bound", "high_bound"))
        grip = np.where(_follow(file, "env/state")[1 : len(actions) + 1, -1] > (low + high) / 2, high, low)
        actions = np.concatenate([actions[: len(grip)], grip[:, None].astype(np.float32)], axis=1)
    missing = max(ROBONET_ACTIONS - actions.shape[1], 0)
    return np.pad(actions, ((0, 0), (0, missing)))[:, :ROBONET_ACTIONS]


def _find_fact(file: Any, key: str) -> Any:
    """A fact of the trajectory, from wherever files of different ages keep it; None where none has it."""
    for name in ("metadata", "env", "misc"):
        if not _has(file, name):
            continue
        group = _follow(file, name)
        if key in group.attrs:
            return group.attrs[key]
        if _has(group, key):
            return _follow(group, key)[()]
    return None


def _has(group: Any, path: str) -> bool:
    try:
        _follow(group, path)
    except KeyError:
        return False
    return True


def _follow(group: Any, path: str) -> Any:
    """What lies at a path from a group on. Raises DataError where that is in another file, KeyError for nothing."""
    h5py = need("h5py")
    found = group.file if path.startswith("/") else group
    for name in path.split("/"):
        if name in ("", "."):
            continue
        link = found.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise DataError(f"'{name}' is a link to another file, which is not followed")
        found = _follow(found, link.path) if isinstance(link, h5py.SoftLink) else found[name]
    if isinstance(found, h5py.Dataset):
        _check_stored(found, path)
    return found


def _check_stored(dataset: Any, name: str) -> None:
    """Refuse an array that is in other files, or that is hardly there at all."""
    if dataset.external or dataset.is_virtual:
        raise DataError(f"'{name}' is kept in another file, which is not read")
    stored = min(dataset.id.get_storage_size(), 512 * os.stat(dataset.file.filename).st_blocks)
    if dataset.nbytes > max(LARGE, 1000 * stored):
        raise DataError(f"'{name}' declares {dataset.nbytes / 1e9:.1f} GB and holds {stored / 1e6:.1f} MB")
