"""What pages say that is written elsewhere: commands, docstrings and committed tables, put in when the pages are built.

A line `<!-- generated: KIND WORDS -->` in a page's source stands for what KIND makes of WORDS.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import io
import pathlib
import re
import tokenize
from typing import Any

import commands
import results
from sphinx.application import Sphinx

ROOT = pathlib.Path(__file__).parents[2]
MARK = re.compile(r"^<!-- generated: (\S+) ?(.*?) -->$", re.MULTILINE)


def room(name: str) -> str:
    """What a package is for, and one heading for each module in it; packages within it have pages of their own."""
    folder = ROOT / name.replace(".", "/")
    parts, modules = [_first_sentence(_file(name)), ""], sorted(path.stem for path in folder.glob("*.py"))
    modules.remove("__init__")
    parts += ["| module | what it is for |", "|---|---|"] if modules else []
    parts += [f"| `{module}` | {_first_sentence(folder / f'{module}.py')} |" for module in modules]
    for module in modules:
        parts += ["", f"## {name}.{module}", "", "```{eval-rst}", f".. automodule:: {name}.{module}", "```"]
    return "\n".join(parts)


FLOORS = ("tokenizer", "world_model", "agent", "experiments")


def packages() -> list[str]:
    """Dotted names of all packages of the four floors, each before those within it."""
    found = (path.parent for floor in FLOORS for path in sorted((ROOT / floor).rglob("__init__.py")))
    return [".".join(folder.relative_to(ROOT).parts) for folder in found]


def rooms(words: str) -> str:
    """A line for each package, with the page where its modules are."""
    rows = ["| room | what it is for |", "|---|---|"]
    rows += [f"| [{name}](rooms/{name}.md) | {_first_sentence(_file(name))} |" for name in packages()]
    return "\n".join(rows)


def _file(package: str) -> pathlib.Path:
    return ROOT / package.replace(".", "/") / "__init__.py"


def _write_room_pages(app: Sphinx) -> None:
    """A page for each package. One that says the same already is left alone, so that it is not built again."""
    folder = pathlib.Path(app.srcdir) / "reference" / "rooms"
    folder.mkdir(exist_ok=True)
    wanted = {f"{name}.md": f"# {name}\n\n<!-- generated: room {name} -->\n" for name in packages()}
    for path in folder.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        if not (folder / name).exists() or (folder / name).read_text() != text:
            (folder / name).write_text(text)


def _first_sentence(path: pathlib.Path) -> str:
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())
    return text.replace("|", "\\|")


def public(package: str) -> str:
    """The names that a package exports, each with the page where it is described."""
    module = importlib.import_module(package)
    rows = ["| name | what it is |", "|---|---|"]
    for name in sorted(module.__all__, key=str.lower):
        value = getattr(module, name)
        home = getattr(value, "__module__", None)
        summary = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append(f"| {{py:obj}}`{name} <{home}.{name}>` | {summary} |" if home else f"| `{name}` | a constant |")
    return "\n".join(rows)


MAKERS = {
    "command-line": lambda words: commands.all_commands(),
    "room": room,
    "rooms": rooms,
    "public": public,
    "results": results.make,
}


def _fill_in(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = MARK.sub(lambda mark: MAKERS[mark[1]](mark[2]), source[0])


# --- docstrings -------------------------------------------------------------------------------------------------------


def _as_rst(app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are plain text with `code` in them; what else reStructuredText would read into them is escaped."""
    if not any(lines) and kind == "attribute":
        owner, _, field = name.rpartition(".")
        lines[:] = [_comments(owner).get(field, "")]
    paragraphs = "\n".join(lines).split("\n\n")
    lines[:] = [line for paragraph in paragraphs for line in (*_paragraph(paragraph.splitlines()), "")]


def _paragraph(lines: list[str]) -> list[str]:
    """Text, or what has been laid out by hand and stays so: an example, columns."""
    indents = {len(line) - len(line.lstrip()) for line in lines}
    columns = any(re.search(r"\S {3,}\S", line) for line in lines)
    if not lines or lines[0].lstrip().startswith(("- ", "* ", "1. ")):
        return lines
    if columns or indents != {0}:
        return ["::", "", *(f"    {line}" for line in lines)]
    return [_line(line) for line in lines]


def _line(line: str) -> str:
    pieces = re.split(r"(`[^`]+`)", line)
    return "".join(f"`{piece}`" if i % 2 else re.sub(r"([*|_\\])", r"\\\1", piece) for i, piece in enumerate(pieces))


def _skip(app: Sphinx, kind: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what says nothing: names without a docstring, unless they are a dataclass's fields."""
    if name.startswith("_"):
        return True
    documented = getattr(value, "__doc__", None) not in (None, "", type(value).__doc__)
    if kind in ("module", "exception") or documented or skip:
        return None
    return None if kind in ("class", "attribute") else True


@functools.cache
def _comments(owner: str) -> dict[str, str]:
    """What the comments behind a class's fields say, by field."""
    module, _, name = owner.rpartition(".")
    try:
        source = inspect.getsource(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, OSError, TypeError):
        return {}
    by_line = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found[node.target.id] = " ".join(by_line[line] for line in lines if line in by_line)
    return found


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", _write_room_pages)
    app.connect("source-read", _fill_in)
    app.connect("autodoc-process-docstring", _as_rst)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
