"""Counts the arithmetic of a program from its trace.

XLA's cost analysis counts the body of a loop once, however often it runs; imagination is loops within loops. So the
trace is counted instead, the body of a scan as often as it runs. The trace is the program: nothing about a model is
repeated here, and nothing can drift apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval


def flops(traced: jax.stages.Traced, branch: Callable[..., int] = max) -> int:
    """Multiplications and additions in the matmuls and convolutions of a `jax.jit(f).trace(...)`.

    branch: max or min, which way of a condition counts. The ways that stand for backends do the same work.
    What is computed and never used does not count, as XLA leaves it out; elementwise work, a few percent at most, does
    not count either. What a backward pass computes again counts. Raises ValueError for arithmetic in a loop of unknown
    length.
    """
    jaxpr = traced.jaxpr.jaxpr
    used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _of_jaxpr(used, branch)


def _of_jaxpr(jaxpr: core.Jaxpr, branch: Callable[..., int]) -> int:
    return sum(_of_equation(equation, branch) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn, branch: Callable[..., int]) -> int:
    name, params = equation.primitive.name, equation.params
    inputs: list[Any] = [variable.aval for variable in equation.invars]
    results: list[Any] = [variable.aval for variable in equation.outvars]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * results[0].size * math.prod(inputs[0].shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = inputs[1]
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        # Zeros put between the entries, as in the gradient of a strided convolution, are no arithmetic.
        return 2 * results[0].size * (kernel.size // outputs) // math.prod(params["lhs_dilation"])
    inner = [_of_jaxpr(jaxpr, branch) for jaxpr in core.jaxprs_in_params(params)]
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "while" and sum(inner):
        raise ValueError("a while loop with matmuls in it runs an unknown number of times: its arithmetic is not known")
    return branch(inner, default=0) if name == "cond" else sum(inner)
