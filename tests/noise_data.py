"""Data sets of noise."""

import numpy as np

from experiments.data.recording import make_recording
from experiments.data.writer import StoreWriter


def write_set(folder, action_size=4, rewards=True, recordings=6):
    """A whole data set in a new folder, which is returned: recordings of 9 frames, 64 pixels a side."""
    rng = np.random.default_rng(action_size)
    with StoreWriter(folder, {"name": folder.name}) as writer:
        for number in range(recordings):
            frames = rng.integers(256, size=(9, 64, 64, 3), dtype=np.uint8)
            earned = rng.uniform(size=9) if rewards else None
            writer.add(f"{number}", make_recording(frames, rng.uniform(-1, 1, (9, action_size)), earned))
        writer.finish()
    return folder
