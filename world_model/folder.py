"""A world model in a folder: the published layout, and `world_model.json` for what that layout cannot hold."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import pathlib
import tempfile
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from tokenizer import published as published_tokenizer
from tokenizer.published import PublishedError
from world_model import card, published
from world_model.card import ModelCard
from world_model.config import WorldModelConfig
from world_model.params import WorldModelParams

CONFIG = "world_model.json"
TOKENIZER = "tokenizer/diffusion_pytorch_model.safetensors"
TOKENIZER_CONFIG = "tokenizer/config.json"
TRANSFORMER = "transformer/model.safetensors"
TRANSFORMER_CONFIG = "transformer/config.json"
FILES = (TOKENIZER, TOKENIZER_CONFIG, TRANSFORMER, TRANSFORMER_CONFIG, CONFIG)
"""All that is read of a model; the last is not in the published layout."""
README = "README.md"
DType = Literal["float32", "float16"]
"""What the weights' files hold."""
CHECKSUMS = "sha256"
"""Where world_model.json has the checksums of the weights' files, by their names."""


def load(folder: str | os.PathLike[str]) -> tuple[WorldModelConfig, WorldModelParams]:
    """Read a folder in the published layout or one that `save` wrote.

    Raises FileNotFoundError for a missing file and PublishedError (a ValueError) for a damaged file, for a setting that
    this code does not compute, for a missing, extra or misshapen tensor, for one that holds NaN or infinity, and for
    weights that changed since `save` wrote them; each names what it is about.
    """
    folder = pathlib.Path(folder)
    tokenizer_tensors, transformer_tensors = (_read_tensors(folder / name) for name in (TOKENIZER, TRANSFORMER))
    document = _read_json(folder / CONFIG) if (own := (folder / CONFIG).exists()) else {}
    checksums = document.pop(CHECKSUMS, {})
    config = _read_config(folder / CONFIG, document) if own else _with_published_tokenizer(folder)
    # Checked first: what the tokenizer's tensors confirm, the transformer has to agree with.
    tokenizer = published_tokenizer.import_params(config.tokenizer, tokenizer_tensors)
    vocabulary = config.layout.vocabulary
    if not own:
        document = _read_json(folder / TRANSFORMER_CONFIG)
        config = dataclasses.replace(config, transformer=published.to_config(document, transformer_tensors, vocabulary))
    transformer = published.import_params(config.transformer, config.layout, transformer_tensors)
    _check_checksums(folder, checksums)
    for name, tensors in ((TOKENIZER, tokenizer_tensors), (TRANSFORMER, transformer_tensors)):
        _check_finite(folder / name, tensors)
    return config, WorldModelParams(tokenizer, transformer)


def _with_published_tokenizer(folder: pathlib.Path) -> WorldModelConfig:
    """A config with the published tokenizer, whose transformer is still to be read."""
    tokenizer = published_tokenizer.to_config(_read_json(folder / TOKENIZER_CONFIG))
    # A default segment has no room for a long context; nothing published says how long one was.
    segment_frames = max(WorldModelConfig().segment_frames, tokenizer.context_frames + 1)
    return WorldModelConfig(tokenizer, segment_frames=segment_frames)


def save(
    folder: str | os.PathLike[str],
    config: WorldModelConfig,
    params: WorldModelParams,
    model_card: ModelCard = ModelCard(),
    dtype: DType = "float32",
) -> None:
    """Write the whole folder beside its place, then move it there: a reader finds all of it or what was there before.

    model_card: what its README.md says beside the configuration. dtype: float16 halves the files and rounds the
    weights, which are read back as float32. A folder that is no world model is not replaced: FileExistsError.
    """
    folder = pathlib.Path(folder).absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / TRANSFORMER).exists():
        raise FileExistsError(f"{folder} holds something else than a world model: choose another place or empty it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
        new = pathlib.Path(beside, "new")
        _write(new, config, params, dtype)
        (new / README).write_text(card.text(config, model_card))
        if folder.exists():
            # A folder cannot be exchanged in one move; the old one waits beside until the new one is in place.
            os.replace(folder, pathlib.Path(beside, "old"))
        os.replace(new, folder)


def _write(folder: pathlib.Path, config: WorldModelConfig, params: WorldModelParams, dtype: DType) -> None:
    vocabulary = config.layout.vocabulary
    documents = {
        TOKENIZER_CONFIG: published_tokenizer.from_config(config.tokenizer),
        TRANSFORMER_CONFIG: published.from_config(config.transformer, vocabulary),
    }
    tensors = {
        TOKENIZER: published_tokenizer.export_params(config.tokenizer, params.tokenizer),
        TRANSFORMER: published.export_params(config.transformer, params.transformer),
    }
    for name in documents | tensors:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, arrays in tensors.items():
        rounded = {tensor: array.astype(dtype) for tensor, array in arrays.items()}
        save_file(rounded, folder / name, metadata={"format": "pt"})
    checksums = {name: _checksum(folder / name) for name in tensors}
    documents[CONFIG] = dataclasses.asdict(config) | {CHECKSUMS: checksums}
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n")
    for name in documents | tensors:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())


def _checksum(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_checksums(folder: pathlib.Path, expected: Any) -> None:
    """Raise PublishedError for a file that changed since it was written; what nobody noted is not checked."""
    if not isinstance(expected, dict) or set(expected) - {TOKENIZER, TRANSFORMER}:
        raise PublishedError(f"{folder / CONFIG}: {CHECKSUMS} is not what holds the checksums of the weights")
    for name, checksum in expected.items():
        if _checksum(folder / name) != checksum:
            raise PublishedError(f"{folder / name}: changed since it was written (its checksum differs): copy it again")


def _check_finite(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise PublishedError(f"{path}: tensor '{name}' holds numbers that are not finite")


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


def _read_config(path: pathlib.Path, document: Mapping[str, Any]) -> WorldModelConfig:
    try:
        return from_plain(WorldModelConfig, _with_new_names(document))
    except (TypeError, ValueError) as error:
        raise PublishedError(f"{path}: {error}") from None


def _with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        RENAMED.get(name, name): _with_new_names(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }


def from_plain(kind: type, values: Mapping[str, Any]) -> Any:
    """The nested dataclass of a kind whose `dataclasses.asdict`, through JSON, gave these values.

    Raises ValueError for names that the dataclass does not have, and for values of another kind; a name that is left
    out takes its default.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(values.keys() - hints.keys())
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}")

    def field(name: str, value: Any) -> Any:
        if not _fits(hints[name], value):
            raise ValueError(f"{name} is {value!r}, expected {_described(hints[name])}")
        if dataclasses.is_dataclass(hints[name]):
            return from_plain(hints[name], value)
        return tuple(value) if isinstance(value, list) else value

    return kind(**{name: field(name, value) for name, value in values.items()})


KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}
"""What a setting may be, as JSON calls it."""


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value that JSON held can stand in a field of this type."""
    choices = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in choices
    if origin in (typing.Union, types.UnionType):
        return any(_fits(choice, value) for choice in choices)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(choices[0], item) for item in value)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, Mapping)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _described(hint: Any) -> str:
    choices = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return " or ".join(map(repr, choices))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_described, choices))
    if origin is tuple:
        return f"a list, each {_described(choices[0])}"
    return KINDS.get(hint, "settings by their names")
