"""The loop's speed is told beside those of its halves."""

import pytest

from experiments.envs import rendering

rendering.choose_backend()

from experiments.benchmarks import loop_speed  # noqa: E402
from experiments.training import presets  # noqa: E402


@pytest.mark.slow
def test_the_loop_is_timed_with_its_halves():
    measured = loop_speed.bench_loop(presets.get("debug"), repeats=1)
    assert measured["agent_steps"] == 100
    simulator, learner, together = (measured[f"{name}_seconds"] for name in ("simulator", "learner", "together"))
    assert min(simulator, learner, together) > 0
    assert measured["times_longer"] == pytest.approx(together / max(simulator, learner))
    parts = measured["mbpo_seconds"]
    assert set(parts) == {*loop_speed.OF_LOOP.values(), *loop_speed.OF_SIMULATOR.values(), "rest"}
    assert min(parts.values()) > 0
    text = loop_speed.as_text(measured)
    assert "100 agent steps" in text and "learner updates " in text
