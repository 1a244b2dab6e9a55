"""The segments of a transformer's training as tokens, made once and kept (`experiments/data/tokens.py`)."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator

import numpy as np

import world_model
from agent.events import Progress
from experiments.data.loader import Loader
from experiments.data.recording import DataError
from experiments.data.tokens import TokenFolder, TokenSegments
from experiments.runs.fingerprint import fingerprint
from experiments.runs.run_folder import plain
from world_model import WorldModelConfig, WorldModelParams

PHASE = "tokenizing"
"""Of the progress that `fill` yields."""
BATCH = 32
"""Segments that are tokenized at a time."""
FILE = 1024
"""Segments per file: what a run that is killed loses at most."""


def open_token_folder(folder: str, loader: Loader, config: WorldModelConfig, params: WorldModelParams) -> TokenFolder:
    """The folder of the tokens that this model's tokenizer makes of the loader's segments.

    Raises DataError where the folder holds others.
    """
    tokenizer = plain(config.tokenizer) | {"weights": fingerprint(params.tokenizer), "goal": config.goal_conditioned}
    return TokenFolder(folder, {"tokenizer": tokenizer, "segments": loader.segments})


def fill(
    folder: TokenFolder, count: int, loader: Loader, config: WorldModelConfig, params: WorldModelParams
) -> Iterator[Progress]:
    """Append what is missing of the first `count` segments, from a loader of batches of BATCH; yields progress."""
    total = math.ceil(count / BATCH) * BATCH
    if len(folder) >= total:
        return
    with folder.growing(), contextlib.closing(loader):
        _need_room(folder, total - len(folder), loader, config)
        loader.skip_to(len(folder) // BATCH)
        while (done := len(folder)) < total:
            made = []
            for batch_end in range(BATCH, min(FILE, total - done) + 1, BATCH):
                batch = next(loader)
                tokens_bl, _ = world_model.tokenize(config, params, batch.frames_bthwc)
                made.append((np.asarray(tokens_bl), batch.actions_bta, batch.rewards_bt))
                yield Progress(PHASE, done + batch_end, total)
            folder.append(TokenSegments(*map(np.concatenate, zip(*made, strict=True))))


def _need_room(folder: TokenFolder, segments: int, loader: Loader, config: WorldModelConfig) -> None:
    """Raise DataError where the disk has no room for so many more segments."""
    frames = config.segment_frames
    numbers = config.layout.length(frames - config.layout.context_frames) + frames * (loader.action_size + 1)
    free, needed = shutil.disk_usage(folder.folder).free, 4 * numbers * segments
    if free < needed:
        raise DataError(
            f"{folder.folder} needs {needed / 1e9:.1f} GB for {segments} segments and {free / 1e9:.1f} are free: make "
            f"room, or keep fewer with --token-segments N, which are gone through again and again"
        )
