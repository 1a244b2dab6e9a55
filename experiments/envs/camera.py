"""MuJoCo's offscreen renderer at one of three qualities, for any simulator that holds a MuJoCo model."""

from __future__ import annotations

import contextlib
import weakref
from typing import Literal, get_args

import numpy as np

from experiments.envs.coarse_meshes import coarse
from experiments.envs.mujoco_state import bindings

Quality = Literal["fast", "full", "draft"]
DRAFT_CELL = 0.005
"""Metres between the corners that a draft keeps: about a third of the triangles of Meta-World's robot."""


class Camera:
    """One camera of a model; in software `fast` takes a sixteenth of the time of `full`, `draft` a third of `fast`.

    full: MuJoCo's defaults, shadows and reflections and 4 samples a pixel. fast: none of the three. draft: like fast,
    with meshes of fewer triangles, which at 64 pixels can hardly be told apart; not to be mixed with pictures of
    another quality, since some pixels on edges differ.
    """

    def __init__(self, model, camera: str | int, resolution: int, quality: Quality):
        import mujoco

        if quality not in get_args(Quality):
            raise ValueError(f"render_quality is '{quality}', expected {', '.join(get_args(Quality))}")
        if quality != "full":
            model.vis.quality.shadowsize = 0
            model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = resolution
        self.camera = camera
        with coarse(model, DRAFT_CELL) if quality == "draft" else contextlib.nullcontext():
            self._renderer = mujoco.Renderer(model, resolution, resolution)
        # Released while the interpreter is whole: at its end the graphics library is gone before the renderer.
        self.close = weakref.finalize(self, self._renderer.close)
        flags = bindings().mjtRndFlag
        self._plain = (flags.mjRND_SHADOW, flags.mjRND_REFLECTION) if quality != "full" else ()

    def picture(self, data) -> np.ndarray:
        """uint8 [resolution, resolution, 3], the caller's own."""
        self._renderer.update_scene(data, camera=self.camera)
        for flag in self._plain:
            self._renderer.scene.flags[flag] = 0
        return self._renderer.render()
