"""The space of a sweep: conditions, grids, and draws that are a function of the seed."""

import math

import pytest

from experiments.errors import UsageError
from experiments.sweeps import space

NESTED = {
    "algorithm": {
        "choice": {
            "drqv2": {"drqv2": {"batch": {"choice": [8, 16]}, "learning_rate": 0.001}},
            "mbpo": {"mbpo.model.horizon": {"choice": [2, 4, 6]}},
        }
    },
    "schedule.agent-steps": {"grid": [100, 200]},
}


def test_a_setting_under_a_condition_is_there_only_where_the_condition_holds():
    points = space.grid(space.parse_space(NESTED))
    assert len(points) == 2 * (2 + 3)
    for point in points:
        assert ("mbpo.model.horizon" in point) == (point["algorithm"] == "mbpo")
        assert point.get("drqv2.learning-rate", 0.001) == 0.001
    assert len({tuple(point.items()) for point in points}) == len(points)


def test_an_ablation_has_the_first_values_and_then_each_other_value_alone():
    raw = {
        "task": {"grid": ["reach", "push"]},
        "a": {"choice": [1, 2, 3]},
        "b": {"choice": {8: {"b.with": 10}, 32: {"b.with": 40, "c": {"choice": [0, 1]}}}},
    }
    points = space.ablation(space.parse_space(raw))
    of_one_task = [
        {"a": 1, "b": 8, "b.with": 10}, {"a": 2, "b": 8, "b.with": 10}, {"a": 3, "b": 8, "b.with": 10},
        {"a": 1, "b": 32, "b.with": 40, "c": 0}, {"a": 1, "b": 32, "b.with": 40, "c": 1},
    ]  # fmt: skip
    for task in ("reach", "push"):
        of_task = [point for point in points if point["task"] == task]
        assert of_task == [{"task": task, **point} for point in of_one_task]
    assert [point["task"] for point in points[:2]] == ["reach", "push"]
    with pytest.raises(
        UsageError, match="d: an ablation goes through values, and uniform is a range: list values under choice"
    ):
        space.ablation(space.parse_space({**raw, "d": {"uniform": [0, 1]}}))


def test_an_ablation_finds_what_stands_under_a_value_that_is_written_like_1e_3():
    raw = {"rate": {"choice": {"3e-4": {}, "1e-3": {"b": {"choice": [1, 2]}}}}}
    points = space.ablation(space.parse_space(raw))
    assert points == [{"rate": 3e-4}, {"rate": 1e-3, "b": 1}, {"rate": 1e-3, "b": 2}]


def test_a_random_point_depends_on_the_seed_and_its_number_alone():
    ranges = space.parse_space(
        {"a": {"uniform": [0, 1]}, "b": {"log-uniform": ["1e-5", "1e-1"]}, "c": {"integer": [1, 3]}, **NESTED}
    )
    few, many = space.draw(ranges, seed=1, samples=3), space.draw(ranges, seed=1, samples=40)
    assert many[: len(few)] == few
    assert space.draw(ranges, seed=2, samples=3) != few
    assert all(0 <= p["a"] <= 1 and 1e-5 <= p["b"] <= 1e-1 and p["c"] in (1, 2, 3) for p in many)
    assert {p["c"] for p in many} == {1, 2, 3}
    assert sum(p["b"] < 1e-3 for p in many) == pytest.approx(len(many) / 2, abs=len(many) / 4)
    assert len(many) == 2 * 40  # each with the whole of the grid


def test_draws_of_one_setting_do_not_move_when_another_is_added():
    alone = space.draw(space.parse_space({"a": {"uniform": [0, 1]}}), 0, 5)
    with_another = space.draw(space.parse_space({"b": {"choice": [1, 2]}, "a": {"uniform": [0, 1]}}), 0, 5)
    assert [p["a"] for p in alone] == [p["a"] for p in with_another]


def test_probing_looks_at_every_value_once_and_at_the_ends_of_ranges():
    points = space.probe(space.parse_space({**NESTED, "lr": {"log-uniform": [1e-5, 1e-1]}}))
    for name, values in {"drqv2.batch": {8, 16}, "mbpo.model.horizon": {2, 4, 6}, "lr": {1e-5, 1e-1}}.items():
        assert values <= {point.get(name) for point in points}, name
    assert len(points) < 20


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"a": {"uniform": [1, 0]}}, "low < high"),
        ({"a": {"log-uniform": [0, 1]}}, "above 0"),
        ({"a": {"integer": [0.5, 2]}}, "expected [low, high]"),
        ({"a": {"uniform": [0, math.inf]}}, "expected [low, high]"),
        ({"a": {"choice": []}}, "expected a list of values"),
        ({"a.b": {"choice": [1]}, "a": {"b": {"choice": [2]}}}, "a.b is there twice"),
        ({"a": {"choice": {"x": {"b": 1}}}, "b": 2}, "b is there twice under one condition"),
        ([1], "expected settings with their values"),
    ],
)
def test_a_space_that_is_none_is_refused_with_its_place(raw, said):
    with pytest.raises(UsageError, match="space") as refused:
        space.grid(space.parse_space(raw))
    assert said in str(refused.value)


def test_a_range_has_no_grid():
    with pytest.raises(UsageError, match="a: a grid goes through values, and uniform is a range"):
        space.grid(space.parse_space({"a": {"uniform": [0, 1]}}))
