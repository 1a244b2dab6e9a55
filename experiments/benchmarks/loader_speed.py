"""`ivideogpt bench loader`: how fast segments come, beside how fast an update would need them."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from agent.events import Progress
from experiments.benchmarks import device_kinds
from experiments.benchmarks.bench import check_positive, matmul_gflops
from experiments.benchmarks.estimate import SHARE, seconds_of, step_flops
from experiments.data.loader import DatasetSpec, Loader, LoaderConfig
from experiments.pretraining.config import Pretraining

WORKERS = (0, 1, 2)
"""Processes besides this one."""
BATCHES = 6
"""Timed in each turn, after as many that do not count: those that were read ahead must be gone."""


def bench_loader(config: Pretraining, repeats: int, tell: Callable[[Progress], None]) -> dict[str, Any]:
    """Medians over some turns, the numbers of workers in turn; `tell` is given the progress.

    segments_per_second: by workers, in batches of the transformer's updates, augmented. needed_per_second: by kind of
    device, one of them: what an update of the transformer takes at SHARE of the published peak; `here`: at all of this
    machine's matmul peak, which no update reaches. Raises UsageError where `repeats` is less than 1.
    """
    check_positive({"repeats": repeats})
    batch = config.transformer.batch
    turns = WORKERS * repeats
    rates: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for done, workers in enumerate(turns):
        tell(Progress("turns", done, len(turns)))
        rates[workers].append(_rate(dataclasses.replace(config.loader(batch), workers=workers), config.data))
    flops = step_flops(config, "transformer")
    kinds = {name: seconds_of(config, "transformer", flops, device_kinds.get(name)) for name in device_kinds.names()}
    return {
        "bench": "loader",
        "preset": config.preset,
        "batch": batch,
        "segment_frames": config.world_model.segment_frames,
        "resolution": config.world_model.tokenizer.resolution,
        "data_sets": len(config.data),
        "cpus": os.cpu_count(),
        "segments_per_second": {str(workers): statistics.median(found) for workers, found in rates.items()},
        "device": jax.devices()[0].device_kind,
        "needed_per_second": {"here": batch / (flops / 1e9 / matmul_gflops("float32"))}
        | {name: batch / seconds for name, seconds in kinds.items()},
    }


def as_text(measured: dict[str, Any]) -> str:
    rates = ", ".join(
        f"{workers} worker{'' if workers == '1' else 's'} {rate:.0f}/s"
        for workers, rate in measured["segments_per_second"].items()
    )
    here, *others = measured["needed_per_second"].items()
    needed = ", ".join(f"{name} {rate:.0f}/s" for name, rate in others)
    return (
        "loader of {preset}, batches of {batch} segments of {segment_frames} frames at {resolution} pixels, augmented; "
        "data sets: {data_sets}, CPU cores: {cpus}\n"
    ).format(**measured) + (
        f"  segments  {rates}\n"
        f"  needed    here at most {here[1]:.2f}/s ({measured['device']}, by its matmul peak); estimates for one "
        f"device at {SHARE:.0%} of its published peak: {needed}"
    )


def _rate(config: LoaderConfig, specs: tuple[DatasetSpec, ...]) -> float:
    """Segments per second, from the first batch that had to be waited for."""
    loader = Loader(config, specs)
    for _ in range(BATCHES):
        next(loader)
    start = time.perf_counter()
    for _ in range(BATCHES):
        next(loader)
    seconds = time.perf_counter() - start
    loader.close()
    return BATCHES * config.batch / seconds
