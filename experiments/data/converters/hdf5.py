"""HDF5 files: VP2 (many demonstrations a file, robomimic's layout) and RoboNet (one trajectory a file)."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments.data.converters.source import Candidate, Source, Wanted, decoded, files, name_of, shrunk_all
from experiments.data.converters.video import video_frames
from experiments.data.packages import need
from experiments.data.recording import DataError, Recording, recording

SUFFIXES = (".hdf5", ".h5")
VP2_IMAGES = ("agentview_shift_2_image", "camera_image")
"""The camera that VP2's models see: of robosuite, of RoboDesk."""
ROBONET_ACTIONS = 5
"""Size that all of RoboNet's actions are brought to: smaller ones filled up, larger ones cut."""


def open_vp2(place: pathlib.Path, wanted: Wanted) -> Source:
    """`data/<demo>/obs/<camera>` [T, H, W, 3] and `data/<demo>/actions` [T, A] of every file, train and validation alike."""
    names = [(path, demo) for path in files(place, SUFFIXES) for demo in _demonstrations(path)]
    return Source(
        len(names),
        (
            Candidate(f"{name_of(path, place)}/{demo}", functools.partial(_read_vp2, path, demo, wanted))
            for path, demo in names
        ),
    )


def open_robonet(place: pathlib.Path, wanted: Wanted) -> Source:
    """Camera 0 (or `--image-key cam1_video`) and five-dimensional actions of every trajectory."""
    found = files(place, SUFFIXES)
    return Source(
        len(found), (Candidate(name_of(path, place), functools.partial(_read_robonet, path, wanted)) for path in found)
    )


def _demonstrations(path: pathlib.Path) -> Sequence[str]:
    """Names in the order of their numbers. A file that cannot be opened stands for one broken episode."""
    try:
        with need("h5py").File(path) as file:
            return sorted(file["data"], key=lambda name: (len(name), name))
    except (OSError, KeyError):
        return ("",)


def _read_vp2(path: pathlib.Path, demo: str, wanted: Wanted) -> Recording:
    with need("h5py").File(path) as file:
        group = file["data"][demo]
        camera = wanted.image_key or next((name for name in VP2_IMAGES if name in group["obs"]), None)
        if camera not in group["obs"]:
            raise DataError(f"it has no camera {camera or ''} among {', '.join(group['obs'])}: choose with --image-key")
        return recording(shrunk_all(group["obs"][camera], wanted.resolution), group["actions"][()])


def _read_robonet(path: pathlib.Path, wanted: Wanted) -> Recording:
    with need("h5py").File(path) as file:
        camera = file["env"][wanted.image_key or "cam0_video"]
        frames = _robonet_frames(camera, wanted.resolution)
        actions = _robonet_actions(file)
    length = min(len(frames), len(actions) + 1)
    return recording(frames[:length], actions[: length - 1])


def _robonet_frames(camera: Any, resolution: int) -> np.ndarray:
    """A camera's frames, stored as one MP4 file or as a JPEG file each, in the order of colours that it says."""
    if "frames" in camera:
        stored = camera["frames"]
        frames = video_frames(stored[()].tobytes(), resolution)
    else:
        stored = camera["frame0"]
        frames = shrunk_all(_pictures(camera), resolution)
    order = stored.attrs.get("image_format", "RGB")
    order = order.decode() if isinstance(order, bytes) else order
    if order not in ("RGB", "BGR"):
        raise DataError(f"its colours are in the order {order}, expected RGB or BGR")
    return frames if order == "RGB" else frames[..., ::-1]


def _pictures(camera: Any) -> Iterator[np.ndarray]:
    for t in range(len(camera)):
        yield decoded(camera[f"frame{t}"][()].tobytes())


def _robonet_actions(file: Any) -> np.ndarray:
    """float [T - 1, 5]. Where the gripper closes by itself, its action is what it did: the state after, at either bound."""
    actions = np.asarray(file["policy"]["actions"][()], np.float32)
    size = actions.shape[1]
    if size == ROBONET_ACTIONS - 1 and _of(file, "primitives") in ("autograsp", b"autograsp"):
        low, high = (float(np.ravel(_of(file, bound))[-1]) for bound in ("low_bound", "high_bound"))
        grip = np.where(file["env"]["state"][1 : len(actions) + 1, -1] > (low + high) / 2, high, low)
        actions = np.concatenate([actions[: len(grip)], grip[:, None].astype(np.float32)], axis=1)
    missing = max(ROBONET_ACTIONS - actions.shape[1], 0)
    return np.pad(actions, ((0, 0), (0, missing)))[:, :ROBONET_ACTIONS]


def _of(file: Any, key: str) -> Any:
    """A fact of the trajectory, from wherever files of different ages keep it; None where none has it."""
    for group in ("metadata", "env", "misc"):
        if group in file and key in file[group].attrs:
            return file[group].attrs[key]
        if group in file and key in file[group]:
            return file[group][key][()]
    return None
