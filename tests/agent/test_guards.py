"""Laws of the guards: what is not finite is found and named; what cannot be is told; what is fine passes."""

import jax.numpy as jnp
import numpy as np
import pytest

from agent.guards import Diverged, WatchedMetrics, outliers, refuse_not_finite


def test_metrics_are_taken_once_as_they_were_last_noted():
    metrics = WatchedMetrics()
    metrics.note("agent", {"loss": jnp.float32(1)}, 1)
    metrics.note("agent", {"loss": jnp.float32(2)}, 2)
    metrics.note("model", {"loss": np.float32(3), "codes": jnp.int32(4)}, 2)
    assert metrics.take() == {"agent/loss": 2.0, "model/loss": 3.0, "model/codes": 4.0}
    assert metrics.take() == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_was_not_finite_is_named_with_its_step_even_where_it_recovered(bad):
    metrics = WatchedMetrics()
    for step, loss in enumerate([1.0, bad, bad, 1.0]):
        metrics.note("agent", {"critic_loss": jnp.float32(loss), "value": jnp.float32(0)}, 10 + step)
    with pytest.raises(Diverged, match=r"^agent/critic_loss was not finite at agent step 11, so the run stopped"):
        metrics.take()


def test_the_loss_that_broke_first_is_the_one_named():
    metrics = WatchedMetrics()
    metrics.note("tokenizer", {"loss": jnp.float32(np.nan)}, 5)
    metrics.note("agent", {"actor_loss": jnp.float32(np.nan)}, 4)
    with pytest.raises(Diverged, match="agent/actor_loss was not finite at agent step 4"):
        metrics.take()


def test_a_poisoned_array_is_refused_by_its_name():
    arrays = {"agent": {"w": jnp.zeros(3), "count": jnp.int32(1)}, "model": None}
    refuse_not_finite(arrays, 7)
    arrays["agent"]["b"] = jnp.array([0.0, jnp.inf], jnp.bfloat16)
    with pytest.raises(Diverged, match="agent/b was not finite at agent step 7"):
        refuse_not_finite(arrays, 7)


def test_rewards_and_values_far_outside_the_real_range_are_told_and_others_not():
    settings = {"reward_scale": 0.5, "discount": 0.9, "rewards": np.array([0, 4, 10], np.float32)}
    fine = {
        "imagined/reward_largest": 19.0,
        "imagined/reward_smallest": -9.0,
        "agent/value_largest": 54.0,
        "agent/loss": 1e9,
    }
    assert list(outliers(fine, **settings)) == []
    far = {
        "imagined/reward_largest": 21.0,
        "imagined/reward_smallest": -11.0,
        "agent/value_largest": 56.0,
        "agent/value_smallest": -6.0,
    }
    assert {outlier.name: outlier.value for outlier in outliers(far, **settings)} == far
