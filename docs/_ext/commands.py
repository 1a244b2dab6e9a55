"""The command line as pages see it: what each command's own `--help` says, as Markdown."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator

from sphinx.util import logging

LOGGER = logging.getLogger(__name__)

COLUMNS = "110"
"""How wide a help text is asked for; its lines are joined again."""

_BOX = re.compile(r"^╭─ (?P<title>.+?) ─*╮$")
_OPTION = re.compile(r"^(?P<option>(-|\{|\[)\S.*?|[a-z]\S*|TABLE\S*|SRC|DST)(\s{2,}(?P<text>\S.*))?$")


@dataclasses.dataclass
class Group:
    """Options under one heading."""

    title: str
    description: list[str] = dataclasses.field(default_factory=list)
    options: list[list[str]] = dataclasses.field(default_factory=list)  # name and what is said of it


@dataclasses.dataclass
class Help:
    """A help text in its parts."""

    usage: str
    description: str
    groups: list[Group]
    rest: str = ""  # behind the options, as it stands


def help_text(*words: str) -> str:
    """What `ivideogpt <words> --help` prints; a command that cannot say it is a warning of the build."""
    from experiments import cli

    out, before = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            cli.run([*words, "--help"])
    except Exception as error:  # whatever it is: the other commands are described all the same
        LOGGER.warning("ivideogpt %s --help: %s: %s", " ".join(words), type(error).__name__, error)
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return out.buffer.getvalue().decode("utf-8")


def parse(text: str) -> Help:
    """A help text of argparse's or of tyro's."""
    head, _, body = text.partition("\n\n")
    usage = re.sub(r"\s+", " ", head.removeprefix("usage:")).strip()
    if "╭─" in body:
        described, _, boxes = body.partition("╭─")
        return Help(usage, _one_line(described), list(_of_boxes("╭─" + boxes)))
    described, _, options = body.partition("\n\n")
    found = Help(usage, _one_line(described), [])
    for paragraph in re.split(r"\n\n(?=\S)", options):
        title, _, lines = paragraph.partition("\n")
        if found.rest or title.startswith("formats") or not title.endswith(":"):
            found.rest += paragraph + "\n\n"
        else:
            found.groups.append(_group(title.rstrip(":"), lines.splitlines()))
    return found


def _of_boxes(text: str) -> Iterator[Group]:
    title, lines = "", []
    for line in text.splitlines():
        if opened := _BOX.match(line):
            title, lines = opened["title"].strip(), []
        elif line.startswith("╰"):
            yield _group(title, lines)
        elif line.startswith("│"):
            lines.append(line.strip("│").rstrip())


def _group(title: str, lines: list[str]) -> Group:
    rule = next((i for i, line in enumerate(lines) if line.strip() and set(line.strip()) == {"─"}), -1)
    group = Group(title, [line.strip() for line in lines[: max(rule, 0)]])
    indent = min((len(line) - len(line.lstrip()) for line in lines[rule + 1 :] if line.strip()), default=0)
    for line in lines[rule + 1 :]:
        starts = line[indent : indent + 1].strip() and _OPTION.match(line[indent:])
        if not line.strip():
            continue
        if starts and group.options and group.options[-1][0].endswith(","):
            group.options[-1][0] += " " + line.strip()
        elif starts:
            group.options.append([starts["option"].strip(), starts["text"] or ""])
        elif group.options:
            group.options[-1][1] += " " + line.strip()
    return group


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def as_markdown(help_: Help, leave_out: frozenset[str] = frozenset()) -> str:
    """Usage, what it does, and the options as a list of terms. leave_out: titles of groups."""
    lines = ["```text", help_.usage, "```", "", _escaped(help_.description), ""]
    for group in help_.groups:
        options = [option for option in group.options if not option[0].startswith("-h,")]
        if not options or group.title in leave_out:
            continue
        lines += [f"**{group.title}**", ""]
        if any(group.description):
            lines += [" ".join(group.description).strip().replace("  ", " "), ""]
        for name, text in options:
            lines += [f"`{name}`", f": {_escaped(_one_line(text)) or '&nbsp;'}", ""]
    if help_.rest.strip():
        lines += ["```text", help_.rest.strip(), "```", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    text = re.sub(r"^\((default: .*|required)\)$", r"\1", text.replace("(default: )", "").strip())
    return re.sub(r"([*_<>\[\]$])", r"\\\1", text)


def all_commands() -> str:
    """Every command of the table in experiments/cli.py, one heading each."""
    from experiments.cli import COMMANDS

    parts = []
    for name in COMMANDS:
        parts += [f"## {name}", "", as_markdown(parse(help_text(name))), ""]
        if name == "train":
            parts += list(_other_algorithms())
    return "\n".join(parts)


def _other_algorithms() -> Iterator[str]:
    """The settings of the algorithms that the default preset does not show."""
    from experiments.training.algorithms import ALGORITHMS

    shown = frozenset(group.title for group in parse(help_text("train")).groups)
    for algorithm in ALGORITHMS:
        found = parse(help_text("train", "--algorithm", algorithm))
        if {group.title for group in found.groups} <= shown:
            continue
        yield f"### train --algorithm {algorithm}\n"
        yield as_markdown(dataclasses.replace(found, description="Besides what is above:"), shown) + "\n"
