"""What a sweep knows of the commands it runs: their words, their settings and the metrics that their runs write."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.errors import UsageError
from experiments.reports import tables
from experiments.sweeps import space
from experiments.sweeps.config import Sweep
from experiments.training.config import CHANGEABLE, is_changeable

POSITIONAL = {"pretrain": "part", "finetune": "model"}
"""Settings that stand behind the command without a name."""
OWNED = {
    "seed": "list seeds beside the space",
    "run-dir": "every trial has its own in the sweep's folder",
    "restart": "remove a trial's folder to begin it anew",
}
"""Options that the sweep gives itself, and what to do instead."""

EPISODES = ("eval/success", "eval/return", "episode/success", "episode/return")
MODEL = (*tables.MODEL, "model/moving_mse_shuffled_actions", "model/reward_mae")
TOKENIZER = tuple(
    f"validation/tokenizer/{name}"
    for name in ("loss", "future_mse", "context_reconstruction", "future_reconstruction", "context_commitment",
                 "future_commitment", "context_codes_used", "future_codes_used", "context_perplexity",
                 "future_perplexity")
)  # fmt: skip
TRANSFORMER = tuple(
    f"validation/transformer/{name}"
    for name in ("loss", "cross_entropy", "token_accuracy", "token_accuracy_top_5", "reward_loss")
)


@dataclasses.dataclass(frozen=True)
class Described:
    """What a command would do with certain words."""

    names: frozenset[str]
    """All settings that it has, as they are typed but for their underscores."""
    metrics: tuple[str, ...]
    """What its runs can be ranked by: what they measure on episodes or recordings that nobody learns from."""
    length: int
    """Agent steps of an agent's run, updates of any other."""


def words(sweep: Sweep, point: Mapping[str, Any], seed: int) -> list[str]:
    """The command of a trial, but for its folder: the same on every backend."""
    settings = {**sweep.fixed, **point}
    first = settings.pop(POSITIONAL.get(sweep.command, ""), None)
    typed = [word for name, value in settings.items() for word in _typed(name, value)]
    return [sweep.command, *([] if first is None else [str(first)]), *typed, "--seed", str(seed)]


def changes(sweep: Sweep) -> list[str]:
    """What a trial of a population types besides: its settings may differ from those that its folder began with."""
    return [] if sweep.population is None else ["--change", *space.names_of(sweep.space)]


def _typed(name: str, value: Any) -> list[str]:
    """A setting as it is typed."""
    if isinstance(value, bool):
        head, dot, last = name.rpartition(".")
        return [f"--{head}{dot}{'' if value else 'no-'}{last}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{name}", *map(str, values)]


def describe(command: str, arguments: Sequence[str]) -> Described:
    """Raises UsageError for a value that a configuration refuses, and for words that the command does not know."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            return _DESCRIBE[command](arguments)
    except SystemExit:  # the parser has said, in a box, what it does not take
        said = re.sub(r"[╭╮╰╯│─]+|For full helptext.*", " ", told.getvalue(), flags=re.DOTALL)
        raise UsageError(" ".join(said.split())) from None


def _train(arguments: Sequence[str]) -> Described:
    from experiments.training.command import parse

    asked = parse(arguments)
    measured = EPISODES if asked.experiment.algorithm.world_model is None else EPISODES + MODEL
    return Described(asked.names, measured, asked.experiment.schedule.agent_steps)


def _pretrain(arguments: Sequence[str]) -> Described:
    from experiments.pretraining.command import parse_pretrain

    config, names = parse_pretrain(arguments)
    metrics = TOKENIZER + TRANSFORMER + MODEL if config.transformer.steps else TOKENIZER
    return Described(names, metrics, config.tokenizer.steps + config.transformer.steps)


def _finetune(arguments: Sequence[str]) -> Described:
    from experiments.pretraining.command import parse_finetune

    config, names = parse_finetune(arguments)
    return Described(names, TOKENIZER + TRANSFORMER + MODEL, config.tokenizer.steps + config.transformer.steps)


_DESCRIBE = {"train": _train, "pretrain": _pretrain, "finetune": _finetune}
CHOICES = {
    "train": ("preset", "algorithm", "pretrained", "from-scratch"),
    "pretrain": ("part", "preset", "tokenizer", "data", "mixture", "sets"),
    "finetune": ("model", "preset", "mode", "data", "mixture", "sets"),
}
"""Settings that decide which others there are."""


# --- the whole sweep --------------------------------------------------------------------------------------------------


def check(sweep: Sweep) -> int:
    """Raise UsageError where a trial of the sweep could not run, or would not measure what it is ranked by.

    Returns the length of the longest run, in agent steps or updates. Every point of a grid or a random search is looked
    at; of Optuna's every value of every setting once.
    """
    _refuse_owned(sweep)
    if sweep.population is not None:
        _check_population(sweep)
    longest = 0
    for point in points_to_check(sweep):
        described = _check_point(sweep, point)
        _check_objective(sweep, described)
        longest = max(longest, described.length)
    return longest


def points_to_check(sweep: Sweep) -> list[dict[str, Any]]:
    """As `check` looks at them."""
    if sweep.search.kind == "optuna":
        _refuse_grid(sweep.space)
        return space.probe(sweep.space)
    return points_of(sweep)


def points_of(sweep: Sweep) -> list[dict[str, Any]]:
    """All points of a grid, an ablation or a random search: a function of the file alone."""
    if sweep.search.kind == "ablation":
        return space.ablation(sweep.space)
    if sweep.search.samples is None:
        return space.grid(sweep.space)
    return space.draw(sweep.space, sweep.search.seed, sweep.search.samples)


def _refuse_owned(sweep: Sweep) -> None:
    varied = space.names_of(sweep.space)
    for name in (*sweep.fixed, *varied):
        if name in OWNED:
            raise UsageError(f"{name} is no setting of a sweep: {OWNED[name]}")
        if name in sweep.fixed and name in varied:
            raise UsageError(f"{name} is both fixed and in the space: leave out one of them")
    positional = POSITIONAL.get(sweep.command)
    if positional and positional not in (*sweep.fixed, *varied):
        raise UsageError(f"{sweep.command} needs a {positional}: set it under fixed")


def _check_population(sweep: Sweep) -> None:
    fixed = next((name for name in space.names_of(sweep.space) if not is_changeable(name)), None)
    if fixed is not None:
        raise UsageError(
            f"space: {fixed}: a run cannot go on with another value of it, as trials of a population do; such are "
            f"{', '.join(name.replace('_', '-') for name in CHANGEABLE)} and ...-weight"
        )
    if any(domain.nested for domain in sweep.space) or not sweep.space:
        raise UsageError("space: a population has settings that are always there: no conditions, and at least one")
    if len(points_of(sweep)) < 2:
        raise UsageError("a population has at least two trials: raise samples under search, or list more values")


def _refuse_grid(domains: space.Space) -> None:
    for domain in domains:
        if isinstance(domain, space.Values):
            if domain.gone_through and len(domain.values) > 1:
                raise UsageError(f"space: {domain.name}: Optuna goes through no grid: write choice instead of grid")
            for inner in domain.nested.values():
                _refuse_grid(inner)


def _check_point(sweep: Sweep, point: Mapping[str, Any]) -> Described:
    settings = {**sweep.fixed, **point}
    choices = {name: value for name, value in settings.items() if name in CHOICES[sweep.command]}
    folder = ["--run-dir", "unused"]
    command, *chosen = words(dataclasses.replace(sweep, fixed=choices), {}, 0)
    known = describe(command, chosen + folder).names | {"part", "model"}
    for name in settings:
        if name.replace("-", "_") not in known:
            raise UsageError(f"{command} has no setting '{name}'{_closest(name, known)}")
    try:
        return describe(command, words(sweep, point, sweep.seeds[0])[1:] + folder)
    except UsageError as error:
        shown = ", ".join(f"{name} {value}" for name, value in point.items())
        raise UsageError(f"a trial would be refused ({shown or 'fixed settings'}): {error}") from error


def _closest(name: str, known: frozenset[str]) -> str:
    typed = sorted(each.replace("_", "-") for each in known)
    last = name.rpartition(".")[2]
    found = difflib.get_close_matches(name, typed) or [each for each in typed if each.rpartition(".")[2] == last]
    return f": did you mean {', '.join(found[:3])}?" if found else ""


def _check_objective(sweep: Sweep, described: Described) -> None:
    asked, early = sweep.objective, sweep.early_stopping
    if asked.name not in described.metrics:
        close = difflib.get_close_matches(asked.name, described.metrics) or described.metrics
        raise UsageError(f"no such run writes the metric '{asked.name}': did you mean {', '.join(close)}?")
    for name, step in (
        ("metric: at", asked.at),
        ("early-stopping: grace", early and early.grace),
        ("population: interval", sweep.population and sweep.population.interval),
    ):
        if step is not None and step > described.length:
            raise UsageError(f"{name} is {step}, but a run ends at {described.length} {sweep.step}")
