"""Where a loop's seconds go: each part of it watched, one after the other."""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Callable
from typing import Any

REST = "rest"
"""What no part is watched for."""


class Stopwatch:
    """Seconds of each part since the start, without those of the parts inside it: together they are all that passed."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock, self._running = clock, [REST]
        self.start()

    def start(self) -> None:
        """Forget what passed before."""
        self._seconds: dict[str, float] = collections.defaultdict(float)
        self._since = self._clock()

    def watch(self, owner: Any, method: str, part: str, wait: Callable[[], object] = lambda: None) -> None:
        """From now on, calls of this method of this object count as a part of that name.

        wait: called before the method's return, so that what a device still computes is the part's own.
        """
        call = getattr(owner, method)

        @functools.wraps(call)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._lap()
            self._running.append(part)
            try:
                result = call(*args, **kwargs)
                wait()
                return result
            finally:
                self._lap()
                self._running.pop()

        setattr(owner, method, watched)

    def seconds(self) -> dict[str, float]:
        """Of each part that took any, and of the rest."""
        self._lap()
        return dict(self._seconds)

    def _lap(self) -> None:
        now = self._clock()
        self._seconds[self._running[-1]] += now - self._since
        self._since = now
