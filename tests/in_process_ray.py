"""Stands in for Ray: tasks run in this process, when they are waited for. What Ray would do again is done again."""

from __future__ import annotations

import importlib.util
import inspect
import multiprocessing
import signal
import types
from concurrent.futures import ThreadPoolExecutor


class WorkerCrashedError(Exception):
    pass


def travelled(value):
    """A value of these tests' own as it arrives in another process: what cannot travel raises."""
    here, there = multiprocessing.Pipe()

    def send() -> None:
        with here:  # closed in any case, so that nobody waits for what cannot travel
            here.send(value)

    with there, ThreadPoolExecutor(1) as pool:  # a thread: a pipe holds little, and a large value waits for its reader
        sent = pool.submit(send)
        try:
            return there.recv()
        except EOFError:
            sent.result()
            raise


class Died(BaseException):
    """Raised in a task: its process ends."""


class InProcessRay(types.ModuleType):
    """begun: the arguments of every task. most: how many were begun and not waited for at the same time."""

    def __init__(self):
        super().__init__("ray")
        self.__spec__ = importlib.util.spec_from_loader("ray", loader=None)
        self.exceptions = types.SimpleNamespace(WorkerCrashedError=WorkerCrashedError)
        self.begun, self.most, self.open, self.down = [], 0, 0, False

    def init(self, **options):
        self.options = options
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray, which takes the signal for itself

    def shutdown(self):
        self.down = True

    def put(self, value):
        return travelled(value)

    def cluster_resources(self):
        return {"CPU": 2.0}

    def get_runtime_context(self):
        return types.SimpleNamespace(get_node_id=lambda: "here")

    def remote(self, **options):
        def decorate(kind):
            if inspect.isclass(kind):
                return types.SimpleNamespace(remote=lambda *arguments: _Actor(kind(*arguments)))
            self.task_options = options
            return types.SimpleNamespace(remote=lambda *arguments: self._begin(kind, arguments))

        return decorate

    def _begin(self, function, arguments):
        self.open += 1
        self.most = max(self.most, self.open)
        self.begun.append(arguments)
        return _Task(lambda: function(*arguments))

    def get(self, task):
        if not isinstance(task, _Task):  # what an actor answered
            return task
        self.open -= 1
        for _ in range(1 + self.task_options["max_retries"]):
            try:
                return task.run()
            except Died:
                pass
        raise WorkerCrashedError


class _Task:
    def __init__(self, run):
        self.run = run


class _Actor:
    def __init__(self, kept):
        self._kept = kept

    def __getattr__(self, name):
        return types.SimpleNamespace(remote=getattr(self._kept, name))
