"""`ivideogpt pretrain` and `ivideogpt finetune`: what was typed into a configuration, weights and a run folder."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Annotated

import jax
import tyro

import world_model
from experiments import hosts
from experiments.data.loader import Part
from experiments.data.store import Store
from experiments.errors import UsageError
from experiments.pretraining import config as presets
from experiments.pretraining.config import Pretraining
from experiments.pretraining.run import pretrain
from world_model import WorldModel

MODES = {
    "full": ("tokenizer", "transformer"),
    "tokenizer": ("tokenizer",),
    "transformer": ("transformer",),
    "zero-shot": (),
}
"""Which parts of a model learn when it is adapted."""


def run_pretrain(arguments: Sequence[str], command: str) -> int:
    """`pretrain tokenizer|transformer`: the transformer learns the tokens of a model that --tokenizer names."""
    parser = _parser("pretrain")
    parser.add_argument("part", choices=("tokenizer", "transformer"))
    parser.add_argument("--tokenizer", type=pathlib.Path, help="for the transformer: a model folder with the tokenizer")
    options, rest = parser.parse_known_args(arguments)
    hosts.join(options)
    preset = _only(presets.get(options.preset), (options.part,))
    if (options.part == "transformer") != (options.tokenizer is not None):
        raise UsageError("pretrain transformer needs --tokenizer FOLDER, the model of a tokenizer run; the tokenizer none")
    model = None
    if options.tokenizer:
        model = _read(options.tokenizer)
        preset = _with(preset, tokenizer=model.config.tokenizer)
    config = _typed(preset, options, rest)
    params = world_model.init(config.world_model, jax.random.key(config.seed)).params
    if model is not None:
        params = params.replace(tokenizer=model.params.tokenizer)
    print(f"model: {pretrain(config, params, options.run_dir, command, options.workers)}")
    return 0


def run_finetune(arguments: Sequence[str], command: str) -> int:
    """`finetune FOLDER`: all of a model, or one part of it, learns from other data (paper section 4.1)."""
    parser = _parser("finetune")
    parser.add_argument("model", type=pathlib.Path, help="a folder that from_pretrained reads")
    parser.add_argument("--mode", choices=MODES, default="full", help="which part learns, if any; default: full")
    options, rest = parser.parse_known_args(arguments)
    hosts.join(options)
    found = max(Store(folder).signals.action_size for folder in options.data)
    model = _read(options.model)
    if 0 < model.config.transformer.action_size < found:
        model = _read(options.model, found)
    preset = _only(presets.get(options.preset), MODES[options.mode])
    preset = _with(preset, tokenizer=model.config.tokenizer, transformer=model.config.transformer)
    config = _typed(preset, options, rest)
    print(f"model: {pretrain(config, model.params, options.run_dir, command, options.workers)}")
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"ivideogpt {name}", allow_abbrev=False)
    default = {"pretrain": "laptop", "finetune": "laptop-finetune"}[name]
    parser.add_argument("--preset", default=default, help=f"{', '.join(presets.names())}; default: {default}")
    parser.add_argument("--data", type=pathlib.Path, nargs="+", required=True, help="data set folders, at equal weights")
    parser.add_argument("--run-dir", type=pathlib.Path, required=True, help="the same command there goes on")
    parser.add_argument("--workers", type=int, default=0, help="processes that read and augment segments; default: none besides")
    hosts.add_arguments(parser)
    return parser


def _only(preset: Pretraining, parts: Sequence[str]) -> Pretraining:
    others = {"tokenizer", "transformer"} - set(parts)
    return dataclasses.replace(preset, **{name: dataclasses.replace(getattr(preset, name), steps=0) for name in others})


def _with(preset: Pretraining, **parts) -> Pretraining:
    return dataclasses.replace(preset, world_model=dataclasses.replace(preset.world_model, **parts))


def _read(folder: pathlib.Path, action_size: int | None = None) -> WorldModel:
    try:
        return WorldModel.from_pretrained(folder, action_size=action_size)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error


def _typed(preset: Pretraining, options: argparse.Namespace, rest: Sequence[str]) -> Pretraining:
    """The preset with the settings that were typed, on this data."""

    def collected(settings: Annotated[Pretraining, tyro.conf.arg(name="")] = preset) -> Pretraining:
        return settings

    try:
        config = tyro.cli(collected, prog="ivideogpt", args=rest, config=(tyro.conf.AvoidSubcommands,))
    except ValueError as error:
        raise UsageError(str(error)) from error
    source = getattr(options, "tokenizer", None) or getattr(options, "model", None)
    parts = tuple(Part(folder) for folder in options.data)
    return dataclasses.replace(config, data=parts, source=source and str(source))
