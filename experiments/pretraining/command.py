"""`ivideogpt pretrain` and `ivideogpt finetune`: what was typed into a configuration, weights and a run folder."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import jax
import tyro

import world_model
from experiments.data.options import DataOptions
from experiments.errors import UsageError
from experiments.pretraining import presets
from experiments.pretraining.config import Pretraining
from experiments.pretraining.fitting import for_data, of_model, with_model
from experiments.pretraining.run import pretrain as run
from experiments.runs.hosts import HostOptions
from experiments.runs.settings import HELP, dotted_names, parse_choices, parse_settings, typed_names
from experiments.weights.bundled import load_model

MODES = {
    "full": ("tokenizer", "transformer"),
    "tokenizer": ("tokenizer",),
    "transformer": ("transformer",),
    "zero-shot": (),
}
"""Which parts of a model learn when it is adapted."""


@dataclasses.dataclass(frozen=True)
class TrainingPaths:
    """Where a run works."""

    run_dir: pathlib.Path = tyro.MISSING
    """The run folder; the same command there goes on."""
    workers: int = 0
    """Processes that read and augment segments; default: none besides."""
    restart: bool = False
    """Begin at zero where the run has lost its checkpoints; where it has one, it goes on."""


@dataclasses.dataclass(frozen=True)
class PretrainChoices:
    """What is trained, and which settings that gives."""

    part: tyro.conf.Positional[Literal["tokenizer", "transformer"]]
    preset: str = "laptop"
    """Sets the defaults of everything below."""
    tokenizer: str | None = None
    """For the transformer: the tokenizer's run, or a model folder."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    hosts: Annotated[HostOptions, tyro.conf.arg(name="")] = HostOptions()


@dataclasses.dataclass(frozen=True)
class FinetuneChoices:
    """What is trained further, and which settings that gives."""

    model: tyro.conf.Positional[str]
    """A folder that from_pretrained reads, a run that has one, or the name of a bundled checkpoint."""
    preset: str = "laptop-finetune"
    """Sets the defaults of everything below."""
    mode: Literal["full", "tokenizer", "transformer", "zero-shot"] = "full"
    """Which part learns, if any."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    hosts: Annotated[HostOptions, tyro.conf.arg(name="")] = HostOptions()


def pretrain(arguments: Sequence[str], description: str) -> int:
    """`pretrain tokenizer|transformer`: the transformer learns the tokens of a model that --tokenizer names."""
    if HELP & set(arguments):
        choices = parse_choices(PretrainChoices, "ivideogpt pretrain", ["tokenizer", *arguments])
        preset = _only(presets.get(choices.preset), (choices.part,))
        return _parse("pretrain", description, arguments, dataclasses.replace(choices, part=tyro.MISSING), preset)
    choices = parse_choices(PretrainChoices, "ivideogpt pretrain", arguments)
    choices.hosts.join()
    preset = _only(presets.get(choices.preset), (choices.part,))
    if (choices.part == "transformer") != (choices.tokenizer is not None):
        raise UsageError(
            "pretrain transformer needs --tokenizer FOLDER, the model of a tokenizer run; the tokenizer none"
        )
    data = choices.data.specs(videos=choices.part == "tokenizer" and preset.videos)
    model = load_model(choices.tokenizer) if choices.tokenizer else None
    if model is not None:
        preset = with_model(preset, tokenizer=model.config.tokenizer, goal_conditioned=model.config.goal_conditioned)
    config, places = _parse("pretrain", description, arguments, choices, for_data(preset, data, None))
    named = choices.data.names_held_out(data)
    config = dataclasses.replace(config, data=data, held_out=named, source=choices.tokenizer)
    params = world_model.init(config.world_model, jax.random.key(config.seed)).params
    if model is not None:
        if config.world_model.tokenizer.context_frames != model.config.tokenizer.context_frames:
            frames = model.config.tokenizer.context_frames
            raise UsageError(f"{choices.tokenizer} was trained with {frames} context frames: keep them")
        params = params.replace(tokenizer=model.params.tokenizer)
    return _run("pretrain", arguments, config, params, places)


def finetune(arguments: Sequence[str], description: str) -> int:
    """`finetune MODEL`: all of a model, or one part of it, learns from other data (paper section 4.1)."""
    if HELP & set(arguments):
        choices = parse_choices(FinetuneChoices, "ivideogpt finetune", ["MODEL", *arguments])
        required = dataclasses.replace(choices, model=tyro.MISSING)
        return _parse("finetune", description, arguments, required, presets.get(choices.preset))
    choices = parse_choices(FinetuneChoices, "ivideogpt finetune", arguments)
    choices.hosts.join()
    model = load_model(choices.model)
    preset = of_model(_only(presets.get(choices.preset), MODES[choices.mode]), model.config)
    data = choices.data.specs(videos=choices.mode == "tokenizer" and preset.videos)
    config, places = _parse("finetune", description, arguments, choices, for_data(preset, data, model.config))
    named = choices.data.names_held_out(data)
    config = dataclasses.replace(config, data=data, held_out=named, source=choices.model, kind="finetune")
    try:
        params = world_model.fit_params(model.config, model.params, config.world_model)
    except ValueError as error:
        raise UsageError(f"{choices.model}: {error}") from error
    return _run("finetune", arguments, config, params, places)


def parse_pretrain(arguments: Sequence[str]) -> tuple[Pretraining, frozenset[str]]:
    """The settings that were typed, before any data or model is read, and the dotted names of all there are.

    Raises UsageError for a value that its configuration refuses.
    """
    choices = parse_choices(PretrainChoices, "ivideogpt pretrain", arguments)
    return _settings("pretrain", arguments, choices, (choices.part,))


def parse_finetune(arguments: Sequence[str]) -> tuple[Pretraining, frozenset[str]]:
    """As `parse_pretrain`."""
    choices = parse_choices(FinetuneChoices, "ivideogpt finetune", arguments)
    return _settings("finetune", arguments, choices, MODES[choices.mode])


def _settings(
    name: str, arguments: Sequence[str], choices: Any, parts: Sequence[str]
) -> tuple[Pretraining, frozenset[str]]:
    choices.data.specs(videos="transformer" not in parts)
    config, places = _parse(name, "", arguments, choices, _only(presets.get(choices.preset), parts))
    own = dataclasses.replace(choices, data=None, hosts=None)
    fields = (own, choices.data, choices.hosts, config, places)
    return config, frozenset(each for part in fields for each in dotted_names(part))


def _only(preset: Pretraining, parts: Sequence[str]) -> Pretraining:
    others = {"tokenizer", "transformer"} - set(parts)
    return dataclasses.replace(preset, **{name: dataclasses.replace(getattr(preset, name), steps=0) for name in others})


def _parse(name: str, description: str, arguments: Sequence[str], choices: Any, preset: Pretraining) -> Any:
    """The preset with the settings that were typed, and where to work."""
    defaults = {"_choices": choices, "_places": TrainingPaths(), "_settings": preset}
    found = parse_settings(f"ivideogpt {name}", description, arguments, defaults)
    return found["_settings"], found["_places"]


def _run(name: str, arguments: Sequence[str], config: Pretraining, params: Any, places: TrainingPaths) -> int:
    command = shlex.join(["ivideogpt", name, *arguments])
    settings = config.select(typed_names(arguments, config))
    model = run(config, params, places.run_dir, command, places.workers, settings, restart=places.restart)
    print(f"model: {model}")
    return 0
