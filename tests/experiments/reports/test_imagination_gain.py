"""What imagination is worth, against numbers by hand."""

import numpy as np
import pytest

from experiments.reports import imagination_gain
from experiments.reports.findings import find as findings


def run(kind, seed, success, task="reach", steps=(0, 400, 600, 1000), **changes):
    """Evaluations of a run; its return is a hundred times its success."""
    algorithm = kind if kind in ("drqv2", "dreamerv3") else "mbpo"
    settings = "" if algorithm == kind or kind == "learned" else f"mbpo.model.imagination={kind}"
    row = {"task": task, "algorithm": algorithm, "preset": "laptop", "seed": seed, "settings": settings}
    row |= {"pretrained": "", "protocol": "", "episodes": 10} | changes
    return [
        row | {"agent_steps": s / 2, "env_steps": s, "wall_seconds": s, "success": y, "return": 100 * y}
        for s, y in zip(steps, (0.0, *success), strict=True)
    ]


def lines(*runs):
    return {line.kind: line for line in imagination_gain.find([row for run in runs for row in run])}


ALONE = [run("drqv2", 0, (0.0, 0.2, 0.4)), run("drqv2", 1, (0.2, 0.2, 0.2)), run("drqv2", 2, (0.0, 0.0, 0.6))]
PERFECT = [run("simulator", seed, (0.6, 0.6, 0.6)) for seed in range(3)]


def test_areas_gains_and_shares_are_those_by_hand():
    """Areas: (0.1 x 200 + 0.3 x 400) / 600, 0.2 and 0.3 x 400 / 600 without a model; 0.6 with the perfect one."""
    found = lines(*ALONE, *PERFECT, *[run("learned", seed, (0.4, 0.4, 0.4)) for seed in range(3)])
    alone = np.array([140 / 600, 0.2, 120 / 600])
    np.testing.assert_allclose(list(found["drqv2"].areas["success"].values()), alone)
    assert found["simulator"].gains["success"].value == pytest.approx(np.mean(0.6 - alone))
    assert found["simulator"].gains["success"].excludes_zero
    assert found["learned"].shares["return"] == pytest.approx(np.mean(0.4 - alone) / np.mean(0.6 - alone))
    assert found["drqv2"].gains["success"].value == 0
    assert list(found) == ["drqv2", "simulator", "learned"]
    np.testing.assert_allclose(found["learned"].curve["return"], 40)


def test_a_gain_that_leaves_out_zero_is_told_as_such_beside_its_words():
    found = lines(*ALONE, *PERFECT)
    gains = [i for i, word in enumerate(imagination_gain.cells(found["simulator"])) if " to " in word]
    assert imagination_gain.verdicts(found["simulator"]) == ["yes" if i in gains else "" for i in range(9)]
    assert imagination_gain.verdicts(found["drqv2"]) == [""] * 9


def test_pairs_are_of_one_seed_and_those_without_a_partner_count_in_no_gain():
    found = lines(*ALONE, *PERFECT[:2], run("simulator", 7, (0.0, 0.0, 0.0)))
    expected = 0.6 - np.array([140 / 600, 0.2])
    assert found["simulator"].gains["success"].value == pytest.approx(expected.mean())
    assert found["simulator"].gains["success"].low is None  # two pairs have no interval


@pytest.mark.parametrize("step", [400, 0])
def test_runs_that_were_evaluated_once_are_compared_there(step):
    """Offline: after the random steps, or without any."""

    def once(kind, seed, success):
        untrained, trained = run(kind, seed, (success,), steps=(0, 400))
        return [untrained, trained] if step else [trained | {"env_steps": 0}]

    found = lines(*(once(kind, seed, y) for kind, y in (("drqv2", 0.25), ("simulator", 0.75)) for seed in range(3)))
    assert found["simulator"].steps == (step,)
    assert found["simulator"].gains["success"].value == 0.5


def test_without_a_gain_of_the_simulator_there_is_no_share():
    found = lines(*ALONE, *[run("simulator", seed, (0.0, 0.0, 0.0)) for seed in range(3)], run("learned", 0, (1, 1, 1)))
    assert found["learned"].shares == {"success": None, "return": None}


def test_of_a_gain_that_may_be_none_there_is_no_share():
    swinging = [run("simulator", seed, (y, y, y)) for seed, y in enumerate((1.0, 0.0, 0.3))]
    found = lines(*ALONE, *swinging, *[run("learned", seed, (0.4, 0.4, 0.4)) for seed in range(3)])
    assert found["simulator"].gains["success"].value > 0 and not found["simulator"].gains["success"].excludes_zero
    assert found["learned"].shares["success"] is None


def test_a_run_that_goes_on_is_left_out_and_so_is_a_task_without_the_bound_or_with_two_settings_of_a_kind():
    unfinished = run("learned", 5, (0.4,), steps=(0, 400))
    assert "learned" not in lines(*ALONE, *PERFECT, unfinished)
    assert not lines(*ALONE, run("learned", 0, (0.4, 0.4, 0.4)))
    assert not lines(*ALONE, *PERFECT, run("learned", 0, (1, 1, 1)), run("learned", 0, (1, 1, 1), pretrained="other"))


def test_its_words_have_a_place_each_and_the_rows_are_those_of_a_comparison():
    rows = [row for run in (*ALONE, *PERFECT) for row in run]
    told = [imagination_gain.cells(line) for line in imagination_gain.find(rows)]
    assert {len(line) for line in told} == {len(imagination_gain.HEAD)}
    assert told[1][1] == "the simulator as model" and told[1][3] == "60, 60, 60%"
    assert len(findings(rows).runs) == 6
