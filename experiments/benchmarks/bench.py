"""`ivideogpt bench`: how fast a hot path is here, and how far that is from what the machine can do."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro
from jax.experimental.compilation_cache import compilation_cache

from experiments.benchmarks.flops import flops
from experiments.benchmarks.hot_paths import HotPath, PathName, Precision, hot_path
from experiments.data.options import DataOptions
from experiments.errors import UsageError
from experiments.training.config import Experiment
from experiments.weights.bundled import load_model


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """What is timed, and how."""

    path: tyro.conf.Positional[PathName | Literal["loop", "loader"]]
    preset: str = "laptop"
    model: str | None = None
    """A world model in place of the preset's: a folder, a run, or a bundled checkpoint's name (laptop-metaworld). Its
    settings are what counts: a time does not depend on weights."""
    batch: int | None = None
    """Rollouts, segments or candidates; default: the preset's, 300 candidates."""
    horizon: int | None = None
    """Future frames of each; default: the preset's, 6 of a plan."""
    size: str | None = None
    """Of dreamerv3: a published size (1m, 12m ... 400m) or laptop; default: 1m."""
    max_batch: int | None = None
    """Rollouts or candidates that are in memory at a time; default: all."""
    precision: Precision = "float32"
    repeats: int = 5
    """Timed runs, of which the median counts."""
    compile_only: bool = False
    """Compile and say what it takes, allocate nothing."""
    json: bool = False
    """Print one JSON object."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Of loader: what it reads."""


def bench(
    name: PathName,
    experiment: Experiment,
    precision: Precision,
    batch: int | None = None,
    horizon: int | None = None,
    max_batch: int | None = None,
    repeats: int | None = 5,
    size: str | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """Compile a hot path and, unless repeats is None, time it; no size given: the preset's. model: a world model by
    name, whose settings stand in place of the preset's.

    compile_seconds: without tracing, never out of the compilation cache. gflop: arithmetic of one run.
    peak_memory_bytes: arguments, results and all between, as the compiler laid them out (None: it does not say).
    seconds: of one run, the median of the repeats after a run that does not count. <unit>_per_second: of frames, tokens
    or updates. gflops: gflop / seconds. peak_gflops: of one large matmul of the same precision, measured in the same
    process. share: gflops / peak_gflops. Raises UsageError for what does not fit.
    """
    check_positive({"batch": batch, "horizon": horizon, "max-batch": max_batch, "repeats": repeats})
    try:
        config = None if model is None else load_model(model).config
        path = hot_path(name, experiment, precision, batch, horizon, max_batch, size, config)
        traced = path.trace()
    except ValueError as error:  # from the configurations, which say what does not fit
        raise UsageError(str(error)) from error
    program, compile_seconds = _compiled(traced)
    device, gflop = jax.devices()[0], flops(traced) / 1e9
    measured = {
        "bench": name,
        "preset": model or path.size or experiment.preset,
        "batch": path.batch,
        "horizon": path.horizon,
        "precision": precision,
        "backend": device.platform,
        "device": device.device_kind,
        "compile_seconds": compile_seconds,
        "peak_memory_bytes": _peak_memory(program),
        "gflop": gflop,
    }
    if repeats is None:
        return measured
    seconds = statistics.median(seconds_in_turn([repeated_run(path, program)], repeats)[0])
    peak = matmul_gflops(precision)
    return measured | {
        "seconds": seconds,
        f"{path.unit}_per_second": path.brings / seconds,
        "gflops": gflop / seconds,
        "peak_gflops": peak,
        "share": gflop / seconds / peak,
    }


def check_positive(numbers: Mapping[str, int | None]) -> None:
    """Raise UsageError for the first of these options that is typed and not at least 1."""
    for option, value in numbers.items():
        if value is not None and value < 1:
            raise UsageError(f"--{option} {value}: expected at least 1")


def as_text(measured: dict[str, Any]) -> str:
    """The same for people, in two lines; one without a time."""
    memory = measured["peak_memory_bytes"]
    future = "" if measured["horizon"] is None else f"{measured['horizon']} future frames, "
    first = (
        f"{measured['bench']} of {measured['preset']}, batch {measured['batch']}, {future}"
        f"{measured['precision']} on {measured['backend']} ({measured['device']}): compiled in "
        f"{measured['compile_seconds']:.1f} s, {measured['gflop']:.3g} GFLOP per run"
    ) + ("" if memory is None else f", {memory / 2**20:.0f} MiB")
    if "seconds" not in measured:
        return first
    rates = [f"{measured[f'{unit}_per_second']:.3g} {unit}/s" for unit in UNITS if f"{unit}_per_second" in measured]
    return (
        f"{first}\n{measured['seconds']:.3g} s per run, {rates[0]}, {measured['gflops']:.3g} GFLOP/s: "
        f"{measured['share']:.1%} of a large matmul's {measured['peak_gflops']:.3g}"
    )


UNITS = ("frames", "tokens", "updates", "candidates")


def matmul_gflops(precision: Precision, repeats: int = 3) -> float:
    """GFLOP/s of one large square matmul here: the best of a few."""
    # Large enough to keep every core busy, small enough for seconds on two of them.
    side = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.full((side, side), 1 / side, precision)
    multiply = jax.jit(jnp.matmul)
    return 2 * side**3 / 1e9 / min(seconds_in_turn([lambda: multiply(matrix, matrix)], repeats)[0])


def repeated_run(path: HotPath, program: jax.stages.Compiled) -> Callable[[], Any]:
    """A function that runs the program, on what it made before where it trains."""
    arguments = jax.jit(path.arguments)(jax.random.key(0))

    def run() -> Any:
        nonlocal arguments
        results = program(*arguments)
        if path.trains:  # the state given is gone, the next one came first
            arguments = (results[0], *arguments[1:])
        return results

    return run


def seconds_in_turn(runs: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Seconds of each of some repeats of each run, in turn, after one of each that does not count."""
    for run in runs:
        jax.block_until_ready(run())
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, taken in zip(runs, seconds, strict=True):
            if len(runs) > 1:
                time.sleep(0.3)  # another library's threads go on looking for work for a while
            start = time.perf_counter()
            jax.block_until_ready(run())
            taken.append(time.perf_counter() - start)
    return seconds


def _compiled(traced: jax.stages.Traced) -> tuple[jax.stages.Compiled, float]:
    with without_compilation_cache():
        start = time.perf_counter()
        program = traced.lower().compile()
        return program, time.perf_counter() - start


@contextlib.contextmanager
def without_compilation_cache() -> Iterator[None]:
    """Programs compiled inside are compiled, whatever earlier runs left behind."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # whether there is one is asked once, then remembered
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _peak_memory(program: jax.stages.Compiled) -> int | None:
    memory = program.memory_analysis()
    if memory is None:
        return None
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return held + memory.temp_size_in_bytes
