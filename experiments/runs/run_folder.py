"""One folder a run: what made it, what happened, and everything needed to go on.

config.yaml   the resolved configuration, the settings that were typed, and the sessions (version, commit, command)
              that worked in the folder
metrics.jsonl checkpoints/ replay/ videos/ report.html
model/        of a finished run that trains a world model: what `WorldModel.from_pretrained` reads
evaluation/   what `ivideogpt evaluate RUN` found of it
tracking/     what `--tracking` keeps beside metrics.jsonl
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import fcntl
import importlib.metadata
import os
import pathlib
import socket
import subprocess
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from experiments.errors import UserError


class RunFolderError(UserError, ValueError):
    """A run folder that cannot be used as asked; the message is one sentence that says why and what to do."""


class RunFolder:
    """The places of a run. Making one touches nothing; `claim` creates, checks and locks the folder for writing."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.replay = self.path / "replay"
        self.videos = self.path / "videos"
        self.report = self.path / "report.html"
        self.model = self.path / "model"
        self.evaluation = self.path / "evaluation"
        self.tracking = self.path / "tracking"

    @contextlib.contextmanager
    def claim(
        self,
        config: Any,
        command: str = "",
        may_change: Sequence[str] = (),
        settings: Mapping[str, Any] = types.MappingProxyType({}),
    ) -> Iterator[RunFolder]:
        """Hold the folder for this process while the block runs.

        config: a frozen dataclass, nested as one likes. A new folder gets it written down; in an existing folder it
        must equal what is written there, but for the fields of `may_change` (dotted names, or all under a first part of
        them), which are written anew. command: what was typed, kept for people.
        settings: by their dotted names the values that were typed and tell this run from others; a folder that is there
        keeps its own, but for those fields.
        Raises RunFolderError where another process holds the folder, where the configuration differs (naming the
        fields), where an earlier version wrote the folder, and where the path holds something that is not a run.
        """
        resolved = plain(config)
        self._refuse_strangers()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"{self.path} cannot be made ({error.strerror}); choose another --run-dir") from error
        with self._locked():
            sessions = []
            if self.config.exists():
                record = self.read_current()
                self._refuse_another_config(record["config"], resolved, may_change)
                changed = {name: value for name, value in settings.items() if _is_one_of(name, may_change)}
                settings, sessions = record["settings"] | changed, record["sessions"]
            for folder in (self.checkpoints, self.replay, self.videos):
                folder.mkdir(exist_ok=True)
            record = {"config": resolved, "settings": plain(settings), "sessions": [*sessions, _session(command)]}
            write_atomically(self.config, yaml.safe_dump(record, sort_keys=False, allow_unicode=True))
            yield self

    def read(self) -> dict[str, Any]:
        """As written: `config` (nested mapping), `settings` (by dotted names those that were typed; none where an
        earlier version wrote the folder) and `sessions` (version, commit, command, started; oldest first)."""
        try:
            record = {"settings": {}} | yaml.safe_load(self.config.read_text(encoding="utf-8"))
            kinds = {"config": dict, "settings": dict, "sessions": list}
            if all(isinstance(record[name], kind) for name, kind in kinds.items()) and record["sessions"]:
                return record
        except FileNotFoundError:
            raise RunFolderError(f"{self.path} is not a run folder: it has no config.yaml") from None
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
            pass
        raise RunFolderError(f"{self.config} is damaged; restore it or start again with another --run-dir")

    def read_current(self) -> dict[str, Any]:
        """As `read`; raises RunFolderError for a run of an earlier version, whose settings had other names, too."""
        record = self.read()
        if is_older(record["config"]):
            raise RunFolderError(f"{self.path} was written by an earlier version: start again with another --run-dir")
        return record

    def sizes(self) -> dict[str, int]:
        """Bytes by entry of the folder, largest first. A file may vanish meanwhile: a run may be writing."""
        sizes: dict[str, int] = {}
        for root, _, names in os.walk(self.path):
            for name in names:
                path = pathlib.Path(root, name)
                part = path.relative_to(self.path).parts[0]
                with contextlib.suppress(FileNotFoundError):
                    sizes[part] = sizes.get(part, 0) + path.stat().st_size
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))

    def _refuse_strangers(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file, not a folder; choose another --run-dir")
        if self.path.is_dir() and not self.config.exists():
            ours = {value.name for value in vars(self).values()} | {LOCK, ".config.yaml.tmp"}
            stranger = next((entry.name for entry in sorted(self.path.iterdir()) if entry.name not in ours), None)
            if stranger is not None:
                raise RunFolderError(
                    f"{self.path} is not a run folder: it holds '{stranger}' and no config.yaml; "
                    "choose another --run-dir"
                )

    def _refuse_another_config(self, old: Mapping, new: Mapping, may_change: Sequence[str]) -> None:
        found = differing_fields(old, new)
        if differences := [field for field in found if not _is_one_of(field[0], may_change)]:
            listed = "; ".join(f"{name} was {was}, now {now}" for name, was, now in differences)
            if all(ABSENT in (was, now) for _, was, now in differences):
                raise RunFolderError(
                    f"{self.path} was written by another version ({listed}): start again with another --run-dir"
                )
            raise RunFolderError(
                f"{self.path} holds a run of another configuration ({listed}): "
                "use the same values to go on with it, or another --run-dir"
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """An advisory lock the kernel drops when the process ends, however it ends."""
        with open(self.path / LOCK, "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunFolderError(
                    f"{self.path} is in use by {holder}: wait for it to end, or choose another --run-dir"
                ) from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            try:
                yield
            finally:
                file.truncate(0)


LOCK = ".lock"
ABSENT = "absent"
"""Stands for the value of a field that one configuration lacks."""


def _is_one_of(name: str, fields: Sequence[str]) -> bool:
    """Whether a dotted name is one of these, or lies under one of them."""
    return any(f"{name}.".startswith(f"{field}.") for field in fields)


def is_older(config: Mapping[str, Any]) -> bool:
    """Whether an earlier version wrote this configuration down, by settings that have moved or are called otherwise."""
    names = {name.rpartition(".")[2] for name in flat(config)}
    agents, learned = "mbpo" in config and "schedule" not in config, "source" in config and "kind" not in config
    return agents or learned or "hidden_history" in names


def plain(value: Any) -> Any:
    """A configuration as yaml holds it: dataclasses and named tuples become mappings, other tuples lists, enums their
    names, paths text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if (named := getattr(value, "_asdict", None)) is not None:
        return plain(named())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a configuration cannot hold {value!r} of type {type(value).__name__}")


def flat(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names: {"a": {"b": 1}} -> {"a.b": 1}. An empty mapping stays a value."""
    names = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            names |= flat(value, f"{prefix}{key}.")
        else:
            names[f"{prefix}{key}"] = value
    return names


def find_setting(config: Mapping[str, Any], last: str) -> Any:
    """A value by the last part of its dotted name, the least nested first; None where there is none."""
    found = [name for name in config if name.rpartition(".")[2] == last]
    return config[min(found, key=lambda name: name.count("."))] if found else None


def differing_fields(old: Mapping, new: Mapping) -> list[tuple[str, str, str]]:
    """Dotted name, old and new value of every field that differs, in the order of the fields."""
    before, after = flat(old), flat(new)

    def shown(values: dict, name: str) -> str:
        return repr(values[name]) if name in values else ABSENT

    return [
        (name, shown(before, name), shown(after, name))
        for name in dict.fromkeys([*after, *before])
        if name not in before or name not in after or before[name] != after[name]
    ]


def write_atomically(path: str | os.PathLike, content: bytes | str) -> None:
    """Replace a file so that a reader, or a kill at any moment, meets the old content or the new, never a part."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    descriptor = os.open(path.parent, os.O_RDONLY)  # the new name itself must outlive a power cut
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _session(command: str) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    version = importlib.metadata.version("ivideogpt-jax")
    return {"version": version, "commit": source_commit(), "command": command, "started": now}


def source_commit() -> str | None:
    """The commit of the sources that run, with `+changes` where tracked files differ from it; None outside git."""
    here = pathlib.Path(__file__)

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here.parent), *arguments], capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", here.name) is None:  # installed inside somebody else's repository
        return None
    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return commit and commit + ("+changes" if changes else "")
