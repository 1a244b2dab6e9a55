"""Which points were best, what their settings explain, and the page that shows it."""

import io
import re
import time

import numpy as np
import pytest

from experiments.sweeps import ablation, plots, results, space
from experiments.sweeps.folder import Standing, Trial
from experiments.sweeps.page import write_page
from experiments.sweeps.table import LiveTable, as_lines


@pytest.fixture
def measured(sweeping):
    """Four points with two seeds each; the learning rate decides, the batch adds a little noise."""
    found = sweeping(space={"drqv2.learning-rate": {"grid": [1e-4, 1e-3]}, "drqv2.batch": {"grid": [8, 16]}})
    with found.folder.claim(found.sweep):
        for number, (rate, batch) in enumerate([(1e-4, 8), (1e-4, 16), (1e-3, 8), (1e-3, 16)]):
            for seed in (0, 1):
                value = 10 * np.log10(rate / 1e-4) + 0.1 * (batch == 16) + 0.01 * seed
                trial = Trial(number, seed, {"drqv2.learning-rate": rate, "drqv2.batch": batch})
                found.folder.write(
                    trial, Standing("done", 1, where="here", started=1.0, beat=4.0, step=200, value=value)
                )
    return found


def test_points_are_ranked_by_the_mean_over_their_seeds(measured):
    ranked = results.rank(measured.folder, measured.sweep)
    assert [result.number for result in ranked] == [3, 2, 1, 0]
    assert ranked[0].mean == pytest.approx(10.105) and ranked[0].spread == pytest.approx(0.01 / 2**0.5)
    assert ranked[0].command == (
        "ivideogpt train --preset debug --algorithm drqv2 --drqv2.learning-rate 0.001 --drqv2.batch 16 --seed 0"
    )


def test_a_point_with_a_missing_seed_is_behind_the_whole_ones(measured):
    trial = Trial(3, 1, {"drqv2.learning-rate": 1e-3, "drqv2.batch": 16})
    measured.folder.write(trial, Standing("running", beat=0.0))
    assert [result.number for result in results.rank(measured.folder, measured.sweep)] == [2, 1, 0, 3]
    assert measured.states["0003-seed1"] == "lost"


def test_one_that_was_stopped_early_is_no_winner(measured):
    measured.folder.write(Trial(3, 1, {}), Standing("paused", value=99.0))
    measured.folder.mark_stopped("0003-seed1")
    last = results.rank(measured.folder, measured.sweep)[-1]
    assert last.number == 3 and last.cut_short


def test_importance_finds_the_setting_that_decides(measured):
    shares = plots.importance(results.rank(measured.folder, measured.sweep))
    assert list(shares) == ["drqv2.learning-rate", "drqv2.batch"]
    assert shares["drqv2.learning-rate"] > 0.99 and shares["drqv2.batch"] == 0


def test_importance_of_noise_is_small_however_many_values_there_are():
    rng = np.random.default_rng(0)
    found = [
        results.Result(
            n, {"a": float(rng.uniform()), "b": str(rng.integers(4))}, {0: float(rng.normal())}, {0: "done"}, ""
        )
        for n in range(60)
    ]
    assert all(share < 0.15 for share in plots.importance(found).values())


def test_the_page_holds_everything_and_loads_nothing(measured):
    html = write_page(measured.folder).read_text()
    assert html.count("<svg") == 2  # no run has curves here
    assert "ivideogpt train --preset debug" in html and "0003-seed1" in html
    assert not re.search(r"""(?:src|href)=["'](?!#)""", html)


def test_an_ablation_shows_each_setting_against_its_absence_seed_by_seed(sweeping, ivideogpt):
    found = sweeping(
        space={
            "task": {"grid": ["reach", "push"]},
            "drqv2.batch": {"choice": [8, 16]},
            "drqv2.tau": {"choice": [0.1, 0]},
        },
        search={"kind": "ablation"},
        seeds=[0, 1, 2],
    )
    # By point: reach, push; batch 16 on reach, on push; no tau on reach, which nothing was measured of on push.
    values = {0: (10, 20, 30), 1: (5, 5, 5), 2: (11, 21, 34), 3: (4, 5, 6), 4: (0, None, None)}
    with found.folder.claim(found.sweep):
        for number, point in enumerate(space.ablation(found.sweep.space)[:5]):
            for seed, value in enumerate(values[number]):
                found.folder.write(Trial(number, seed, point), Standing("done", 1, value=value))
        found.folder.write(Trial(3, 2, {}), Standing("running", 1, value=99.0, beat=time.time()))  # not at its end
        page = write_page(found.folder).read_text()
    lines = ablation.compare(found.sweep, results.rank(found.folder, found.sweep))
    assert [ablation.cells(line) for line in lines] == [
        ["task=reach", "20", "", "3"],
        ["task=push", "5", "", "3"],
        ["task=reach drqv2.batch=16", "22", "+2 (+1 to +4)", "3"],
        ["task=push drqv2.batch=16", "4.5", "-0.5", "2"],
        ["task=reach drqv2.tau=0", "0", "-10", "1"],
    ]
    assert "Each setting changed alone" in page and "+2 (+1 to +4)" in page and "Importance" not in page
    said = ivideogpt("sweep", "best", found.folder.path).out.splitlines()
    assert re.split(" {2,}", said[0]) == ["changed", "eval/return", "difference", "seeds"]
    assert re.split(" {2,}", said[3]) == ["task=reach drqv2.batch=16", "22", "+2 (+1 to +4)", "3"]
    assert said[6].startswith("1. eval/return 22")


def test_in_an_ablation_what_is_gone_through_under_a_condition_is_no_change(sweeping):
    algorithms = {"mbpo": {"mbpo.model.horizon": {"grid": [2, 4]}}, "drqv2": {}}
    found = sweeping(
        fixed={}, space={"algorithm": {"choice": algorithms}, "demonstrations": {"choice": [5, 1]}},
        search={"kind": "ablation"}, seeds=[0],
    )  # fmt: skip
    points = space.ablation(found.sweep.space)
    with found.folder.claim(found.sweep):
        for number, point in enumerate(points):
            value = point.get("mbpo.model.horizon", 0) + 10 * point["demonstrations"]
            found.folder.write(Trial(number, 0, point), Standing("done", 1, value=float(value)))
    lines = ablation.compare(found.sweep, results.rank(found.folder, found.sweep))
    assert [ablation.cells(line)[:3] for line in lines] == [
        ["mbpo.model.horizon=2", "52", ""],
        ["mbpo.model.horizon=4", "54", ""],
        ["algorithm=drqv2", "50", "-2"],
        ["mbpo.model.horizon=2 demonstrations=1", "12", "-40"],
        ["mbpo.model.horizon=4 demonstrations=1", "14", "-40"],
    ]


def test_the_page_of_a_sweep_that_has_only_begun_says_what_is_missing(sweeping):
    found = sweeping()
    with found.folder.claim(found.sweep):
        html = write_page(found.folder).read_text()
    assert "No trial has measured eval/return yet" in html


def test_settings_that_are_not_in_force_have_a_place_of_their_own():
    heights, ticks = plots._places([1e-4, None, 1e-2])
    assert heights[1] == 0 and ticks[0.0] == "none" and 0 < heights[0] < heights[2] == 1


def test_the_table_says_how_each_trial_stands(measured, ivideogpt):
    lines = as_lines(measured.sweep, measured.folder.standings(), 10, 200, height=6)
    assert lines[0] == "10 trials: 8 done, 2 not begun"
    assert lines[1].split()[:2] == ["trial", "state"] and lines[-1] == "and 5 more"
    assert re.search(r"0000-seed0 +done +0 +200 +3 s +here", lines[2])
    said = ivideogpt("sweep", "status", measured.folder.path)
    assert said.code == 0 and said.out.startswith("8 trials: 8 done")
    assert ivideogpt("sweep", "best", measured.folder.path).out.startswith("1. eval/return 10.1")
    assert "is no sweep" in ivideogpt("sweep", "best", measured.folder.path.parent).sentence


def test_away_from_a_terminal_only_changes_are_printed(measured):
    out = io.StringIO()
    table = LiveTable(measured.folder, measured.sweep, 8, out)
    table.update(now=True)
    assert out.getvalue() == ""
    measured.folder.write(Trial(3, 1, {}), Standing("failed", step=20, value=1.0, message="why"))
    table.update(now=True)
    assert out.getvalue() == "0003-seed1 failed at agent steps 20, eval/return 1 (why)\n"
