"""CEM and MPPI: draw candidates, keep the best, move there; again (Rubinstein, 1999; Williams et al., 2015).

Both are one loop over a normal distribution of plans. CEM moves to the mean of the elites, MPPI to their mean weighted
by cost (as in TD-MPC). Who scores the candidates is not known here: a compiled world model, inside the same program, or
a simulator, which returns to the host each time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from agent.planning.config import PlannerConfig

Score = Callable[[Array], Array]
"""`score(candidates_sha) -> costs_s`; lower is better, and what is not finite counts as the worst that is."""


class Proposal(flax.struct.PyTreeNode):
    """From what candidates are drawn."""

    mean_ha: Array  # float32 in [-1, 1]
    std_ha: Array  # float32


class Elites(flax.struct.PyTreeNode):
    """The best candidates of an iteration, the very best first."""

    actions_eha: Array  # float32 [elites, horizon, A]
    costs_e: Array  # float32


class Plan(flax.struct.PyTreeNode):
    """What a search found, and how sure it is."""

    actions_ha: Array  # float32 [horizon, A] in [-1, 1]: the mean of the last proposal
    elites: Elites  # of the last iteration
    costs_i: Array  # float32 [iterations]: the mean cost of each iteration's elites

    @property
    def spread_ha(self) -> Array:
        """How far the elites are apart: standard deviation of each number, [horizon, A]."""
        return self.elites.actions_eha.std(axis=0)


def begin(config: PlannerConfig, action_size: int) -> Proposal:
    """Nothing is known: no action is likelier than its opposite."""
    shape = (config.horizon, action_size)
    return Proposal(jnp.zeros(shape), jnp.full(shape, config.initial_std))


def shift(config: PlannerConfig, proposal: Proposal) -> Proposal:
    """After `execute` actions: what is left of the plan, then actions of zero, all as uncertain as at the beginning."""
    fresh = begin(config, proposal.mean_ha.shape[1])
    if not config.warm_start:
        return fresh
    return fresh.replace(mean_ha=fresh.mean_ha.at[: -config.execute].set(proposal.mean_ha[config.execute :]))


def propose(config: PlannerConfig, proposal: Proposal, key: Array) -> Array:
    """Candidates [samples, horizon, A] in [-1, 1]; the first is the mean, so that no plan is lost by chance."""
    horizon, action_size = proposal.mean_ha.shape
    noise = smooth_noise(key, (config.samples, horizon, action_size), config.noise_exponent)
    candidates = (proposal.mean_ha + proposal.std_ha * noise).at[0].set(proposal.mean_ha)
    return jnp.clip(candidates, -1, 1)


def smooth_noise(key: Array, shape: tuple[int, int, int], exponent: float) -> Array:
    """Normal noise [samples, horizon, A] whose power falls with the frequency to this exponent; variance 1 throughout.

    As iCEM draws it (Pinneri et al., 2020, section 3.1); exponent 0 is white.
    """
    white = jax.random.normal(key, shape)
    if not exponent or shape[1] == 1:
        return white
    frequencies = np.fft.rfftfreq(shape[1])
    weights = np.maximum(frequencies, 1 / shape[1]) ** (-exponent / 2)
    coloured = jnp.fft.irfft(jnp.fft.rfft(white, axis=1) * weights[:, None], n=shape[1], axis=1)
    # Each sample is a circular filter of white noise: its variance is the mean of the squared response.
    response = np.abs(np.fft.fft(np.fft.irfft(weights, n=shape[1])))
    return coloured / np.sqrt(np.mean(response**2))


def improve(
    config: PlannerConfig, proposal: Proposal, candidates_sha: Array, costs_s: Array
) -> tuple[Proposal, Elites]:
    """The proposal moved to the elites, and these."""
    chex.assert_shape(candidates_sha, (config.samples, *proposal.mean_ha.shape))
    chex.assert_shape(costs_s, (config.samples,))
    finite = jnp.isfinite(costs_s)
    costs_s = jnp.where(finite, costs_s, jnp.max(costs_s, where=finite, initial=0.0))
    negative, best = jax.lax.top_k(-costs_s, config.elites)
    elites = Elites(candidates_sha[best], -negative)
    weights = _weights(config, elites.costs_e)[:, None, None]
    mean = (weights * elites.actions_eha).sum(axis=0)
    std = jnp.sqrt((weights * jnp.square(elites.actions_eha - mean)).sum(axis=0))
    kept = config.momentum
    return Proposal(
        kept * proposal.mean_ha + (1 - kept) * mean,
        jnp.maximum(kept * proposal.std_ha + (1 - kept) * std, config.min_std),
    ), elites


def _weights(config: PlannerConfig, costs_e: Array) -> Array:
    """How much each elite counts; together 1."""
    if config.temperature is None:
        return jnp.full(len(costs_e), 1 / len(costs_e))
    scale = config.temperature * jnp.maximum(costs_e.std(), 1e-12)
    return jax.nn.softmax(-(costs_e - costs_e[0]) / scale)


def search(config: PlannerConfig, score: Score, proposal: Proposal, key: Array) -> tuple[Proposal, Plan]:
    """The whole search as one program; `score` is traced into it."""

    def turn(proposal: Proposal, key: Array) -> tuple[Proposal, Elites]:
        candidates = propose(config, proposal, key)
        return improve(config, proposal, candidates, score(candidates))

    proposal, elites = jax.lax.scan(turn, proposal, jax.random.split(key, config.iterations))
    return proposal, _plan(proposal, jax.tree.map(lambda x: x[-1], elites), elites.costs_e.mean(axis=1))


def search_on_host(
    config: PlannerConfig, score: Callable[[np.ndarray], np.ndarray], proposal: Proposal, key: Array
) -> tuple[Proposal, Plan]:
    """The same search where candidates are scored outside of any program."""
    elites, costs = None, []
    for turn_key in jax.random.split(key, config.iterations):
        candidates = _propose(config, proposal, turn_key)
        proposal, elites = _improve(config, proposal, candidates, jnp.asarray(score(np.asarray(candidates))))
        costs.append(elites.costs_e.mean())
    assert elites is not None
    return proposal, _plan(proposal, elites, jnp.stack(costs))


def _plan(proposal: Proposal, elites: Elites, costs_i: Array) -> Plan:
    return Plan(jnp.clip(proposal.mean_ha, -1, 1), elites, costs_i)


_propose = functools.partial(jax.jit, static_argnames="config")(propose)
_improve = functools.partial(jax.jit, static_argnames="config")(improve)
