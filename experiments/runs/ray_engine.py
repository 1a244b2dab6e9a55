"""`--engine ray`: work in Ray tasks, on this machine or on a cluster; again where a worker or its machine dies."""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from experiments.errors import UserError
from experiments.runs.packages import check_installed
from experiments.runs.preemption import Preempted

RETRIES = 3
"""How often a task begins again whose worker died."""
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class WorkerDiedError(UserError, RuntimeError):
    """A task's worker died again and again."""


def check_ray() -> None:
    """Raise UsageError where Ray is missing."""
    check_installed("ray", "--engine ray", "sweep")


@contextlib.contextmanager
def connected(**options: Any) -> Iterator[Any]:
    """Ray, joined or begun by `ray.init` with these options, and left in the end."""
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    for number, handler in handlers.items():  # Ray's own would end the process without a word to the work
        signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def ray_tasks(workers: int, on_devices: bool = False) -> Iterator[RayTasks]:
    """On the cluster that RAY_ADDRESS names, or on one of so many workers that is begun here.

    on_devices: a task has an accelerator for itself, where the cluster has any.
    """
    # Without an address Ray would join whatever else happens to run on this machine.
    own = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    joined = {"address": os.environ["RAY_ADDRESS"]} if "RAY_ADDRESS" in os.environ else own
    with connected(**joined) as ray:
        yield RayTasks(ray, workers, _device(ray) if on_devices else {})


def _device(ray: Any) -> dict[str, Any]:
    there = ray.cluster_resources()
    if there.get("GPU"):
        return {"num_gpus": 1}
    return {"resources": {"TPU": 1}} if there.get("TPU") else {}


class RayTasks:
    """Functions as tasks, of which a caller keeps at most `workers` at work."""

    def __init__(self, ray: Any, workers: int, device: dict[str, Any]):
        self.ray, self.workers, self._device = ray, workers, device

    def task(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Begins `function` with its arguments, and gives what `result` takes."""

        @functools.wraps(function)
        def guarded(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except (UserError, Preempted) as error:  # raised here it would arrive with a page of where it came from
                return _Raised(error)

        return self.ray.remote(max_retries=RETRIES, num_cpus=1, **self._device)(guarded).remote

    def result(self, begun: Any) -> Any:
        """What a task returned or, of UserError and Preempted, raised. Raises WorkerDiedError."""
        try:
            found = self.ray.get(begun)
        except self.ray.exceptions.WorkerCrashedError as error:
            raise WorkerDiedError(f"its worker died {RETRIES + 1} times ({type(error).__name__})") from error
        if isinstance(found, _Raised):
            raise found.error
        return found

    def actor(self, kind: Callable[..., Any]) -> Callable[..., Any]:
        """Makes an object that tasks can ask; it lives where this process does, and as long."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=False)
        return self.ray.remote(num_cpus=0, scheduling_strategy=here)(kind).remote

    def map(self, function: Callable[[ItemT], ResultT], items: Iterable[ItemT]) -> Iterator[ResultT]:
        """As the built-in: the results in their order. The function, with all that it holds, travels once."""
        shared, begin = self.ray.put(function), self.task(_apply)
        begun: collections.deque[Any] = collections.deque()
        for item in items:
            begun.append(begin(shared, item))
            if len(begun) >= self.workers:
                yield self.result(begun.popleft())
        while begun:
            yield self.result(begun.popleft())


class _Raised:
    """An error that a task sends back."""

    def __init__(self, error: Exception):
        self.error = error


def _apply(function: Callable[[ItemT], ResultT], item: ItemT) -> ResultT:
    return function(item)
