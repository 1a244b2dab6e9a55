"""Several simulators of one task, a process each."""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Callable
from typing import Any, cast

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import AsyncState

from experiments.envs.camera import Quality
from experiments.envs.registry import make_simulator
from experiments.errors import UserError


class SimulatorDiedError(UserError, RuntimeError):
    """A process of a simulator is gone."""


class Processes(AsyncVectorEnv):
    """Simulators of one task that step and draw at the same time, a process each, as a gymnasium vector environment.

    Frames come through shared memory. The processes end with `close`, with this process, and where they lose it.
    """

    def __init__(self, count: int, task: str, render_quality: Quality, resolution: int):
        make = functools.partial(_in_process, task, render_quality, resolution)
        self._died = False
        # A fork would share the graphics context and JAX's threads.
        super().__init__([make] * count, context="spawn", autoreset_mode=AutoresetMode.DISABLED)

    def reset_wait(self, *args, **kwargs):
        return self._answered(super().reset_wait, *args, **kwargs)

    def step_wait(self, *args, **kwargs):
        return self._answered(super().step_wait, *args, **kwargs)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        super().close_extras(timeout, terminate or self._died)

    def _answered(self, wait: Callable, *args, **kwargs):
        try:
            return wait(*args, **kwargs)
        except (EOFError, OSError) as error:
            self._died, self._state = True, AsyncState.DEFAULT  # closing must not wait for an answer once more
            raise SimulatorDiedError(
                "a simulator's process died (out of memory, or killed?): the same command goes on from the last "
                "checkpoint"
            ) from error


def _in_process(task: str, render_quality: Quality, resolution: int) -> gymnasium.Env[Any, Any]:
    if multiprocessing.parent_process() is not None:  # gymnasium makes one here, too, to see its spaces
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a user interrupts is the run, which then closes this
    return cast(gymnasium.Env[Any, Any], make_simulator(task, render_quality, resolution))
