"""`ivideogpt bench`, `estimate` and `doctor`: what was typed into what is measured, and what is printed of it.

Each command imports what it needs when it is its turn: the doctor has to work where other packages do not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import tyro

from experiments.errors import UsageError

Options = TypeVar("Options")


def bench(arguments: Sequence[str], description: str) -> int:
    """Time a hot path, the loop of an agent, or the loader of a data set."""
    from experiments.benchmarks import bench
    from experiments.training import presets

    described = f"{description} --preset is one of {', '.join(presets.names())}."
    options = _parse(bench.BenchOptions, "bench", described, arguments)
    if options.path in ("loader", "loop") and options.model is not None:
        raise UsageError(f"--model is for the parts of a world model: {options.path} is none")
    if options.path == "loader":
        return _bench_loader(options)
    if options.path == "loop":
        return _bench_loop(options)
    measured = bench.bench(
        options.path,
        presets.get(options.preset),
        options.precision,
        options.batch,
        options.horizon,
        options.max_batch,
        None if options.compile_only else options.repeats,
        options.size,
        options.model,
    )
    return _print(measured, bench.as_text(measured), options.json)


def _bench_loop(options: Any) -> int:
    from experiments.envs import rendering

    rendering.choose_backend()
    from experiments.benchmarks import loop_speed  # late: MuJoCo reads its backend when it is imported
    from experiments.training import presets

    measured = loop_speed.bench_loop(presets.get(options.preset), options.repeats)
    return _print(measured, loop_speed.as_text(measured), options.json)


def _bench_loader(options: Any) -> int:
    from experiments.benchmarks import loader_speed
    from experiments.pretraining import presets as pretraining
    from experiments.runs.progress import ProgressDisplay

    config = dataclasses.replace(pretraining.get(options.preset), data=options.data.specs(videos=True))
    with ProgressDisplay() as display:
        measured = loader_speed.bench_loader(config, options.repeats, display.update)
    return _print(measured, loader_speed.as_text(measured), options.json)


def estimate(arguments: Sequence[str], description: str) -> int:
    """Compile an update for devices that are not here, and say what it would need there."""
    from experiments.benchmarks import device_kinds
    from experiments.benchmarks import estimate as room
    from experiments.pretraining import presets

    described = (
        f"{description} --preset is one of {', '.join(presets.names())}; --device-kind one of "
        f"{', '.join(device_kinds.names())}."
    )
    options = _parse(room.EstimateOptions, "estimate", described, arguments)
    config = room.apply_options(presets.get(options.preset), options)
    kind = device_kinds.get(options.device_kind)
    devices, compiler = room.devices_of(kind, options.devices)
    found = room.estimate_update(config, options.part, kind, devices, compiler)
    return _print(found.as_dict(), room.as_text(found), options.json)


@dataclasses.dataclass(frozen=True)
class DoctorOptions:
    """What to do besides looking."""

    install_renderer: bool = False
    """Install a rendering library where none works (as root, on Debian)."""
    quiet: bool = False
    """Print only problems."""


def doctor(arguments: Sequence[str], description: str) -> int:
    """Look at this machine; exit code 1 where training cannot run."""
    options = _parse(DoctorOptions, "doctor", description, arguments)
    from experiments.benchmarks import doctor
    from experiments.envs import rendering

    if options.install_renderer:
        rendering.install_if_missing()
    if options.quiet:
        return 0
    report = doctor.doctor()
    print(doctor.format_report(report))
    return 0 if report.ok else 1


def _parse(kind: type[Options], name: str, description: str, arguments: Sequence[str]) -> Options:
    switches = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(kind, prog=f"ivideogpt {name}", description=description, args=arguments, config=switches)


def _print(measured: Mapping[str, Any], text: str, as_json: bool) -> int:
    print(json.dumps(measured) if as_json else text)
    return 0
