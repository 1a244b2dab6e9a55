"""Time our DrQ-v2 update in turn with the same update in PyTorch, which has a process of its own.

    python tests/parity/bench_against_torch.py --preset paper-64 --repeats 9

Run it from the repository's root; `pip install -e '.[benchmark]'` brings PyTorch. Two libraries that each keep every
core busy slow each other down in one process, so PyTorch is never imported in this one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import multiprocessing
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
from agent.drqv2 import DrQv2Config
from experiments.benchmarks.bench import check_positive, repeated_run, seconds_in_turn
from experiments.benchmarks.hot_paths import hot_path
from experiments.errors import UsageError, UserError
from experiments.training import presets


@dataclasses.dataclass(frozen=True)
class Options:
    """Time the updates of one agent step, ours and PyTorch's in turn."""

    preset: str = "paper-64"
    batch: int | None = None
    """Transitions in an update; default: the preset's."""
    repeats: int = 5
    """Timed runs of each, of which the median counts."""
    json: bool = False
    """Print one JSON object."""


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns the exit code."""
    options = tyro.cli(Options, args=arguments)
    try:
        measured = compare(options)
    except UserError as error:
        print(f"bench_against_torch.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(measured) if options.json else as_text(measured))
    return 0


def compare(options: Options) -> dict[str, Any]:
    """Of both: median seconds of one agent step's updates, and updates a second. times_torch: our rate by PyTorch's."""
    check_positive({"batch": options.batch, "repeats": options.repeats})
    if importlib.util.find_spec("torch") is None:
        raise UsageError("PyTorch is not installed here: pip install -e '.[benchmark]'")
    path = hot_path("train-agent", presets.get(options.preset), "float32", options.batch, None, None)
    (config,) = path.static
    check_published(config)
    ours = repeated_run(path, path.trace().lower().compile())
    with in_other_process(torch_update, config, path.batch) as theirs:
        seconds, torch_seconds = map(statistics.median, seconds_in_turn([ours, theirs], options.repeats))
    return {
        "preset": options.preset,
        "batch": path.batch,
        "device": jax.devices()[0].device_kind,
        "seconds": seconds,
        "updates_per_second": path.brings / seconds,
        "torch_seconds": torch_seconds,
        "torch_updates_per_second": path.brings / torch_seconds,
        "times_torch": torch_seconds / seconds,
    }


def as_text(measured: dict[str, Any]) -> str:
    """The same for people."""
    return (
        "DrQ-v2 of {preset}, batch {batch}, on {device}:\n"
        "  ours     {updates_per_second:.3g} updates/s\n"
        "  PyTorch  {torch_updates_per_second:.3g} updates/s\n"
        "  ours is {times_torch:.2f} times as fast"
    ).format(**measured)


def check_published(config: DrQv2Config) -> None:
    """Raises UsageError for a learner that `torch_learner` does not have."""
    if config.network.encoder != "convolutions" or config.network.critic_layer_norm or config.behaviour_cloning:
        raise UsageError("PyTorch's side is the published learner, which this preset changes: take --preset paper-64")


def torch_update(config: DrQv2Config, batch: int) -> Callable[[], None]:
    """The update in PyTorch; for the other process alone."""
    from tests.parity.torch_learner import repeated_update

    return repeated_update(config, batch)


@contextlib.contextmanager
def in_other_process(make: Callable[..., Callable[[], Any]], *arguments: Any) -> Iterator[Callable[[], None]]:
    """`make(*arguments)` makes a function once, in a process of its own; the one given here calls it there and waits.

    What that call raises is raised here. `make` has to be a function of a module, its arguments have to be picklable.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_make, initargs=(make, arguments)) as pool:
        yield lambda: pool.submit(_call).result()


_made: list[Callable[[], Any]] = []
"""In the other process: what `_make` made there."""


def _make(make: Callable[..., Callable[[], Any]], arguments: tuple) -> None:
    _made.append(make(*arguments))


def _call() -> None:
    _made[-1]()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
