import ast
import pathlib

import pytest

FLOORS = ("tokenizer", "world_model", "agent", "experiments")
"""From the ground up; each may import only from those before it."""
ROOT = pathlib.Path(__file__).parents[2]


def imported(path: pathlib.Path, package: str) -> list[tuple[int, str]]:
    """Line and top-level name of every import of a file, wherever it stands: in a function or for type checkers, too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, package if node.level else node.module.partition(".")[0]))
    return found


def upward_imports(root: pathlib.Path) -> list[str]:
    wrong = []
    for height, floor in enumerate(FLOORS):
        for path in sorted((root / floor).rglob("*.py")):
            for line, name in imported(path, floor):
                if name in (*FLOORS[height + 1 :], "tests"):
                    wrong.append(f"{path.relative_to(root)}:{line} imports {name}")
    return wrong


def test_every_import_goes_down_the_four_floors():
    assert all(any((ROOT / floor).rglob("*.py")) for floor in FLOORS)
    assert upward_imports(ROOT) == []


@pytest.mark.parametrize(
    "source",
    [
        "import world_model",
        "import numpy, agent.replay",
        "from experiments.metrics import Metrics",
        "def late():\n    from world_model import layout",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import agent as a",
        "from tests import anything",
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path, source):
    for floor in FLOORS:
        (tmp_path / floor / "deep").mkdir(parents=True)
    (tmp_path / "tokenizer" / "deep" / "made_up.py").write_text(source)
    (tmp_path / "experiments" / "fine.py").write_text("import tokenizer, world_model\nfrom agent import replay")
    (found,) = upward_imports(tmp_path)
    assert found.startswith("tokenizer/deep/made_up.py:")
