"""MuJoCo's offscreen renderer at one of two qualities, for any simulator that holds a MuJoCo model."""

from __future__ import annotations

import weakref
from typing import Literal

import numpy as np

from experiments.envs.mujoco_state import bindings

Quality = Literal["fast", "full"]


class Camera:
    """One camera of a model; `fast` takes a sixteenth of the time of `full` in software.

    full: MuJoCo's defaults, shadows and reflections and 4 samples a pixel. fast: none of the three.
    """

    def __init__(self, model, camera: str | int, resolution: int, quality: Quality):
        import mujoco

        if quality not in ("fast", "full"):
            raise ValueError(f"render_quality is '{quality}', expected fast or full")
        if quality == "fast":
            model.vis.quality.shadowsize = 0
            model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = resolution
        self.camera = camera
        self._renderer = mujoco.Renderer(model, resolution, resolution)
        # Released while the interpreter is whole: at its end the graphics library is gone before the renderer.
        self.close = weakref.finalize(self, self._renderer.close)
        flags = bindings().mjtRndFlag
        self._plain = (flags.mjRND_SHADOW, flags.mjRND_REFLECTION) if quality == "fast" else ()

    def picture(self, data) -> np.ndarray:
        """uint8 [resolution, resolution, 3], the caller's own."""
        self._renderer.update_scene(data, camera=self.camera)
        for flag in self._plain:
            self._renderer.scene.flags[flag] = 0
        return self._renderer.render()
