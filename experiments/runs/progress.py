"""What a person sees while a run works: a bar a phase on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from agent.events import Progress

METRICS_SHOWN = 4


class ProgressDisplay:
    """Receives `agent.events.Progress`. A context manager: leaving it closes every bar, whatever happened.

    On a terminal each phase has its bar, which ends when done reaches total; phases may be nested. Elsewhere a line is
    printed at most every `interval` seconds, and on closing the newest state where it was not printed yet.
    """

    def __init__(self, stream: TextIO | None = None, interval: float = 15.0, now: Callable[[], float] = time.monotonic):
        self._stream = sys.stderr if stream is None else stream
        self._interval = interval
        self._now = now
        self._terminal = self._stream.isatty()
        self._bars: dict[str, tqdm] = {}
        self._starts: dict[str, tuple[int, float]] = {}  # phase -> done and time when it was first seen
        self._printed = self._refreshed = -float("inf")
        self._pending: str | None = None

    def update(self, progress: Progress) -> None:
        if self._terminal:
            self._draw(progress)
        else:
            self._print(progress)

    def message(self, text: str) -> None:
        """Print a line of its own without breaking the bars."""
        if self._terminal:
            tqdm.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        for bar in reversed(self._bars.values()):
            bar.close()
        self._bars.clear()
        if self._pending is not None:
            self._print_pending()

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _draw(self, progress: Progress) -> None:
        bar = self._bars.get(progress.phase)
        if bar is None:
            bar = self._bars[progress.phase] = tqdm(
                desc=progress.phase,
                total=progress.total,
                initial=progress.done,
                leave=None,  # an outer bar stays when it ends, one nested in another goes
                smoothing=0,  # the mean rate, so that the time left grows while what is nested takes its time
                file=self._stream,
                dynamic_ncols=True,
            )
        bar.total = progress.total
        if progress.metrics:
            bar.set_postfix(short_metrics(progress.metrics), refresh=False)
        bar.update(progress.done - bar.n)
        self._refresh_outer(progress.phase)
        if progress.done >= progress.total:
            bar.refresh()
            bar.close()
            del self._bars[progress.phase]

    def _refresh_outer(self, phase: str) -> None:
        """Let the other bars' clocks go on, at most once a second: their own progress waits for this phase."""
        now = self._now()
        if now - self._refreshed >= 1.0:
            self._refreshed = now
            for name, bar in self._bars.items():
                if name != phase:
                    bar.refresh()

    def _print(self, progress: Progress) -> None:
        now = self._now()
        start = self._starts.get(progress.phase)
        if start is None or progress.done < start[0]:
            start = self._starts[progress.phase] = (progress.done, now)
        if progress.done >= progress.total:
            del self._starts[progress.phase]  # the same phase may come again, with a clock of its own
        self._pending = format_line(progress, progress.done - start[0], now - start[1])
        if now - self._printed >= self._interval:
            self._printed = now
            self._print_pending()

    def _print_pending(self) -> None:
        print(self._pending, file=self._stream, flush=True)
        self._pending = None


def format_line(progress: Progress, done_here: int, seconds: float) -> str:
    """`imagination 40/100 (40%), 3.2/s, 19 s left, loss 0.12`; rate and time left once there is something to go by."""
    parts = [f"{progress.phase} {progress.done}/{progress.total} ({progress.done / max(progress.total, 1):.0%})"]
    if done_here > 0 and seconds > 0:
        rate = done_here / seconds
        parts += [format_rate(rate), f"{format_duration((progress.total - progress.done) / rate)} left"]
    parts += [f"{name} {value}" for name, value in short_metrics(progress.metrics).items()]
    return ", ".join(parts)


def short_metrics(metrics: Mapping[str, float]) -> dict[str, str]:
    """The first few metrics, by the last part of their names where that is unmistakable, to three digits."""
    names = list(metrics)[:METRICS_SHOWN]
    last = [name.rsplit("/", 1)[-1] for name in names]
    return {
        (short if last.count(short) == 1 else name): f"{float(metrics[name]):.3g}"
        for name, short in zip(names, last, strict=True)
    }


def format_rate(rate: float) -> str:
    """Units a second, or seconds a unit where one takes longer."""
    return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"


def format_duration(seconds: float) -> str:
    """42 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(count: float, noun: str) -> str:
    """`1 episode`, `2 episodes`."""
    return f"{count:.0f} {noun}{'' if count == 1 else 's'}"
