import json
import math
import types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.runs.metrics_log import Metrics, MetricsError, keep_first, latest, read_metrics, series


def clock(agent_steps: int) -> types.SimpleNamespace:
    return types.SimpleNamespace(agent_steps=agent_steps, env_steps=2 * agent_steps)


def write(path, *steps: int, name: str = "loss") -> None:
    with Metrics(path) as metrics:
        for step in steps:
            metrics.write(clock(step), {name: step / 10})


def test_every_line_is_one_object_with_both_counts_and_the_wall_time(tmp_path):
    write(tmp_path / "m", 1, 2)
    lines = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]
    assert [list(line) for line in lines] == [["agent_steps", "env_steps", "wall_seconds", "loss"]] * 2
    assert lines[1]["env_steps"] == 4 and lines == read_metrics(tmp_path / "m")


def test_a_line_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    with Metrics(tmp_path / "m") as metrics:
        metrics.write(clock(1), {"a": 1})
        assert len(read_metrics(tmp_path / "m")) == 1


def test_wall_time_adds_up_over_sessions_and_never_goes_back(tmp_path):
    for start in (100.0, 5.0, 70.0):  # each process has a clock of its own
        times = iter([start, start + 2, start + 3])
        with Metrics(tmp_path / "m", now=lambda times=times: next(times)) as metrics:
            metrics.write(clock(0), {})
            metrics.write(clock(0), {})
    assert [line["wall_seconds"] for line in read_metrics(tmp_path / "m")] == [2, 3, 5, 6, 8, 9]


@pytest.mark.parametrize("torn", [b'{"agent_st', b'{"agent_steps": 3, "env_steps": 6, "wall_seconds": 1.0}', b"\xc3"])
def test_a_line_torn_by_a_kill_is_left_out_and_cut_off_on_reopening(tmp_path, torn):
    path = tmp_path / "m"
    write(path, 1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert len(read_metrics(path)) == 2
    write(path, 4)
    assert path.read_bytes().startswith(whole) and [line["agent_steps"] for line in read_metrics(path)] == [1, 2, 4]


def test_lines_after_the_checkpoint_are_dropped_and_the_others_untouched(tmp_path):
    path = tmp_path / "m"
    write(path, 1, 2, 3, 4)
    first_two = b"".join(path.read_bytes().splitlines(keepends=True)[:2])
    path.write_bytes(path.read_bytes() + b'{"torn')
    assert keep_first(path, 2) == 2
    assert path.read_bytes() == first_two
    assert keep_first(path, 2) == 0 and keep_first(tmp_path / "none", 0) == 0
    write(path, 3)
    assert [line["agent_steps"] for line in read_metrics(path)] == [1, 2, 3]


def test_numbers_of_any_library_are_written_and_infinite_ones_are_null(tmp_path):
    values = {
        "python": 1,
        "flag": True,
        "text": "a",
        "numpy": np.float32(0.5),
        "jax": jnp.float32(0.25),
        "bfloat16": jnp.bfloat16(2),
        "array": np.array([1.0, np.nan]),
        "list": [1, 2],
        "diverged": np.inf,
    }
    with Metrics(tmp_path / "m") as metrics:
        metrics.write(clock(0), values)
        with pytest.raises(TypeError, match="a metric cannot hold"):
            metrics.write(clock(0), {"bad": object()})
        with pytest.raises(ValueError, match="'env_steps'"):
            metrics.write(clock(0), {"env_steps": 3})
    raw = json.loads((tmp_path / "m").read_text())
    assert raw["diverged"] is None and raw["array"] == [1.0, None]
    (line,) = read_metrics(tmp_path / "m")
    assert line["python"] == 1 and line["flag"] is True and line["text"] == "a" and line["list"] == [1, 2]
    assert line["numpy"] == 0.5 and line["jax"] == 0.25 and line["bfloat16"] == 2
    assert math.isnan(line["diverged"]) and math.isnan(line["array"][1])


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "m"
    write(path, 1, 2)
    stamps = [b'{"agent_steps": %s, "env_steps": 1, "wall_seconds": 1}\n' % n for n in (b"NaN", b"1e999", b"9" * 400)]
    for bad in (b"nonsense\n", b"[1]\n", b'{"loss": 1}\n', b"[" * 10**5 + b"\n", *stamps):
        path.write_bytes(bad.join(line + b"\n" for line in path.read_bytes().splitlines()[:1]) + bad + b"{}\n")
        with pytest.raises(MetricsError, match="m, line 2 is damaged"):
            read_metrics(path)


@pytest.mark.parametrize("rubbish", [b"\x00\x01\x02", b"PK\x03\x04" * 50, b"agent_steps", b"\x89PNG\r\n\x1a\n\x00"])
def test_a_file_of_something_else_is_refused_and_stays_as_it_is(tmp_path, rubbish):
    """Fault 14: rubbish without a newline read as a run without metrics, and was cut off."""
    path = tmp_path / "m"
    path.write_bytes(rubbish)
    for read in (read_metrics, Metrics):
        with pytest.raises(MetricsError, match=r"m(, line 1 is damaged| holds something else than metrics)"):
            read(path)
    assert path.read_bytes() == rubbish


def test_a_series_holds_the_lines_that_carry_its_name(tmp_path):
    write(tmp_path / "m", 1, 2)
    write(tmp_path / "m", 3, name="other")
    lines = read_metrics(tmp_path / "m")
    x, y = series(lines, "loss", "env_steps")
    np.testing.assert_allclose([x, y], [[2, 4], [0.1, 0.2]])
    assert series(lines, "nothing", "env_steps")[0].shape == (0,)
    assert latest(lines, "loss")["agent_steps"] == 2 and latest(lines, "nothing") is None
