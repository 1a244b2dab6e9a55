"""What was typed becomes frozen dataclasses, and it is known which settings those words were."""

import dataclasses
from typing import NamedTuple

import pytest

from experiments.errors import UsageError
from experiments.runs.settings import parse_choices, parse_settings, typed_names


class Weights(NamedTuple):
    picture: float = 1.0
    reward: float = 2.0


@dataclasses.dataclass(frozen=True)
class Inner:
    steps: int = 3
    careful: bool = True
    weights: Weights = Weights()

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, expected at least 1")


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = "here"
    inner: Inner = Inner()


@dataclasses.dataclass(frozen=True)
class Choices:
    preset: str = "small"
    fast: bool = False


def parse(*words: str) -> dict:
    defaults = {"_choices": parse_choices(Choices, "prog", words), "_outer": Outer(), "algorithm": Inner()}
    return parse_settings("prog", "described", words, defaults)


def test_choices_are_read_first_and_everything_else_by_its_dotted_name():
    words = ["--algorithm.steps", "5", "--preset", "large", "--inner.no-careful", "--name=there", "--fast"]
    found = parse(*words)
    assert found["_choices"] == Choices("large", True)
    assert found["_outer"] == Outer("there", Inner(careful=False))
    assert found["algorithm"] == Inner(steps=5)


def test_a_value_that_a_dataclass_refuses_is_one_sentence():
    with pytest.raises(UsageError, match=r"^steps is 0, expected at least 1$"):
        parse("--inner.steps", "0")


def test_an_unknown_word_is_told_by_the_parser(capsys):
    with pytest.raises(SystemExit, match="2"):
        parse("--algorithm.stps", "5")
    assert "--algorithm.steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        (["train", "--prest", "debug"], "train"),
        (["train", "--algorithm"], "train"),
        (["pretrain", "tokenzer"], "pretrain"),
        (["finetune", "--preset"], "finetune"),
        (["collect-data", "--tsks"], "collect-data"),
    ],
)
def test_a_mistake_points_to_the_help_of_its_command(ivideogpt, typed, command):
    """Fault 19: it pointed to that of no command."""
    said = ivideogpt(*typed)
    assert said.code == 2 and f"ivideogpt {command} --help" in said.err and "ivideogpt --help" not in said.err


def test_help_shows_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse("--preset", "large", "--help")
    said = capsys.readouterr().out
    assert "(default: large)" in said and "--algorithm.weights.reward" in said


def test_the_settings_that_were_typed_are_known_by_name():
    words = ["--inner.steps", "5", "--inner.no-careful", "--inner.weights.reward=1", "--name", "--steps"]
    expected = {"inner.steps", "inner.careful", "inner.weights.reward", "name"}
    assert typed_names(words, Outer()) == expected
    assert typed_names(["--mbpo.steps", "1", "--steps", "2"], Inner(), "mbpo.") == {"mbpo.steps"}
