"""Which graphics library MuJoCo draws with where there is no screen: EGL, else OSMesa, found by trying.

MuJoCo reads MUJOCO_GL when it is imported, so `choose_backend` runs first. A library that does not work may crash the
process, so each is tried in a child. What was found stays in the environment, where child processes read it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from experiments.errors import UserError

BACKENDS = {"linux": ("egl", "osmesa"), "darwin": ("cgl",), "win32": ("wgl",)}.get(sys.platform, ("egl", "osmesa"))
"""What to try, in this order: what MuJoCo knows on this system that needs no screen."""

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


class RenderingError(UserError, RuntimeError):
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
    advice = (
        f"on Debian or Ubuntu run '{install_command()}' (or install {' '.join(PACKAGES['osmesa'])})"
        if "egl" in BACKENDS
        else "run it from a session with graphics, or set MUJOCO_GL yourself"
    )
    raise RenderingError(f"MuJoCo cannot draw here: no graphics library works ({', '.join(BACKENDS)} tried); {advice}")


def install_command() -> str:
    return f"sudo apt-get install -y {' '.join(PACKAGES['egl'])}"


def install_if_missing() -> str:
    """As `choose_backend`, but where nothing works and this is root on Debian or Ubuntu, install the packages first."""
    try:
        return choose_backend()
    except RenderingError:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=False)
    for backend in BACKENDS:  # one after the other: newer releases have no OSMesa, and apt-get takes all or none
        packages = PACKAGES[backend]
        print(f"no graphics library works: installing {' '.join(packages)}", file=sys.stderr)
        install = ["apt-get", "install", "-y", "-qq", *packages]
        subprocess.run(install, env=quiet, check=False, stdout=subprocess.DEVNULL)
        if works(backend):
            break
    return choose_backend()
