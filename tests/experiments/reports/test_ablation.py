"""Options against their absence, against numbers by hand."""

import pytest

from experiments.reports import ablation


def run(seed, success, settings, task="reach"):
    """Evaluations at 0, 400 and 600 environment steps; the return is a hundred times the success."""
    row = {"task": task, "algorithm": "mbpo", "preset": "laptop", "seed": seed, "settings": settings, "pretrained": ""}
    return [
        row | {"agent_steps": s / 2, "env_steps": s, "wall_seconds": s, "success": y, "return": 100 * y}
        for s, y in zip((0, 400, 600), (0.0, *success), strict=False)
    ]


def test_a_setting_is_named_by_what_it_changes_and_compared_with_the_first_in_pairs():
    first = [run(seed, (0.5, 0.5), "horizon=40 td_lambda=0.95") for seed in range(3)]
    shorter = [run(seed, (0.3, 0.1), "horizon=10 td_lambda=0.95") for seed in range(2, -1, -1)]
    without = [run(7, (0.9, 0.9), "horizon=40")]
    base, *others = ablation.find([row for each in (*first, *without, *shorter) for row in each])
    assert base.changed == () and base.areas["success"] == {str(seed): 0.5 for seed in range(3)}
    found = {line.changed: line for line in others}
    assert found["horizon=10",].differences["success"].value == pytest.approx(-0.3)
    assert found["horizon=10",].differences["return"].excludes_zero
    assert found["no td_lambda",].areas["return"] == {"7": 90}  # whose seed the first setting does not have
    assert ablation.cells(base)[:3] == ["reach", "nothing", "3"]
    assert ablation.cells(found["horizon=10",])[1:5] == ["`horizon=10`", "3", "20%", "-30 (-30 to -30)"]


def test_runs_that_ended_earlier_do_not_count():
    begun = ablation.find([*run(0, (0.5, 0.5), "a=1"), *run(0, (0.5,), "a=2")])
    assert [len(line.areas["success"]) for line in begun] == [1]
