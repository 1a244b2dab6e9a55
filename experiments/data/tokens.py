"""Training segments as tokens, in a folder: a transformer that learns from them needs no tokenizer beside it.

    tokens.json             which segments, of which tokenizer
    00000.safetensors       some of them: tokens, actions, rewards, with a checksum

The compressive tokenizer's codes of a frame depend on the context frames before it (paper section 3.1), so what is kept
is whole segments, in the order in which the loader draws them. A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from experiments.data.packages import need
from experiments.data.recording import DataError
from experiments.data.shards import only_writer
from experiments.data.stream import Stream
from experiments.runs.run_folder import differing_fields, write_atomically

DESCRIPTION = "tokens.json"
INDEX = "index"


@dataclasses.dataclass(frozen=True)
class TokenSegments:
    """B tokenized segments of T frames."""

    tokens_bl: np.ndarray  # int32 [B, L], as the tokenizer gives them
    actions_bta: np.ndarray  # float32 [B, T, A]; the last column is unused
    rewards_bt: np.ndarray  # float32 [B, T]


class TokenFolder:
    """Segments 0 to `len`, which may grow. `decided_by`: all that decides what they are, as JSON holds it.

    Raises DataError where the folder holds other segments, naming what differs, or a file that is damaged.
    """

    def __init__(self, folder: str | os.PathLike, decided_by: Mapping[str, Any]):
        self.folder = pathlib.Path(folder)
        self.decided_by = json.loads(json.dumps(decided_by))
        self._check()
        self._counts: list[int] = []
        while (path := self._path(len(self._counts))).exists():
            self._counts.append(_index(path)["segments"])
        self._shard = functools.lru_cache(maxsize=4)(self._read)

    def __len__(self) -> int:
        return sum(self._counts)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Segment `index`: int32 [L], float32 [T, A], float32 [T]."""
        ends = np.cumsum(self._counts)
        number = int(np.searchsorted(ends, index, side="right"))
        return tuple(column[index - int(ends[number])] for column in self._shard(number))

    @contextlib.contextmanager
    def growing(self) -> Iterator[None]:
        """Let this process alone `append`. Raises DataError where another one does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with only_writer(self.folder):
            write_atomically(self.folder / DESCRIPTION, json.dumps(self.decided_by, indent=1) + "\n")
            yield

    def append(self, segments: TokenSegments) -> None:
        """The next ones, as a file of their own."""
        arrays = {
            "tokens": segments.tokens_bl.astype(np.int32),
            "actions": segments.actions_bta.astype(np.float32),
            "rewards": segments.rewards_bt.astype(np.float32),
        }
        index = {"crc32": _checksum(arrays), "segments": len(segments.tokens_bl)}
        # One entry: the package writes several in an order of its own each time.
        write_atomically(self._path(len(self._counts)), save(arrays, {INDEX: json.dumps(index)}))
        self._counts.append(len(segments.tokens_bl))

    def _path(self, number: int) -> pathlib.Path:
        return self.folder / f"{number:05d}.safetensors"

    def _check(self) -> None:
        path = self.folder / DESCRIPTION
        if not path.exists():
            if self.folder.exists() and any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
                raise DataError(f"{self.folder} holds no tokens ({DESCRIPTION} is missing): choose another folder")
            return
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is damaged ({error}): delete {self.folder}, and it is made again") from None
        if differences := differing_fields(there, self.decided_by):
            listed = "; ".join(f"{name} was {was}, now {now}" for name, was, now in differences[:3])
            raise DataError(f"{self.folder} holds the tokens of other segments ({listed}): choose another folder")

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        path = self._path(number)
        try:
            arrays = load_file(path)
        except (OSError, SafetensorError, ValueError) as error:
            raise _damaged(path, error) from None
        index = _index(path)
        if index["crc32"] != _checksum(arrays):
            raise _damaged(path, "its checksum differs")
        tokens, actions, rewards = (arrays.get(name, np.zeros(0)) for name in ("tokens", "actions", "rewards"))
        found = [(column.dtype.name, column.ndim, len(column)) for column in (tokens, actions, rewards)]
        count = self._counts[number]
        expected = [("int32", 2, count), ("float32", 3, count), ("float32", 2, count)]
        if found != expected or actions.shape[:2] != rewards.shape or index["segments"] != count:
            raise _damaged(path, "its arrays are not those that it says")
        return tokens, actions, rewards


class TokenLoader(Stream[TokenSegments]):
    """Batches of the first `segments` of a folder in their order, again and again; otherwise as `Loader`."""

    def __init__(self, folder: TokenFolder, segments: int, batch: int, host: int = 0, hosts: int = 1):
        kept = need("grain").MapDataset.source(folder)[:segments].repeat()
        decided_by = {"batch": batch, "tokens": folder.decided_by, "segments": segments}
        super().__init__(kept, TokenSegments, decided_by, batch, host, hosts)


def _checksum(arrays: Mapping[str, np.ndarray]) -> int:
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).data, checksum)
    return checksum


def _index(path: pathlib.Path) -> dict[str, int]:
    try:
        with safe_open(path, "np") as file:
            index = json.loads(file.metadata()[INDEX])
        return {name: int(index[name]) for name in ("crc32", "segments")}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: pathlib.Path, reason: object) -> DataError:
    return DataError(f"{path} is damaged ({str(reason)[:200]}): delete it and those after it, and they are made again")
