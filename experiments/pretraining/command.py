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
from experiments.data import options as data_options
from experiments.data.loader import Part
from experiments.errors import UsageError
from experiments.pretrained import read_model
from experiments.pretraining import config as presets
from experiments.pretraining.config import Pretraining
from experiments.pretraining.fitting import for_data, of_model, with_model
from experiments.pretraining.run import pretrain

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
    parser.add_argument("--tokenizer", help="for the transformer: the tokenizer's run, or a model folder")
    options, rest = _parsed(parser, arguments)
    preset = _only(presets.get(options.preset), (options.part,))
    if (options.part == "transformer") != (options.tokenizer is not None):
        raise UsageError("pretrain transformer needs --tokenizer FOLDER, the model of a tokenizer run; the tokenizer none")
    data = data_options.parts(options, videos=options.part == "tokenizer")
    model = None
    if options.tokenizer:
        model = read_model(options.tokenizer)
        preset = with_model(preset, tokenizer=model.config.tokenizer, goal_conditioned=model.config.goal_conditioned)
    config = _typed(for_data(preset, data, None), rest, data, options.tokenizer)
    params = world_model.init(config.world_model, jax.random.key(config.seed)).params
    if model is not None:
        if config.world_model.tokenizer.context_frames != model.config.tokenizer.context_frames:
            raise UsageError(f"{options.tokenizer} was trained with {model.config.tokenizer.context_frames} context frames: keep them")
        params = params.replace(tokenizer=model.params.tokenizer)
    print(f"model: {pretrain(config, params, options.run_dir, command, options.workers)}")
    return 0


def run_finetune(arguments: Sequence[str], command: str) -> int:
    """`finetune FOLDER`: all of a model, or one part of it, learns from other data (paper section 4.1)."""
    parser = _parser("finetune")
    parser.add_argument("model", help="a folder that from_pretrained reads, a run that has one, or the name of a kept model")
    parser.add_argument("--mode", choices=MODES, default="full", help="which part learns, if any; default: full")
    options, rest = _parsed(parser, arguments)
    model = read_model(options.model)
    data = data_options.parts(options, videos=options.mode == "tokenizer")
    preset = of_model(_only(presets.get(options.preset), MODES[options.mode]), model.config)
    config = _typed(for_data(preset, data, model.config), rest, data, options.model)
    try:
        params = world_model.fitted(model.config, model.params, config.world_model)
    except ValueError as error:
        raise UsageError(f"{options.model}: {error}") from error
    print(f"model: {pretrain(config, params, options.run_dir, command, options.workers)}")
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"ivideogpt {name}", allow_abbrev=False, add_help=False)
    default = {"pretrain": "laptop", "finetune": "laptop-finetune"}[name]
    parser.add_argument("-h", "--help", action="store_true", help="show this, and every setting with the preset's value")
    parser.add_argument("--preset", default=default, help=f"{', '.join(presets.names())}; default: {default}")
    data_options.add_arguments(parser)
    parser.add_argument("--run-dir", type=pathlib.Path, required=True, help="the same command there goes on")
    parser.add_argument("--workers", type=int, default=0, help="processes that read and augment segments; default: none besides")
    hosts.add_arguments(parser)
    return parser


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """What these options are and what is left for the settings; or help with both, which ends the command."""
    if {"-h", "--help"} & set(arguments):
        named = argparse.ArgumentParser(add_help=False)
        named.add_argument("--preset", default=parser.get_default("preset"))
        preset = presets.get(named.parse_known_args(arguments)[0].preset)
        parser.print_help()
        print("\nEvery setting:\n")
        _settings(preset, ["--help"])
    options, rest = parser.parse_known_args(arguments)
    hosts.join(options)
    return options, rest


def _only(preset: Pretraining, parts: Sequence[str]) -> Pretraining:
    others = {"tokenizer", "transformer"} - set(parts)
    return dataclasses.replace(preset, **{name: dataclasses.replace(getattr(preset, name), steps=0) for name in others})


def _typed(preset: Pretraining, rest: Sequence[str], data: tuple[Part, ...], source: str | None) -> Pretraining:
    """The preset with the settings that were typed, on this data."""
    return dataclasses.replace(_settings(preset, rest), data=data, source=source)


def _settings(preset: Pretraining, rest: Sequence[str]) -> Pretraining:
    def collected(settings: Annotated[Pretraining, tyro.conf.arg(name="")] = preset) -> Pretraining:
        return settings

    try:
        return tyro.cli(collected, prog="ivideogpt", args=rest, config=(tyro.conf.AvoidSubcommands,))
    except ValueError as error:
        raise UsageError(str(error)) from error
