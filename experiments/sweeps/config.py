"""What a sweep is: a YAML file, read into frozen dataclasses. `experiments/sweeps/example.yaml` shows every part."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from experiments.errors import UsageError
from experiments.sweeps.space import Space, flatten, number, parse_space
from tokenizer.limits import require_at_least

COMMANDS = ("train", "pretrain", "finetune")
SAMPLERS = ("tpe", "random", "qmc")
"""Of Optuna, by the names that a file has for them."""


def _one_of(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _whole(config: Any, smallest: int, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(config, name), int | None) or isinstance(getattr(config, name), bool):
            raise ValueError(f"{name.replace('_', '-')} is {getattr(config, name)!r}, expected a whole number")
    require_at_least(smallest, config, *names)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What trials are ranked by."""

    name: str
    mode: str  # max or min
    at: int | None = None
    """The agent step, or the update, at which it is read: the newest value up to there; None: the last one."""

    def __post_init__(self):
        _one_of("mode", self.mode, ("max", "min"))
        _whole(self, 0, "at")


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """How points of the space are found."""

    kind: str = "grid"  # grid, ablation, random or optuna
    samples: int | None = None
    """Points: of a random search, each with the whole of what it goes through; of Optuna."""
    sampler: str | None = None  # of Optuna: one of SAMPLERS
    seed: int = 0

    def __post_init__(self):
        _one_of("kind", self.kind, ("grid", "ablation", "random", "optuna"))
        _whole(self, 1, "samples")
        _whole(self, 0, "seed")
        if (self.kind in ("grid", "ablation")) != (self.samples is None):
            raise ValueError(
                "samples says how many points random and optuna look at; the others go through all they have"
            )
        if (self.kind == "optuna") != (self.sampler is not None):
            raise ValueError(f"sampler names one of Optuna's ({', '.join(SAMPLERS)}), and only kind: optuna has one")
        if self.sampler is not None:
            _one_of("sampler", self.sampler, SAMPLERS)


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """Asynchronous successive halving (Li et al., 2020): at rungs of agent steps, or of updates, only the best share of
    the trials that came so far goes on."""

    grace: int
    """The first rung; no trial is stopped before."""
    reduction: int = 3
    """Of so many trials one goes on, and the next rung is so many times as far."""

    def __post_init__(self):
        _whole(self, 1, "grace")
        _whole(self, 2, "reduction")


@dataclasses.dataclass(frozen=True)
class Population:
    """Population-based training (Jaderberg et al., 2017): whenever all trials have come so much further, the worst go
    on from where the best are, with settings near theirs."""

    interval: int
    """Agent steps from one such moment to the next."""
    quantile: float = 0.25
    """Share of the trials that are the worst, and the best."""

    def __post_init__(self):
        _whole(self, 1, "interval")
        if not 0 < self.quantile <= 0.5:
            raise ValueError(f"quantile is {self.quantile!r}, expected a share above 0, at most 0.5")


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a trial has for itself."""

    cpus: int = 1
    gpus: int = 0
    tpus: int = 0

    def __post_init__(self):
        _whole(self, 1, "cpus")
        _whole(self, 0, "gpus", "tpus")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A command, what is the same in all its trials, what differs, and how they are ranked and run."""

    command: str
    fixed: Mapping[str, Any]
    space: Space
    seeds: tuple[int, ...]
    """Every point is run with each of them; they are never searched over."""
    objective: Objective
    search: SearchConfig = SearchConfig()
    early_stopping: EarlyStopping | None = None
    population: Population | None = None
    resources: Resources = Resources()
    at_once: int | None = None
    """Trials side by side; None: as many as there is room for."""
    retries: int = 3
    """How often a trial that died is started again, where its newest checkpoint is."""
    slurm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """For sbatch, by submitit's names without `slurm_`: partition, time (minutes), account, qos, ..."""
    written: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The file as it was read."""

    def __post_init__(self):
        _one_of("command", self.command, COMMANDS)
        _whole(self, 1, "at_once")
        _whole(self, 0, "retries")
        if not self.seeds or not all(_is_seed(seed) for seed in self.seeds):
            raise ValueError(f"seeds is {list(self.seeds)}, expected whole numbers from 0 on")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds is {list(self.seeds)}: one is there twice")
        if self.population is not None:
            self._check_population()
        if self.search.kind == "ablation" and (self.early_stopping is not None or self.population is not None):
            raise ValueError(
                "an ablation compares whole runs with settings of their own: leave out early-stopping and population"
            )

    def _check_population(self) -> None:
        if self.command != "train":
            raise ValueError("population: only runs of train go on with other settings than they began with")
        if self.early_stopping is not None or self.search.kind == "optuna":
            raise ValueError(
                "population decides itself which settings go on: leave out early-stopping and kind: optuna"
            )
        if len(self.seeds) != 1:
            raise ValueError("population: its trials go on from each other's checkpoints, so that they share one seed")

    @property
    def step(self) -> str:
        """What the command's runs are measured over: a name in metrics.jsonl."""
        return "agent_steps" if self.command == "train" else "updates"


KEYS = ("command", "preset", "fixed", "space", "seeds", "metric", "search", "early-stopping", "population", "resources",
        "at-once", "retries", "slurm")  # fmt: skip
MAY_CHANGE = ("at-once", "resources", "retries", "slurm", "search.samples", "seeds")
"""What may differ when a sweep goes on: how many trials there are, and how they are run, but nothing within one."""


def load(path: pathlib.Path) -> Sweep:
    """Read a sweep. Raises UsageError, which names the file and the place in it."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path} is not there: the first word behind 'ivideogpt sweep' is a sweep's YAML file"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    return parse(raw, str(path))


def parse(raw: Any, where: str) -> Sweep:
    """A sweep from what its file holds. Raises UsageError."""
    try:
        _refuse_unknown(raw, KEYS, "the file")
        for name in ("command", "metric"):
            if name not in raw:
                raise ValueError(f"the file says no {name}")
        early = raw.get("early-stopping")
        return Sweep(
            command=raw["command"],
            fixed=_fixed(raw),
            space=parse_space(raw.get("space") or {}),
            seeds=tuple(raw.get("seeds", [0])) if isinstance(raw.get("seeds", [0]), list) else (),
            objective=_build(Objective, raw["metric"], "metric"),
            search=_build(SearchConfig, raw.get("search") or {}, "search"),
            early_stopping=None if early is None else _build(EarlyStopping, early, "early-stopping"),
            population=None if raw.get("population") is None else _build(Population, raw["population"], "population"),
            resources=_build(Resources, raw.get("resources") or {}, "resources"),
            at_once=raw.get("at-once"),
            retries=raw.get("retries", 3),
            slurm=flatten(raw.get("slurm") or {}, "slurm"),
            written=raw,
        )
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _fixed(raw: Mapping[str, Any]) -> dict[str, Any]:
    preset = {"preset": raw["preset"]} if "preset" in raw else {}
    given = {name: number(value) for name, value in flatten(raw.get("fixed") or {}, "fixed").items()}
    if set(preset) & set(given):
        raise ValueError("preset is there twice, by itself and under fixed")
    return preset | given


def _build(kind: type, raw: Any, where: str) -> Any:
    """A dataclass from a mapping with its fields, their underscores as hyphens."""
    names = {field.name.replace("_", "-"): field for field in dataclasses.fields(kind)}
    _refuse_unknown(raw, names, where)
    missing = [name for name, field in names.items() if field.default is dataclasses.MISSING and name not in raw]
    if missing:
        raise ValueError(f"{where} says no {missing[0]}")
    try:
        return kind(**{names[name].name: value for name, value in raw.items()})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _refuse_unknown(raw: Any, known: Collection[str], where: str) -> None:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where} is {raw!r}, expected some of {', '.join(known)}")
    for name in raw:
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known)) or list(known)
            raise ValueError(f"{where} has no '{name}': did you mean {', '.join(close)}?")
