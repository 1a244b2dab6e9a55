"""Runs compared: up to where, by which numbers, and what is said of all that is not alike."""

import csv
import io
import pathlib
import re

import numpy as np
import pytest

from experiments import cli
from experiments.reports import curves, findings, scores
from experiments.reports.page import write_report

ROOT = pathlib.Path(__file__).parents[3]
RESULTS = ROOT / "experiments" / "results"


def run(algorithm, seed, success, task="reach", every=100.0, **changes):
    row = {"kind": "agent", "task": task, "algorithm": algorithm, "preset": "laptop", "seed": seed, "pretrained": ""}
    row |= {"settings": "", "episodes": "20", "protocol": "demonstrations=5 cloning=2.0 rendering=fast resolution=64"}
    return [
        row | {"agent_steps": every * i, "env_steps": 2 * every * i, "wall_seconds": 60.0 * i}
        | {"success": share, "return": share} | changes
        for i, share in enumerate(success)
    ]  # fmt: skip


def seeds(algorithm, successes, **changes):
    return [row for seed, success in enumerate(successes) for row in run(algorithm, seed, success, **changes)]


def notes(rows):
    return [note.what for note in findings.find(rows).notes]


def test_alike_runs_have_nothing_to_note():
    assert notes(seeds("mbpo", [[0, 0.5, 1.0]] * 3) + seeds("drqv2", [[0, 0.5, 0.9]] * 3)) == []


def test_the_area_under_a_curve_is_a_mean_success():
    (only,), _ = scores.score(run("mbpo", 0, [0.0, 0.5, 1.0]))
    assert only.area(400) == pytest.approx(0.5) and only.area(200) == pytest.approx(0.25)
    assert only.area(300) == pytest.approx((0.25 * 200 + 0.625 * 100) / 300)
    assert only.area(0) == 0
    rng = np.random.default_rng(0)
    (other,), _ = scores.score(run("mbpo", 0, rng.uniform(size=20)))
    fine = np.linspace(0, 3000, 100_001)
    assert other.area(3000) == pytest.approx(np.interp(fine, other.over["env_steps"], other.success).mean(), abs=1e-4)


def test_longer_runs_are_compared_up_to_where_the_shortest_ends_and_it_is_said():
    rows = run("mbpo", 0, [0.0, 0.2, 0.4]) + run("drqv2", 0, [0.0, 0.2, 0.3, 1.0, 1.0])
    found = findings.find(rows)
    assert {each.method: each.success.value for each in found.tasks} == {"mbpo": 0.4, "drqv2": 0.3}
    assert all(each.budget == 400 for each in found.tasks)
    assert found.tasks[0].method == "drqv2" and found.tasks[0].steps.censored == 1
    (note,) = found.notes
    assert "unequal budgets: compared up to environment step 400, where mbpo, seed 0, ends" in note.what
    assert note.tasks == ("reach",)


def test_runs_that_never_solve_a_task_are_counted_and_no_mean_leaves_them_out():
    rows = seeds("mbpo", [[0, 0.9, 1.0], [0, 0.1, 0.2], [0, 0.0, 0.85]])
    (found,) = findings.find(rows).tasks
    assert (found.steps.censored, found.steps.runs) == (1, 3)
    assert found.steps.mean.value == pytest.approx((200 + 400 + 400) / 3)
    assert found.seconds.mean.value == pytest.approx((60 + 120 + 120) / 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"protocol": "demonstrations=0 cloning=2.0 rendering=fast resolution=64"}, "unequal demonstrations: drqv2: 5; "
         "mbpo: 0"),
        ({"protocol": "demonstrations=5 cloning=none rendering=fast resolution=64"}, "unequal cloning"),
        ({"protocol": ""}, "unequal resolution: drqv2: 64; mbpo: not stated"),
        ({"protocol": "camera=corner2 demonstrations=5 cloning=2.0 rendering=fast resolution=64"}, "unequal camera"),
        ({"protocol": "reward=sparse demonstrations=5 cloning=2.0 rendering=fast resolution=64"}, "unequal reward"),
        ({"pretrained": "laptop-metaworld"}, "unequal pretrained: drqv2: none; mbpo: laptop-metaworld"),
        ({"episodes": "5"}, "unequal evaluation episodes"),
        ({"preset": "demo"}, "unequal preset: drqv2: laptop; mbpo: demo"),
        ({"every": 50.0}, "unequal budgets"),
    ],
)  # fmt: skip
def test_what_is_not_alike_is_said(changes, said):
    rows = seeds("mbpo", [[0, 0.5, 1.0]] * 3, **changes) + seeds("drqv2", [[0, 0.5, 0.9]] * 3)
    assert any(said in what for what in notes(rows)), notes(rows)


def test_an_action_repeat_of_its_own_is_told_from_the_steps():
    other = [row | {"env_steps": 4 * row["agent_steps"]} for row in run("mbpo", 0, [0, 1], every=100.0)]
    assert "unequal action repeat: drqv2: 2; mbpo: 4" in notes(other + run("drqv2", 0, [0, 1, 1]))


def test_missing_seeds_are_said_and_left_out_of_what_is_pooled():
    rows = seeds("mbpo", [[0, 1.0]] * 3) + seeds("mbpo", [[0, 0.0]] * 2, task="push")
    rows += seeds("drqv2", [[0, 0.5]] * 3) + seeds("drqv2", [[0, 0.5]] * 3, task="push")
    found = findings.find(rows)
    (part,) = found.panels
    assert {each.method: each.seeds for each in part.aggregates} == {"mbpo": 2, "drqv2": 3}
    assert [each.mean.value for each in part.aggregates] == [0.5, 0.5]
    assert any("unequal seeds: drqv2 has 0, 1, 2; mbpo has 0, 1" in note.what for note in found.notes)
    (pair,) = found.pairs
    assert (pair.pairs, pair.unpaired, pair.tasks) == (5, 1, ("push", "reach"))


def test_methods_are_pooled_only_over_tasks_that_all_of_them_have():
    rows = [*run("a", 0, [0, 1]), *run("b", 0, [0, 1]), *run("a", 0, [0, 0], task="push")]
    rows += run("c", 0, [0, 1], task="soccer")
    found = findings.find(rows)
    assert [(part.panel.methods, part.panel.tasks) for part in found.panels] == [
        (("a", "b"), ("reach",)), (("a",), ("push",)), (("c",), ("soccer",)),
    ]  # fmt: skip
    assert "b was not run on push, soccer: it is pooled with others only over the tasks they share" in notes(rows)
    assert [(each.first, each.second) for each in found.pairs] == [("a", "b")]


def test_pairs_are_runs_of_one_seed():
    first = seeds("a", [[0, 0.9, 1.0], [0, 0.5, 0.6], [0, 0.1, 0.2]])
    second = seeds("b", [[0, 0.7, 0.9], [0, 0.3, 0.5], [0, 0.0, 0.1]])
    (pair,) = findings.find(first + second).pairs
    assert pair.success.value == pytest.approx(0.1) and pair.success.excludes_zero
    assert pair.steps.value == pytest.approx((200 - 400) / 3) and pair.censored == (2, 2)
    (swapped,) = findings.find(
        [row | {"algorithm": {"a": "b", "b": "a"}[row["algorithm"]]} for row in first + second]
    ).pairs
    assert swapped.success.value == pytest.approx(-0.1) and swapped.steps.value == pytest.approx(200 / 3)
    (mixed,) = findings.find(first + [row | {"seed": 2 - row["seed"]} for row in second]).pairs
    assert mixed.success.value == pytest.approx(0.1) and mixed.success.high - mixed.success.low > 0.3


def test_a_run_that_is_there_twice_counts_once():
    rows = run("mbpo", 0, [0, 1.0]) + run("mbpo", 0, [0, 0.0])
    found = findings.find(rows)
    assert [each.success.value for each in found.tasks] == [1.0]
    assert found.notes[0].what == "mbpo, seed 0, is there 2 times: the first one is counted"


def test_three_algorithms_on_two_tasks_with_three_seeds_are_one_page_that_needs_nothing_else(tmp_path):
    rows = [
        row
        for place, algorithm in enumerate(("dreamerv3", "drqv2", "mbpo"))
        for task in ("push", "reach")
        for row in seeds(algorithm, [[0, 0.3 * place + 0.1 * seed, 0.3 * place + 0.1] for seed in range(3)], task=task)
    ]
    html = write_report([], tmp_path / "page.html", [row | {"kind": "agent"} for row in rows]).read_text()
    assert "18 runs, 3 methods" in html and "Not alike" not in html and "Pooled over push, reach" in html
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", html)
    assert all(address.startswith(("data:", "#")) for address in addresses) and "<script" not in html
    assert html.count("<svg") == 2 * 3 + 2 + 3  # curves of each task, pooled numbers and profile, pooled curves
    ids, used = re.findall(r' id="([^"]+)"', html), set(re.findall(r"""(?:href="|url\()#([^")]+)""", html))
    assert used and {name: ids.count(name) for name in used} == dict.fromkeys(used, 1)  # one picture's are no other's


def test_all_numbers_of_a_page_are_in_a_table(tmp_path, capsys):
    out, page = tmp_path / "new" / "findings.csv", tmp_path / "page.html"
    table = [str(RESULTS / name) for name in ("few_steps.csv", "dreamerv3_drawer_close.csv")]
    assert cli.run(["report", *table, "--findings", str(out), "--out", str(page)]) == 0
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert set(rows[0]) == set(findings.COLUMNS) and {row["table"] for row in rows} == {"pooled", "task", "paired"}
    found = findings.find([row for path in table for row in curves.read_table(path)])
    part = found.panels[0]
    assert part.panel.methods == ("drqv2", "mbpo") and len(part.panel.tasks) == 3
    (line,) = [
        row for row in rows
        if row["statistic"] == "interquartile mean" and row["method"] == "mbpo"
    ]  # fmt: skip
    assert float(line["value"]) == pytest.approx(part.aggregates[1].iqm.value, abs=1e-6) and line["runs"] == "9"
    paired = {row["statistic"]: row for row in rows if row["table"] == "paired"}
    steps = paired["difference of environment steps to 80%"]
    assert float(steps["value"]) == pytest.approx(-222.2, abs=0.1) and steps["censored"] == "0"
