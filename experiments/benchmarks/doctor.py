"""`ivideogpt doctor`: what this machine has, what training needs that is missing, and what to do about it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import shutil
import sys
import time
from collections.abc import Callable

from experiments.envs import rendering

GIB = 2**30
PACKAGES = ("jax", "flax", "optax", "dm-haiku", "orbax-checkpoint", "metaworld", "mujoco", "gymnasium", "numpy")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line: a name, what was found, and what to do where it is not as it should be."""

    name: str
    found: str
    advice: str = ""
    missing: bool = False  # training cannot run without it


@dataclasses.dataclass(frozen=True)
class Report:
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not any(finding.missing for finding in self.findings)


def doctor() -> Report:
    """Look at everything; a few seconds, most of them drawing pictures."""
    before = [_run_check(check) for check in (_python, _packages, _devices, _compilation_cache)]
    drawing = _run_check(_rendering)
    speed = [] if drawing.missing else [_run_check(_speed)]  # a library that does not work may end this process
    return Report((*before, drawing, *speed, _run_check(_disk), _run_check(_memory)))


def _run_check(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # whatever is broken is what the doctor is asked about
        name = check.__name__.strip("_").replace("_", " ")
        return Finding(name, f"failed: {type(error).__name__}: {error}", "mend this first", missing=True)


def format_report(report: Report) -> str:
    """A table as text, with the advice under the line it belongs to."""
    lines = []
    for finding in report.findings:
        mark = "MISSING" if finding.missing else "note" if finding.advice else "ok"
        lines.append(f"{mark:8} {finding.name:18} {finding.found}")
        if finding.advice:
            lines.append(f"{'':8} {'':18} -> {finding.advice}")
    lines.append("everything that training needs is here" if report.ok else "training cannot run until this is mended")
    return "\n".join(lines)


def _python() -> Finding:
    return Finding("python", f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")


def _packages() -> Finding:
    versions = {name: _version(name) for name in PACKAGES}
    absent = [name for name, version in versions.items() if version is None]
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return Finding("packages", found, f"pip install {' '.join(absent)}" if absent else "", bool(absent))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Finding:
    import jax

    devices = jax.devices()
    found = f"{jax.default_backend()}: " + ", ".join(str(device.device_kind) for device in devices)
    if jax.default_backend() != "cpu":
        return Finding("devices", found)
    nvidia = shutil.which("nvidia-smi") or pathlib.Path("/proc/driver/nvidia").exists()
    advice = "an NVIDIA GPU is here but jax does not use it: pip install 'ivideogpt-jax[cuda12]'" if nvidia else ""
    return Finding("devices", found, advice)


def _compilation_cache() -> Finding:
    import jax

    folder = jax.config.values["jax_compilation_cache_dir"]
    if folder:
        return Finding("compilation cache", str(folder))
    return Finding(
        "compilation cache",
        "off: every start compiles anew",
        "export JAX_COMPILATION_CACHE_DIR=~/.cache/ivideogpt/jax lets later starts skip what was compiled before",
    )


def _rendering() -> Finding:
    chosen = os.environ.get("MUJOCO_GL")
    if chosen and not rendering.works(chosen):
        return Finding(
            "rendering",
            f"MUJOCO_GL is set to {chosen}, which does not work",
            "unset MUJOCO_GL: one that works is then chosen by itself",
            missing=True,
        )
    try:
        return Finding("rendering", rendering.choose_backend())
    except rendering.RenderingError as error:
        return Finding("rendering", "none works", str(error), missing=True)


def _speed() -> Finding:
    from experiments.envs.registry import make_simulator

    env = make_simulator("handle-press")
    env.reset(seed=0)
    start = time.perf_counter()
    for _ in range(env.episode_agent_steps):
        env.step(env.action_space.low * 0)
    rate = env.episode_agent_steps / (time.perf_counter() - start)
    env.close()
    advice = "rendering is slow here; a GPU driver with EGL draws faster" if rate < 30 else ""
    return Finding("speed", f"{rate:.0f} agent steps per second, simulated and drawn (render_quality fast)", advice)


def _disk() -> Finding:
    free = shutil.disk_usage(pathlib.Path.cwd()).free / GIB
    return Finding("disk", f"{free:.0f} GiB free here", "a run needs about 1 GiB: free some space" if free < 1 else "")


def _memory() -> Finding:
    if sys.platform != "linux":
        return Finding("memory", "not measured on this system")
    # Available, not free: what the page cache holds can be had back.
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    kibibytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    available = kibibytes * 1024 / GIB
    advice = "the laptop preset needs about 4 GiB: close something" if available < 4 else ""
    return Finding("memory", f"{available:.0f} GiB available", advice)
