"""Published series stand beside our own runs, under their source and protocol."""

import pathlib
import re

import pytest

from experiments import cli
from experiments.errors import UsageError
from experiments.reports import references

RESULTS = pathlib.Path(__file__).parents[3] / "experiments" / "results"
HEAD = "task,method,seed,env_steps,success"
SOURCE = "A made-up study <of> nothing (2020)"
DESCRIPTION = f"""source: "{SOURCE}"
protocol:
  benchmark: Meta-World v2
  camera: corner2
  demonstrations: 0
"""


def series(method="other", task="plate-slide", seeds=2, success=(0.0, 0.7, 0.9)):
    return "".join(
        f"{task},{method},{seed},{10_000 * (i + 1)},{share + 0.1 * seed * (i == 1)}\n"
        for seed in range(seeds)
        for i, share in enumerate(success)
    )


def write(folder, rows=None, described=DESCRIPTION):
    path = folder / "study.csv"
    path.write_text(f"{HEAD}\n{series() if rows is None else rows}")
    if described is not None:
        path.with_suffix(".yaml").write_text(described)
    return path


@pytest.fixture
def table(tmp_path):
    """Two of our runs on plate-slide."""
    lines = (RESULTS / "side_by_side.csv").read_text().splitlines(keepends=True)
    path = tmp_path / "ours.csv"
    path.write_text(
        lines[0] + "".join(line for line in lines if re.match("agent,plate-slide,(mbpo|drqv2),laptop,0,", line))
    )
    return path


def text(html):
    html = re.sub(r"<(style|svg).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_a_published_series_is_shown_and_enters_no_average(tmp_path, table):
    page, csv = tmp_path / "page.html", tmp_path / "found.csv"
    arguments = ["report", str(table), "--out", str(page), "--findings", str(csv)]
    assert cli.run(arguments) == 0
    before, numbers = text(page.read_text()), csv.read_text()
    assert cli.run([*arguments, "--reference", str(write(tmp_path))]) == 0
    after = text(page.read_text())
    assert csv.read_text() == numbers and "(published)" not in numbers
    own, _, beside = after.partition("Beside published series")
    assert own.strip() == before.strip()
    assert "A made-up study &lt;of&gt; nothing (2020)" in beside and "corner2" in beside and "not stated" in beside
    assert re.search(r"plate-slide other \(published\) 2 30,000 90% 30,000 2 of 2", beside)


def test_every_field_of_the_protocol_that_differs_is_marked(tmp_path, table):
    page = tmp_path / "page.html"
    reference = write(tmp_path, described=DESCRIPTION + "  observation: pixels\n  pretrained: none\n")
    assert cli.run(["report", str(table), "--out", str(page), "--reference", str(reference)]) == 0
    marked = {}
    for row in re.findall(r"<tr><td>([a-z ]+)</td>(<td class=\"(?:differs)?\">.*?)</tr>", page.read_text()):
        marked[row[0]] = re.findall(r'<td class="(differs)?">', row[1])[-1] == "differs"
    assert marked["camera"] and marked["benchmark"] and marked["action repeat"] and marked["cloning"]
    assert not marked["observation"] and not marked["pretrained"]


def test_seeds_reach_80_percent_each_and_in_the_mean(tmp_path):
    rows = series(success=(0.0, 0.75, 0.7, 0.95)) + series("worse", success=(0.0, 0.1, 0.2))
    found = references.read_reference(write(tmp_path, rows), ["plate-slide", "reach"])
    assert [run.method for run in found.runs] == ["other (published)"] * 2 + ["worse (published)"] * 2
    assert found.runs[1].solved() == 20_000 and found.runs[0].solved() == 40_000
    x, mean = references.mean_curve(found.runs[:2])
    assert x.tolist() == [10_000, 20_000, 30_000, 40_000] and mean == pytest.approx([0, 0.8, 0.7, 0.95])


@pytest.mark.parametrize(
    ("rows", "described", "said"),
    [
        (None, None, r"study\.yaml cannot be read .*compare\.md"),
        (None, "protocol: {}\n", "names no source"),
        (None, "source: x\nprotocol: [1]\n", "its protocol is"),
        (
            None,
            "source: x\nprotocol: {cameras: corner}\n",
            "unknown field of a protocol 'cameras': did you mean camera",
        ),
        (None, "source: [", "no YAML"),
        ("plate-slide,a,0,100,1.5\n", DESCRIPTION, r"study\.csv, line 2: env_steps is 100.0, success 1.5"),
        ("plate-slide,a,0,-1,0.5\n", DESCRIPTION, "env_steps is -1"),
        ("plate-slide,a,0,nan,0.5\n", DESCRIPTION, "env_steps is nan"),
        ("plate-slide,a,0,x,0.5\n", DESCRIPTION, "line 2: could not convert"),
        ("plate-slide,a,0,1,0.5\nplate-slide,a,0,1,0.6\n", DESCRIPTION, "line 3: a, plate-slide, seed 0 has step 1 tw"),
        ("plate-slide,a,0\n", DESCRIPTION, "fewer cells"),
        ("", DESCRIPTION, "is no table of published series .*compare.md"),
        ("hammer,a,0,1,0.5\n", DESCRIPTION, r"has none of the tasks of these runs \(plate-slide\)"),
    ],
)
def test_what_is_no_reference_is_refused_in_a_sentence(tmp_path, rows, described, said):
    with pytest.raises(UsageError, match=said) as error:
        references.read_reference(write(tmp_path, rows, described), ["plate-slide"])
    assert "\n" not in str(error.value)
