"""The house: four floors, and rooms in them; every import goes down, and none in a circle."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FLOORS = ("tokenizer", "world_model", "agent", "experiments")
"""From the ground up; each may import only from those before it."""
ROOMS = (
    "agent",
    "agent.drqv2",
    "agent.mbpo",
    "agent.dreamerv3",
    "agent.planning",
    "experiments.errors",
    "experiments.weights",
    "experiments.envs",
    "experiments.runs",
    "experiments.data",
    "experiments.reports",
    "experiments.evaluation",
    "experiments.planning",
    "experiments.training",
    "experiments.pretraining",
    "experiments.benchmarks",
    "experiments.sweeps",
    "experiments.cli",
)
"""From the bottom up, within the two upper floors; a room may import only from those before it."""


def imported(path: pathlib.Path) -> list[tuple[int, str]]:
    """Line and dotted name of every import of a file, wherever it stands: in a function or for type checkers, too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: imports name their whole module"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def room_of(name: str) -> str:
    """The room that a dotted name lies in: the longest that it begins with."""
    fits = [room for room in ROOMS if f"{name}.".startswith(f"{room}.")]
    return max(fits, key=len, default=name.partition(".")[0])


def upward_imports(root: pathlib.Path) -> list[str]:
    wrong = []
    for height, floor in enumerate(FLOORS):
        for path in sorted((root / floor).rglob("*.py")):
            here = room_of(".".join(path.relative_to(root).with_suffix("").parts))
            for line, name in imported(path):
                top, room = name.partition(".")[0], room_of(name)
                up = top in (*FLOORS[height + 1 :], "tests")
                sideways = here in ROOMS and room in ROOMS and ROOMS.index(room) > ROOMS.index(here)
                if up or sideways:
                    wrong.append(f"{path.relative_to(root)}:{line} imports {name}")
    return wrong


def test_every_import_goes_down_the_floors_and_the_rooms():
    assert all(any((ROOT / floor).rglob("*.py")) for floor in FLOORS)
    assert upward_imports(ROOT) == []


def test_every_file_has_a_room_whose_first_sentence_says_what_it_is_for():
    for floor in FLOORS:
        for folder in {path.parent for path in (ROOT / floor).rglob("*.py")}:
            described = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
            assert described and described.splitlines()[0].endswith((".", ":")), folder
    drawer = [path.stem for path in (ROOT / "experiments").glob("*.py")]
    assert set(drawer) <= {"__init__", "cli", "errors"}
    paths = [path.relative_to(ROOT) for path in (ROOT / "experiments").rglob("*.py")]
    rooms = {room_of(".".join(path.with_suffix("").parts)) for path in paths}
    assert rooms - {"experiments"} <= set(ROOMS)


def test_no_class_name_stands_for_two_things():
    names: dict[str, pathlib.Path] = {}
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    assert node.name not in names, f"{node.name} is in {names[node.name]} and in {path}"
                    names[node.name] = path


@pytest.mark.parametrize(
    "source",
    [
        "import world_model",
        "import numpy, agent.replay",
        "from experiments.runs.metrics_log import Metrics",
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


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("experiments/envs", "from experiments.training import presets"),
        ("experiments/data", "def late():\n    from experiments import reports"),
        ("agent/drqv2", "from agent.mbpo import MBPO"),
    ],
)
def test_an_import_that_goes_up_between_rooms_is_found(tmp_path, room, source):
    (tmp_path / room).mkdir(parents=True)
    (tmp_path / room / "made_up.py").write_text(source)
    (found,) = upward_imports(tmp_path)
    assert found.startswith(f"{room}/made_up.py:")


def test_help_and_errors_wait_for_no_heavy_package_and_work_where_one_is_missing():
    heavy = ("jax", "flax", "mujoco", "matplotlib", "scipy")
    source = (
        f"import sys, experiments.cli, experiments.errors; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
