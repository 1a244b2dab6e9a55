"""Shared by all tests: one persistent compilation cache, one rendering backend, episodes of real frames."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import sys
import types
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "ivideogpt" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Most of a test's time goes into compiling programs for a few small arrays: they are compiled quickly, not for speed.
# `make test-parity` compares with the references what is compiled as users have it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import numpy as np
import pytest
from in_process_ray import InProcessRay
from jax.extend import core

from agent.replay import Episode
from experiments import cli


@pytest.fixture
def make_episode():
    """Episodes whose every frame, action and reward can be told apart: frame t is filled with t, reward t is t + 1."""

    def make(length: int = 10, offset: int = 0, side: int = 8) -> Episode:
        values = (np.arange(length + 1) + offset).astype(np.uint8)
        return Episode(
            frames=np.broadcast_to(values[:, None, None, None], (length + 1, side, side, 3)).copy(),
            actions=np.linspace(-1, 1, length * 4, dtype=np.float32).reshape(length, 4),
            rewards=np.arange(1, length + 1, dtype=np.float32),
            successes=np.arange(length) == length - 1,
        )

    return make


@dataclasses.dataclass(frozen=True)
class Typed:
    """What a command left behind in the terminal."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """All that a command says that could not be run, but for the first line of a run that had begun."""
        lines = [line for line in self.err.splitlines() if line and not line.startswith("curves: ")]
        assert self.code != 0 and len(lines) == 1, (self.code, self.err)
        return lines[0]


@pytest.fixture
def ivideogpt(capsys) -> Callable[..., Typed]:
    """Type a command, in this process."""

    def typed(*words: object) -> Typed:
        capsys.readouterr()
        try:
            code = cli.run([str(word) for word in words])
        except SystemExit as left:  # a parser's own: help, and words that it does not know
            code = int(left.code or 0)
        return Typed(code, *capsys.readouterr())

    return typed


@pytest.fixture
def dtypes_in():
    """Dtypes of what the operations of a name take, wherever in a traced program they stand."""

    def of_jaxpr(jaxpr: core.Jaxpr, name: str) -> set[str]:
        found = set()
        for equation in jaxpr.eqns:
            if equation.primitive.name == name:
                found |= {variable.aval.dtype.name for variable in equation.invars}
            for inner in core.jaxprs_in_params(equation.params):
                found |= of_jaxpr(inner, name)
        return found

    def of_program(traced: jax.stages.Traced, name: str) -> set[str]:
        return of_jaxpr(traced.jaxpr.jaxpr, name)

    return of_program


@pytest.fixture
def ray(monkeypatch):
    """Ray is not there; what stands in for it runs tasks in this process."""
    stand_in, strategies = InProcessRay(), types.ModuleType("ray.util.scheduling_strategies")
    strategies.__dict__["NodeAffinitySchedulingStrategy"] = lambda node, soft: node
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    monkeypatch.setitem(sys.modules, "ray.util", types.ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    yield stand_in
    assert signal.getsignal(signal.SIGTERM) == before  # the work still hears of a request to end
    signal.signal(signal.SIGTERM, before)
