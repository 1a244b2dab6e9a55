"""How a data set lies on disk: shards of recordings in ArrayRecord, which reads any record at once, with JSON indices.

    dataset.json            what it is, how it was made, whether it is whole
    00000.arrayrecord       chunks of recordings (`recording.encode`), in order
    00000.json              which recordings those are, which were skipped and why, size and checksum

A shard counts once its index is there, and both appear whole or not at all. Where one ends depends on the recordings
alone, so that a conversion that was stopped and started again ends, byte for byte, like one that never was; so does one
whose damaged shards were made again. What one shard says was skipped, a later one may hold (`--retry-skipped`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import pathlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.data.recording import DataError, Recording

VERSION = 1
DESCRIPTION = "dataset.json"
HELD_OUT = "held_out"
"""Of the settings there: the names that the set was converted to hold out; absent where there were none."""
ANEW = "convert the data set again, into another folder"
REPAIR = "the same ivideogpt convert-data command makes it again"


@dataclasses.dataclass(frozen=True)
class Signals:
    """What all recordings of a data set have besides frames, which may differ in size."""

    action_size: int
    rewards: bool

    @classmethod
    def of(cls, recording: Recording) -> Signals:
        return cls(recording.actions.shape[1], recording.rewards is not None)

    def __str__(self) -> str:
        numbers = "1 number" if self.action_size == 1 else f"{self.action_size} numbers"
        return f"{numbers} an action and {'rewards' if self.rewards else 'no rewards'}"


@dataclasses.dataclass(frozen=True)
class Shard:
    """The index of one shard."""

    signals: Signals | None  # None where it holds skipped recordings only
    recordings: tuple[tuple[str, int], ...]  # name, frames
    skipped: tuple[tuple[str, str], ...]  # name, reason
    bytes: int


@dataclasses.dataclass(frozen=True)
class Damage:
    """Why a shard cannot be used, and what it held."""

    reason: str
    index: Shard | None  # None where that cannot be read


def shard_path(folder: pathlib.Path, number: int) -> pathlib.Path:
    return folder / f"{number:05d}.arrayrecord"


@contextlib.contextmanager
def only_writer(folder: pathlib.Path) -> Iterator[None]:
    """Keep other processes from writing to a folder. Raises DataError where one does already."""
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"{folder}: another process is writing to it") from None
        yield


def checksum(description: Mapping[str, Any]) -> int:
    """Of what dataset.json says, without the checksum itself."""
    return zlib.crc32(json.dumps(description).encode())


def read_description(folder: pathlib.Path) -> dict[str, Any]:
    """Whether a data set is whole, the settings it was made with, and how many recordings it has."""
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content.pop("crc32", None)  # earlier versions wrote none
        if (written is not None and written != checksum(content)) or not isinstance(content["settings"], dict):
            raise DataError(f"{path} is damaged (it is not as it was written): {ANEW}")
        if content["version"] != VERSION:
            raise DataError(f"{folder} is of version {content['version']}, this code reads {VERSION}: convert it again")
        return {key: content[key] for key in ("whole", "settings", "recordings")}
    except FileNotFoundError:
        raise DataError(
            f"{folder} is no data set ({DESCRIPTION} is missing); ivideogpt convert-data makes one"
        ) from None
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is damaged ({error}): {ANEW}") from None


def read_shards(folder: pathlib.Path) -> list[Shard]:
    """The indices of all shards, in order. Raises DataError where an index is damaged or a shard of another length."""
    whole, damaged = survey(folder)
    for damage in damaged.values():
        raise DataError(f"{damage.reason}: {REPAIR}")
    return list(whole.values())


def survey(folder: pathlib.Path) -> tuple[dict[int, Shard], dict[int, Damage]]:
    """Whole shards and damaged ones by number, in order; damage within records is not looked for."""
    whole: dict[int, Shard] = {}
    damaged: dict[int, Damage] = {}
    for number in range(max(map(_number, folder.glob("[0-9]*.json")), default=-1) + 1):
        path = shard_path(folder, number)
        shard = None
        try:
            shard = _read_index(path.with_suffix(".json"))
            _check_size(path, shard)
            whole[number] = shard
        except DataError as error:
            damaged[number] = Damage(str(error), shard)
    return whole, damaged


def as_json(shard: Shard) -> str:
    """An index as it is written: with a checksum of itself."""
    content = dataclasses.asdict(shard)
    return json.dumps({"crc32": zlib.crc32(json.dumps(content).encode()), **content}) + "\n"


def _number(index: pathlib.Path) -> int:
    return int(index.stem) if index.stem.isdecimal() else -1


def _read_index(path: pathlib.Path) -> Shard:
    """An index whose own checksum holds."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum = content.pop("crc32")
        if checksum != zlib.crc32(json.dumps(content).encode()):
            raise ValueError("checksum")
        signals = Signals(**content["signals"]) if content["signals"] else None
        recordings, skipped = (tuple((name, what) for name, what in content[key]) for key in ("recordings", "skipped"))
        return Shard(signals, recordings, skipped, content["bytes"])
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error})") from None


def _check_size(records: pathlib.Path, shard: Shard) -> None:
    size = records.stat().st_size if records.exists() else 0
    if size != shard.bytes:
        raise DataError(f"{records} has {size} bytes, its index says {shard.bytes}")
