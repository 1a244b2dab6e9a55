"""CEM and MPPI on costs whose optimum is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from agent.planning import PlannerConfig, begin, search, search_on_host, shift
from agent.planning.search import improve, propose, smooth_noise

CEM = PlannerConfig(samples=128, elites=16, iterations=15, horizon=4, execute=1, initial_std=0.5, momentum=0.1)
MPPI = dataclasses.replace(CEM, elites=32, temperature=1.0)
BEST = jnp.linspace(-0.6, 0.7, 12).reshape(4, 3)
methods = pytest.mark.parametrize("config", [CEM, MPPI], ids=["cem", "mppi"])


def quadratic(candidates_sha):
    return jnp.square(candidates_sha - BEST).sum((1, 2))


@methods
def test_the_optimum_of_a_quadratic_is_found(config):
    _, plan = jax.jit(lambda key: search(config, quadratic, begin(config, 3), key))(jax.random.key(0))
    np.testing.assert_allclose(plan.actions_ha, BEST, atol=0.06)
    assert (np.diff(plan.costs_i)[:4] < 0).all() and plan.costs_i[-1] < plan.costs_i[0] / 20
    assert plan.spread_ha.max() < 0.1 and (np.diff(plan.elites.costs_e) >= 0).all()


@methods
def test_an_optimum_out_of_bounds_is_met_at_the_bounds(config):
    _, plan = search(config, lambda c: jnp.square(c - 3.0).sum((1, 2)), begin(config, 3), jax.random.key(0))
    assert plan.actions_ha.min() > 0.8 and plan.actions_ha.max() <= 1
    assert abs(plan.elites.actions_eha).max() <= 1


@methods
def test_a_plan_is_a_function_of_its_key(config):
    first, again, other = (search(config, quadratic, begin(config, 3), jax.random.key(k))[1] for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.actions_ha != other.actions_ha).any()


@methods
def test_the_search_on_the_host_finds_what_the_compiled_one_does(config):
    _, inside = search(config, quadratic, begin(config, 3), jax.random.key(0))
    _, outside = search_on_host(config, lambda c: np.asarray(quadratic(c)), begin(config, 3), jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), inside, outside)


@pytest.mark.parametrize("execute", [1, 3, 4])
def test_a_warm_start_is_the_plan_shifted_by_what_was_executed(execute):
    config = dataclasses.replace(CEM, execute=execute)
    found, _ = search(config, quadratic, begin(config, 3), jax.random.key(0))
    next_one = shift(config, found)
    np.testing.assert_array_equal(next_one.mean_ha[: 4 - execute], found.mean_ha[execute:])
    assert not next_one.mean_ha[4 - execute :].any() and (next_one.std_ha == config.initial_std).all()
    cold = shift(dataclasses.replace(config, warm_start=False), found)
    assert not cold.mean_ha.any()


def test_elites_are_the_cheapest_and_move_the_mean_as_far_as_momentum_lets_them():
    config = PlannerConfig(samples=5, elites=2, iterations=1, horizon=1, execute=1, momentum=0.25)
    candidates, costs = jnp.arange(5.0).reshape(5, 1, 1) / 10, jnp.array([5.0, jnp.nan, 1.0, 3.0, jnp.inf])
    proposal, elites = improve(config, begin(config, 1), candidates, costs)
    np.testing.assert_allclose(elites.costs_e, [1, 3])
    np.testing.assert_allclose(elites.actions_eha[:, 0, 0], [0.2, 0.3])
    np.testing.assert_allclose(proposal.mean_ha, 0.75 * 0.25, rtol=1e-6)
    np.testing.assert_allclose(proposal.std_ha, 0.25 * 1 + 0.75 * 0.05, rtol=1e-5)
    weighted, _ = improve(
        dataclasses.replace(config, temperature=1.0, momentum=0.0), begin(config, 1), candidates, costs
    )
    weights = np.exp([0.0, -2.0]) / np.exp([0.0, -2.0]).sum()  # the elites' costs are 1 and 3, their deviation 1
    np.testing.assert_allclose(weighted.mean_ha, weights @ [0.2, 0.3], rtol=1e-5)


def test_the_mean_is_the_first_candidate():
    config = dataclasses.replace(CEM, initial_std=0.1)
    proposal = begin(config, 3).replace(mean_ha=BEST)
    candidates = propose(config, proposal, jax.random.key(0))
    np.testing.assert_array_equal(candidates[0], BEST)
    assert 0.05 < float((candidates[1:] - BEST).std()) < 0.15


@pytest.mark.parametrize("horizon", [5, 6])
def test_smooth_noise_has_unit_variance_and_changes_less_from_step_to_step(horizon):
    white, smooth = (smooth_noise(jax.random.key(0), (2000, horizon, 2), exponent) for exponent in (0.0, 3.0))
    np.testing.assert_allclose(smooth.std(axis=(0, 2)), 1, atol=0.05)
    assert jnp.abs(jnp.diff(smooth, axis=1)).mean() < 0.85 * jnp.abs(jnp.diff(white, axis=1)).mean()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"elites": 129}, "129 elites of 128 samples"),
        ({"execute": 5}, "a plan of 4 actions cannot have 5 executed"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"momentum": 1.5}, "momentum is 1.5"),
    ],
)
def test_a_search_that_cannot_be_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CEM, **changes)
