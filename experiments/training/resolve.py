"""From what was asked for to what runs: all that depends on the simulator or on a pre-trained model is decided here,
once."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from agent.loop import AlgorithmConfig
from experiments.errors import UsageError
from experiments.runs.run_folder import flat
from experiments.training.algorithms import name_of
from experiments.training.config import Experiment
from world_model import WorldModelConfig, check_architecture


@dataclasses.dataclass(frozen=True)
class SimulatorFacts:
    """What a run has to know of its simulator."""

    action_size: int
    resolution: int  # pixels a side of what it draws
    demonstrated: bool  # whether there are demonstrations: scripted ones, or a folder of them


def resolve(
    experiment: Experiment,
    simulator: SimulatorFacts,
    model: WorldModelConfig | None = None,
    typed: Collection[str] = (),
) -> Experiment:
    """The experiment as it runs, which is what config.yaml holds.

    Networks get the simulator's action size and resolution; demonstrations are left out where nobody gives any. With a
    pre-trained model the tokenizer and the transformer are that model's. typed: dotted names of settings, such as
    mbpo.world_model.transformer.dropout, that were typed: these are kept beside the model's own. Raises UsageError
    where one of them contradicts the model's weights, naming it, and where the algorithm has no world model to start
    from.
    """
    algorithm = experiment.algorithm
    try:
        if model is not None:
            algorithm = _with_model(experiment, model, typed)
        algorithm = algorithm.for_simulator(simulator.action_size, simulator.resolution)
    except ValueError as error:
        raise UsageError(str(error)) from error
    demonstrations = experiment.demonstrations if simulator.demonstrated else 0
    resolved = dataclasses.replace(experiment, algorithm=algorithm, demonstrations=demonstrations)
    _refuse_contradictions(experiment, resolved, typed)
    _refuse_nothing_to_learn_from(resolved)
    return resolved


def _refuse_contradictions(asked: Experiment, resolved: Experiment, typed: Collection[str]) -> None:
    """Raise UsageError where a setting that was typed could not be kept, naming it."""
    before, after = (flat(experiment.record()) for experiment in (asked, resolved))
    for name in sorted(typed):
        if before[name] != after[name]:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is {before[name]}, but {asked.task} has {after[name]}: leave it out")


def _refuse_nothing_to_learn_from(resolved: Experiment) -> None:
    """Raise UsageError where a policy is to learn before any step is taken, and nothing was demonstrated."""
    schedule = resolved.schedule
    if schedule.evaluate_first_policy and not schedule.agent_steps and not resolved.demonstrations:
        raise UsageError(
            "--schedule.agent-steps is 0 and there are no demonstrations, so there is nothing to learn from: "
            "record episodes (--demonstrations, --demonstrations-dir) or take some steps"
        )


def _with_model(experiment: Experiment, model: WorldModelConfig, typed: Collection[str]) -> AlgorithmConfig:
    """The algorithm with the model's tokenizer and transformer, but for the settings that were typed."""
    algorithm = experiment.algorithm
    if algorithm.world_model is None:
        raise UsageError(
            f"--pretrained {experiment.pretrained} is for --algorithm mbpo, {name_of(algorithm)} has no such world "
            "model: leave it out, or add --from-scratch"
        )
    if model.goal_conditioned:
        raise UsageError(f"--pretrained {experiment.pretrained} predicts from a goal, which a run does not have")
    prefix = f"{name_of(algorithm)}.world_model."
    # Codebooks are frozen and rewards are predicted, as in the paper; layers that the model lacks are added, zero.
    of_model = {
        "tokenizer": dataclasses.replace(model.tokenizer, freeze_codebooks=model.tokenizer.quantizer == "vq"),
        "transformer": dataclasses.replace(model.transformer, reward_head=True),
    }
    parts: dict[str, Any] = {
        part: _override(config, getattr(algorithm.world_model, part), prefix + part, typed)
        for part, config in of_model.items()
    }
    if model.transformer.decoding != algorithm.world_model.transformer.decoding:  # each learns in a way of its own
        parts |= {name: value for name, value in model.of_decoding.items() if prefix + name not in typed}
    try:
        wanted = dataclasses.replace(algorithm.world_model, **parts)
        check_architecture(model, wanted)
    except ValueError as error:
        raise UsageError(f"--pretrained {experiment.pretrained}: {error}") from error
    return dataclasses.replace(algorithm, world_model=wanted)  # pyright: ignore


def _override(config: Any, source: Any, prefix: str, typed: Collection[str]) -> Any:
    """`config` with those fields of `source` whose dotted names were typed."""
    names = [field.name for field in dataclasses.fields(config) if f"{prefix}.{field.name}" in typed]
    return dataclasses.replace(config, **{name: getattr(source, name) for name in names})
