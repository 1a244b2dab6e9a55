"""A world model in a folder: the published layout, and `world_model.json` for what that layout cannot hold."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import tempfile
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tokenizer import published as published_tokenizer
from tokenizer.published import PublishedError
from world_model import published
from world_model.config import WorldModelConfig
from world_model.params import WorldModelParams

CONFIG = "world_model.json"
TOKENIZER = "tokenizer/diffusion_pytorch_model.safetensors"
TOKENIZER_CONFIG = "tokenizer/config.json"
TRANSFORMER = "transformer/model.safetensors"
TRANSFORMER_CONFIG = "transformer/config.json"


def load(folder: str | os.PathLike[str]) -> tuple[WorldModelConfig, WorldModelParams]:
    """Read a folder in the published layout or one that `save` wrote.

    Raises FileNotFoundError for a missing file and PublishedError (a ValueError) for a damaged file, for a setting that
    this code does not compute, and for a missing, extra or misshapen tensor; each names what it is about.
    """
    folder = pathlib.Path(folder)
    tokenizer_tensors, transformer_tensors = (_read_tensors(folder / name) for name in (TOKENIZER, TRANSFORMER))
    own = (folder / CONFIG).exists()
    config = _read_config(folder / CONFIG) if own else _with_published_tokenizer(folder)
    # Checked first: what the tokenizer's tensors confirm, the transformer has to agree with.
    tokenizer = published_tokenizer.import_params(config.tokenizer, tokenizer_tensors)
    vocabulary = config.layout.vocabulary
    if not own:
        document = _read_json(folder / TRANSFORMER_CONFIG)
        config = dataclasses.replace(config, transformer=published.to_config(document, transformer_tensors, vocabulary))
    transformer = published.import_params(config.transformer, config.layout, transformer_tensors)
    return config, WorldModelParams(tokenizer, transformer)


def _with_published_tokenizer(folder: pathlib.Path) -> WorldModelConfig:
    """A config with the published tokenizer, whose transformer is still to be read."""
    tokenizer = published_tokenizer.to_config(_read_json(folder / TOKENIZER_CONFIG))
    # A default segment has no room for a long context; nothing published says how long one was.
    segment_frames = max(WorldModelConfig().segment_frames, tokenizer.context_frames + 1)
    return WorldModelConfig(tokenizer, segment_frames=segment_frames)


def save(folder: str | os.PathLike[str], config: WorldModelConfig, params: WorldModelParams) -> None:
    """Write the whole folder beside its place, then move it there: a reader finds all of it or what was there before.

    A folder that is no world model is not replaced: FileExistsError.
    """
    folder = pathlib.Path(folder).absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / TRANSFORMER).exists():
        raise FileExistsError(f"{folder} holds something else than a world model: choose another place or empty it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        new = pathlib.Path(beside, "new")
        _write(new, config, params)
        if folder.exists():
            # A folder cannot be exchanged in one move; the old one waits beside until the new one is in place.
            os.replace(folder, pathlib.Path(beside, "old"))
        os.replace(new, folder)


def _write(folder: pathlib.Path, config: WorldModelConfig, params: WorldModelParams) -> None:
    vocabulary = config.layout.vocabulary
    documents = {
        CONFIG: dataclasses.asdict(config),
        TOKENIZER_CONFIG: published_tokenizer.from_config(config.tokenizer),
        TRANSFORMER_CONFIG: published.from_config(config.transformer, vocabulary),
    }
    tensors = {
        TOKENIZER: published_tokenizer.export_params(config.tokenizer, params.tokenizer),
        TRANSFORMER: published.export_params(config.transformer, params.transformer),
    }
    for name in documents | tensors:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n")
    for name, arrays in tensors.items():
        save_file(arrays, folder / name, metadata={"format": "pt"})
    for name in documents | tensors:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())


def _read_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    _require(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise PublishedError(f"{path}: damaged or truncated ({error})") from None


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    _require(path)
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise PublishedError(f"{path}: no JSON ({error})") from None
    if not isinstance(document, dict):
        raise PublishedError(f"{path}: expected a JSON object of settings, found {type(document).__name__}")
    return document


def _require(path: pathlib.Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; a world model's folder holds {TOKENIZER} and {TRANSFORMER}")


RENAMED = {
    "hidden_history": "frame_masking",
    "norm_alone": "norm_per_position",
    "context_skip": "context_residual",
}
"""Settings that earlier versions wrote under another name."""


def _read_config(path: pathlib.Path) -> WorldModelConfig:
    try:
        return from_plain(WorldModelConfig, _with_new_names(_read_json(path)))
    except (TypeError, ValueError) as error:
        raise PublishedError(f"{path}: {error}") from None


def _with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        RENAMED.get(name, name): _with_new_names(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }


def from_plain(kind: type, values: Mapping[str, Any]) -> Any:
    """The nested dataclass of a kind whose `dataclasses.asdict`, through JSON, gave these values.

    Raises ValueError for names that the dataclass does not have; a name that is left out takes its default.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(values.keys() - hints.keys())
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}")

    def field(name: str, value: Any) -> Any:
        if dataclasses.is_dataclass(hints[name]):
            return from_plain(hints[name], value)
        return tuple(value) if isinstance(value, list) else value

    return kind(**{name: field(name, value) for name, value in values.items()})
