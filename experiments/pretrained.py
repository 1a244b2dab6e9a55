"""Models that are there: what a user may call one, and starting model-based reinforcement learning from it (paper section 4.2)."""

from __future__ import annotations

import dataclasses
import pathlib

from experiments.config import Experiment, checked
from experiments.errors import UsageError
from world_model import WorldModel, WorldModelParams, with_reward_head

KEPT = pathlib.Path(__file__).parent / "models"
"""Models that come with the project, by the names of their folders; each says in its README.md how it was made."""


def located(name: str) -> pathlib.Path:
    """A model folder, that of a finished run, or that of a kept model by its name. Raises UsageError that names those."""
    for place in (pathlib.Path(name), KEPT / name):
        if (place / "config.yaml").exists():
            if not (place / "model").is_dir():
                raise UsageError(f"{place} has no model yet: a run has one once it is finished")
            return place / "model"
        if place.is_dir():
            return place
    kept = sorted(path.name for path in KEPT.iterdir() if path.is_dir()) if KEPT.is_dir() else []
    raise UsageError(f"{name}: no such folder, nor a kept model; those are {', '.join(kept) or 'none'}")


def read_model(name: str) -> WorldModel:
    """The model of `located(name)`. Raises UsageError."""
    try:
        return WorldModel.from_pretrained(located(name))
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error


def start_from_pretrained(experiment: Experiment) -> tuple[Experiment, WorldModelParams | None]:
    """The experiment with the sizes of the model that it names, and that model's weights; None where it names none.

    Layers that the model lacks for the task (actions, rewards) are added, zero. Codebooks are frozen, as in the paper.
    Raises UsageError, with what to do, for an algorithm without a world model and for a model that does not fit.
    """
    folder, mbpo = experiment.pretrained, experiment.mbpo
    if folder is None:
        return experiment, None
    if mbpo.world_model is None:
        raise UsageError(
            f"--pretrained {folder} is for --algorithm mbpo, {experiment.algorithm} has no such world model: "
            "leave it out, or add --from-scratch"
        )
    try:
        model = WorldModel.from_pretrained(located(folder), action_size=mbpo.agent.action_size)
        config, params = with_reward_head(model.config, model.params)
        tokenizer = dataclasses.replace(config.tokenizer, freeze_codebooks=config.tokenizer.quantizer == "vq")
        sized = dataclasses.replace(mbpo.world_model, tokenizer=tokenizer, transformer=config.transformer)
        return checked(dataclasses.replace(experiment, mbpo=dataclasses.replace(mbpo, world_model=sized))), params
    except (OSError, ValueError) as error:
        raise UsageError(f"--pretrained {folder}: {error}") from error
