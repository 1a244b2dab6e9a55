"""From what was typed to frozen dataclasses: a command's choices first, then every setting of what they chose."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tyro
from tyro import _errors

from experiments.errors import UsageError

Chosen = TypeVar("Chosen")

HELP = frozenset({"-h", "--help"})


def parse_choices(kind: type[Chosen], prog: str, arguments: Sequence[str]) -> Chosen:
    """What was typed for the fields of `kind`, a dataclass; all other words are left for `parse_settings`.

    prog: the command, whose help an error points to.
    """
    words = [word for word in arguments if word not in HELP]
    return tyro.cli(kind, prog=prog, args=words, return_unknown_args=True)[0]


def parse_options(kind: type[Chosen], prog: str, description: str, arguments: Sequence[str]) -> Chosen:
    """All that was typed, as one dataclass. Raises UsageError for values that it refuses itself."""
    with _refused_values_as_sentences():
        return tyro.cli(kind, prog=prog, description=description, args=arguments)


def parse_settings(
    prog: str, description: str, arguments: Sequence[str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Every dataclass of `defaults` with the settings that were typed.

    A default under the name "" or "_..." has its fields typed without a prefix, one under "mbpo" as --mbpo.field.
    Raises UsageError for values that a dataclass itself refuses.
    """
    with _refused_values_as_sentences():
        return tyro.cli(
            _collector(defaults),
            prog=prog,
            description=description,
            args=arguments,
            config=(tyro.conf.AvoidSubcommands,),
        )


@contextlib.contextmanager
def _refused_values_as_sentences() -> Iterator[None]:
    """A value that a dataclass refuses is one sentence; other mistakes are told by the parser, with the closest
    names."""
    with _errors.on_parse_error(_say_what_does_not_fit):
        try:
            yield
        except UsageError:
            raise
        except ValueError as error:  # of a dataclass without a prefix, which the parser lets through
            raise UsageError(str(error)) from error


def _say_what_does_not_fit(event: object) -> None:
    if isinstance(event, _errors.InstantiationFailure):
        raise UsageError(event.message)


def _collector(defaults: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """A function of one argument for each default, as tyro reads its signature."""

    def collect(**values: Any) -> dict[str, Any]:
        return values

    parameters = []
    for name, default in defaults.items():
        kind: Any = type(default)
        if name.startswith("_"):
            kind = Annotated[kind, tyro.conf.arg(name="")]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind))
    collect.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    collect.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return collect


def typed_names(arguments: Sequence[str], settings: Any, prefix: str = "") -> frozenset[str]:
    """The dotted names of the settings of a dataclass that stand among the words, with or without their values.

    `--mbpo.world-model.transformer.no-reward-head` is mbpo.world_model.transformer.reward_head.
    """
    words = {word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")}
    found = set()
    for name in dotted_names(settings, prefix):
        head, _, last = name.replace("_", "-").rpartition(".")
        dot = f"{head}." if head else ""
        if {f"--{dot}{last}", f"--{dot}no-{last}"} & words:
            found.add(name)
    return frozenset(found)


def dotted_names(settings: Any, prefix: str = "") -> list[str]:
    """The names of all settings of a dataclass, however deep, as they are typed but for their underscores."""
    names: list[str] = []
    for field in _fields(settings):
        value, name = getattr(settings, field), f"{prefix}{field}"
        names += dotted_names(value, f"{name}.") if _fields(value) else [name]
    return names


def _fields(value: Any) -> tuple[str, ...]:
    """The names of a dataclass's or a named tuple's fields; none of anything else."""
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return getattr(value, "_fields", ())
