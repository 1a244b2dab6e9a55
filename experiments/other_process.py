"""A function in a process of its own: two libraries that each keep every core busy slow each other down in one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class OtherProcess:
    """`make(*arguments)` gives a function there; calling this calls it and waits. What either raises is raised here.

    make: a function of a module, with arguments that can be sent. The process ends with this one.
    """

    def __init__(self, make: Callable[..., Callable[[], Any]], *arguments: Any):
        spawn = multiprocessing.get_context("spawn")
        self._connection, there = spawn.Pipe()
        spawn.Process(target=_serve, args=(there, make, arguments), daemon=True).start()
        there.close()
        self._answer()

    def __call__(self) -> None:
        self._connection.send(None)
        self._answer()

    def _answer(self) -> None:
        failure = self._connection.recv()
        if failure is not None:
            raise failure


def _serve(connection: Connection, make: Callable[..., Callable[[], Any]], arguments: tuple) -> None:
    try:
        run = make(*arguments)
        while True:
            connection.send(None)
            connection.recv()
            run()
    except EOFError:
        pass
    except Exception as failure:
        connection.send(failure)
