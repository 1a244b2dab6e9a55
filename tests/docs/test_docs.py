"""The pages say what is so: their commands exist and run, their links lead somewhere, the README is short.

What stands in a ```bash block of a page is a command that a reader can type. Those of the README and of the tutorial
are run, in this order and in one folder, each in a cheap form (`Story`); of all others every option has to exist.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import pathlib
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence

import jax
import pytest
import small

from agent.events import Clock
from experiments import cli
from experiments.runs.metrics_log import Metrics
from experiments.runs.run_folder import RunFolder
from experiments.training import presets
from experiments.training.resolve import SimulatorFacts, resolve
from world_model import WorldModel

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[2]
README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorial.md"
GENERATED = (ROOT / "docs" / "_build", ROOT / "docs" / "reference" / "rooms")
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if not any(page.is_relative_to(folder) for folder in GENERATED)]
BYTES_OF_README = 8192


def blocks(page: pathlib.Path, language: str) -> list[str]:
    """What stands in the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: pathlib.Path) -> list[list[str]]:
    """The words of every line of the bash blocks; a backslash at a line's end joins it with the next."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def name(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name)


# --- what is shown exists ---------------------------------------------------------------------------------------------


@functools.cache
def options_of(*words: str) -> frozenset[str]:
    """All options that the help of a command names."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("COLUMNS", "200")  # no option is broken into two lines
        with pytest.raises(SystemExit) as left:
            cli.run([*words, "--help"])
    assert not left.value.code, words
    return frozenset(re.findall(r"--[a-z0-9][\w.-]*", printed.getvalue()))


def value_of(words: Sequence[str], option: str) -> list[str]:
    """The option with its value, where it is among the words."""
    return list(words[(at := words.index(option)) : at + 2]) if option in words else []


@every_page
def test_every_command_shown_exists_with_all_its_options(page):
    for program, *words in commands(page):
        if program == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {word for word in words if "=" not in word} <= set(targets), words
        elif program == "python":
            assert (ROOT / words[0]).exists(), words
        elif program == "pip":
            extras = (ROOT / "setup.cfg").read_text().partition("[options.extras_require]")[2]
            for wanted in re.findall(r"\.\[(.+?)\]", " ".join(words)):
                assert all(re.search(rf"^{extra} =", extras, re.MULTILINE) for extra in wanted.split(",")), words
        else:
            assert program == "ivideogpt", f"{program} is no command that this test knows"
            assert words[0] in cli.COMMANDS, words
            choices = [part for option in ("--preset", "--algorithm") for part in value_of(words, option)]
            known = options_of(words[0], *(choices if words[0] in ("train", "pretrain", "finetune") else []))
            assert {word for word in words if word.startswith("--")} <= known, words


@every_page
def test_no_sentence_names_a_command_that_is_not_there(page):
    assert set(re.findall(r"`(?:\.venv/bin/)?ivideogpt ([a-z][a-z-]*)", page.read_text("utf-8"))) <= set(cli.COMMANDS)


@every_page
def test_every_relative_link_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, _ = target.partition("#")
        if path and not re.match(r"[a-z]+:", path):
            made = [(page.parent / path).resolve().is_relative_to(folder) for folder in GENERATED]
            assert (page.parent / path).exists() or any(made), f"{name(page)} links to {target}"


@every_page
def test_every_heading_that_is_linked_to_is_there(page):
    for path, heading in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", path) or "commands.md" in path:  # headings that are made when the pages are built
            continue
        other = (page.parent / path if path else page).resolve()
        text = other.read_text("utf-8")
        included = re.findall(r"^```\{include\} (\S+)", text, re.MULTILINE)
        text = "\n".join([text, *((other.parent / part).read_text("utf-8") for part in included)])
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
        assert heading in slugs, f"{name(page)} links to {path}#{heading}"


def test_every_file_that_a_page_names_is_there():
    for page in PAGES:
        for path in re.findall(
            r"`((?:tokenizer|world_model|agent|experiments|tests)/[\w/.-]+)`", page.read_text("utf-8")
        ):
            assert (ROOT / path).exists() or "<" in path, f"{name(page)} names {path}"


def test_every_test_that_a_page_names_is_there():
    there = {
        found
        for file in ROOT.joinpath("tests").rglob("*.py")
        for found in re.findall(r"def (test_\w+)", file.read_text())
    }
    named = {found for page in PAGES for found in re.findall(r"`(test_\w+)`", page.read_text("utf-8"))}
    assert len(named) > 30
    assert not named - there


def test_every_page_is_in_a_table_of_contents():
    pages = {page.relative_to(ROOT / "docs").with_suffix("") for page in PAGES if page.is_relative_to(ROOT / "docs")}
    listed = {pathlib.Path("index")}
    for page in PAGES:
        for entries in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            words = [line for line in entries.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / word).relative_to(ROOT / "docs") for word in words}
    assert pages <= listed


def test_built_pages_load_nothing_from_elsewhere():
    """Links may lead anywhere; scripts, styles, fonts, pictures and frames lie beside the pages."""
    built = sorted(GENERATED[0].rglob("*.html"))
    if not built:
        pytest.skip("make docs has not been run here")
    for page in built:
        loaded = re.findall(r"<(?:script|link|img|source|video|iframe)\b[^>]*", page.read_text("utf-8"))
        assert not [tag for tag in loaded if re.search(r"""(?:src|href)=["'](?:https?:)?//""", tag)], page
    for sheet in GENERATED[0].rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import )\s*["']?(?:https?:)?//""", sheet.read_text("utf-8")), sheet


# --- the README -------------------------------------------------------------------------------------------------------


def test_the_readme_is_a_door():
    assert len(README.read_bytes()) <= BYTES_OF_README


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    """On a small model, with as many pixels and numbers an action as that takes."""
    larger = dataclasses.replace(small.TRANSFORMER, max_positions=128)
    config = dataclasses.replace(small.CONFIG, transformer=larger)
    WorldModel.init(config, jax.random.key(0)).save(tmp_path / "model")
    (code,) = blocks(README, "python")
    for shown, small_one in {
        "laptop-metaworld": str(tmp_path / "model"),
        "64, 64, 3": "16, 16, 3",
        "(1, 4, 4)": "(1, 4, 3)",
        "(1, 4), minval": "(1, 3), minval",
    }.items():
        assert shown in code
        code = code.replace(shown, small_one)
    found: dict = {}
    exec(code, found)
    assert found["video"].frames.shape == (1, 4, 16, 16, 3)
    assert found["imagined"].frames.shape == (1, 10, 16, 16, 3)
    assert found["frame"].shape == (1, 16, 16, 3)


# --- the story --------------------------------------------------------------------------------------------------------


HELD_OUT = {"--data": ["data/mine"], "--split": ["all"], "--videos": ["1"], "--horizon": ["2"]}
SMALL = {
    "collect-demos": {"--episodes": ["1"]},
    "collect-data": {
        "--scripted": ["1"],
        "--noisy": ["0"],
        "--random": ["1"],
        "--tasks": ["reach"],
        "--workers": ["1"],
    },
    "train": {"--preset": ["debug"]},
    "pretrain": {"--preset": ["debug"], "--data": ["data/mine", "data/mw/reach"]},
    "finetune": {"--preset": ["debug"]},
    "evaluate": {**HELD_OUT, "--samples": ["1"], "--without": ["fvd", "lpips"]},
    "predict": HELD_OUT,
    "sweep": {"--dry-run": []},
    "plan": {"--preset": ["debug"], "--model": ["copy-last"], "--episodes": ["1"]},
}
"""Instead of what is shown, or besides."""
EXAMPLE = "experiments/sweeps/example.yaml"
ELSEWHERE = {"laptop-metaworld": "runs/model", EXAMPLE: str(ROOT / EXAMPLE)}
"""Where the story finds what a reader has in the project's folder, or what is too large."""
ONE_EPISODE = ["--schedule.agent-steps", "100", "--schedule.random-agent-steps", "100", "--held-out", "1"]


class Story:
    """Types commands one after the other in an empty folder.

    Real are the simulator, the conversions, DrQ-v2, evaluations, predictions and reports. A world model that `train`,
    `pretrain` or `finetune` would train for minutes stays as it begins: what was typed is parsed and resolved, and the
    run folder appears.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        from experiments.pretraining import command
        from experiments.training import run

        self._really_train, self._really_pretrain = run.train, command.run
        monkeypatch.setattr(run, "train", self._train)
        monkeypatch.setattr(command, "run", self._pretrain)

    def type(self, words: Sequence[str]) -> None:
        command, *rest = self._small(words)
        try:
            code = cli.run([command, *rest])
        except SystemExit as left:
            code = left.code
        assert not code, [command, *rest]

    def _small(self, words: Sequence[str]) -> list[str]:
        changed = [ELSEWHERE.get(word, word) for word in words]
        for option, values in SMALL.get(words[0], {}).items():
            if option in changed:
                first = changed.index(option) + 1
                last = next((i for i in range(first, len(changed)) if changed[i].startswith("--")), len(changed))
                changed[first - 1 : last] = []
            changed += [option, *values]
        if "drqv2" in changed:
            changed += ONE_EPISODE
        return changed

    def _train(self, *given, **named):
        asked = inspect.signature(self._really_train).bind(*given, **named).arguments
        experiment, run_dir = asked["experiment"], asked["run_dir"]
        if presets.get("debug", "drqv2").algorithm == experiment.algorithm:
            return self._really_train(*given, **named)
        episodes = asked["demonstrations"]
        assert episodes is None or any(pathlib.Path(episodes).glob("*.npz"))
        wanted = resolve(experiment, SimulatorFacts(4, 64, True), None, asked["typed"])
        found = {"eval/success": 0.5, "eval/return": 1.0, "eval/episodes": 2}
        self._begin(run_dir, wanted.record(), asked["command"], found)
        WorldModel.init(wanted.algorithm.world_model, jax.random.key(0)).save(RunFolder(run_dir).model)
        return run_dir

    def _pretrain(self, *given, **named):
        asked = inspect.signature(self._really_pretrain).bind(*given, **named).arguments
        config, run_dir = asked["config"], asked["run_dir"]
        self._begin(run_dir, config, asked["command"])
        WorldModel(config.world_model, asked["params"]).save(RunFolder(run_dir).model)
        return run_dir

    @staticmethod
    def _begin(run_dir, config, command, evaluation: Mapping[str, float] | None = None) -> None:
        with RunFolder(run_dir).claim(config, command) as folder, Metrics(folder.metrics) as metrics:
            if evaluation is not None:
                metrics.write(Clock(), evaluation)


@pytest.mark.parametrize("page", [README, TUTORIAL], ids=name)
def test_the_commands_of_readme_and_tutorial_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    story = Story(monkeypatch)
    for program, *words in commands(page):
        if program == "ivideogpt":
            story.type(words)


def test_make_demo_is_the_command_that_the_tutorial_shows():
    shown = next(shlex.join(words) for words in commands(TUTORIAL) if words[0] == "ivideogpt" and "demo" in words)
    assert f"$(VENV)/bin/{shown} " in (ROOT / "Makefile").read_text()


def test_this_test_would_find_an_option_that_is_not_there(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    shutil.copy(README, page)
    page.write_text(page.read_text().replace("--schedule.agent-steps", "--mbpo.agent-steps"))
    with pytest.raises(AssertionError):
        test_every_command_shown_exists_with_all_its_options(page)
