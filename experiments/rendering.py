"""Which graphics library MuJoCo draws with where there is no screen: EGL, else OSMesa, found by trying.

MuJoCo reads MUJOCO_GL when it is imported, so `choose_backend` runs first. A library that does not work may crash the
process, so each is tried in a child. What was found stays in the environment, where child processes read it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

BACKENDS = ("egl", "osmesa")
PACKAGES = {"egl": ("libegl1", "libgl1-mesa-dri"), "osmesa": ("libosmesa6",)}
"""Debian and Ubuntu packages of each, with software drawing."""

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 2"/><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 32, 32)
renderer.update_scene(data)
drawn = renderer.render().max() > 0
renderer.close()
raise SystemExit(0 if drawn else 1)
"""


class RenderingError(RuntimeError):
    """No graphics library works; the message says which packages to install."""


def works(backend: str) -> bool:
    """Whether MuJoCo draws a picture with this backend, tried in a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], env=os.environ | {"MUJOCO_GL": backend}, capture_output=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def choose_backend() -> str:
    """Set MUJOCO_GL, unless the user has, and return it. Raises RenderingError where nothing works."""
    if os.environ.get("MUJOCO_GL"):
        return os.environ["MUJOCO_GL"]
    for backend in BACKENDS:
        if works(backend):
            os.environ["MUJOCO_GL"] = backend
            return backend
    raise RenderingError(
        f"MuJoCo cannot draw here: neither EGL nor OSMesa works; on Debian or Ubuntu run '{install_command()}'"
    )


def install_command() -> str:
    packages = " ".join(name for backend in BACKENDS for name in PACKAGES[backend])
    return f"sudo apt-get install -y {packages}"


def install_if_missing() -> str:
    """As `choose_backend`, but where nothing works and this is root on Debian or Ubuntu, install the packages first."""
    try:
        return choose_backend()
    except RenderingError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
    print(f"no graphics library works: running '{install_command()}'", file=sys.stderr)
    packages = [name for backend in BACKENDS for name in PACKAGES[backend]]
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False)
    subprocess.run(["apt-get", "install", "-y", "-qq", *packages], env=quiet, check=False, stdout=subprocess.DEVNULL)
    return choose_backend()
