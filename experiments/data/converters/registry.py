"""The formats that `ivideogpt convert-data` reads."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from experiments.data.converters.arrays import open_arrays
from experiments.data.converters.bair import open_bair
from experiments.data.converters.hdf5 import open_robonet, open_vp2
from experiments.data.converters.lerobot import open_lerobot
from experiments.data.converters.rlds import open_rlds
from experiments.data.converters.something import open_something
from experiments.data.converters.source import ConvertOptions, Source
from experiments.data.converters.video import open_videos

FORMATS: dict[str, Callable[[pathlib.Path, ConvertOptions], Source]] = {
    "rlds": open_rlds,
    "lerobot": open_lerobot,
    "bair": open_bair,
    "robonet": open_robonet,
    "vp2": open_vp2,
    "something": open_something,
    "videos": open_videos,
    "npz": open_arrays,
}
"""Each opens a source; its docstring says what it expects there."""
