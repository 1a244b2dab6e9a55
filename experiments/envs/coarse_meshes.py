"""Fewer triangles to draw: what a renderer uploads while `coarse` holds, without a change to what the physics sees.

A robot's meshes have tens of thousands of triangles, most of them far smaller than a pixel of a small picture, and in
software each of them costs. Corners in one cell of a grid become one (Rossignac and Borrel, 1993).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def coarse(model, cell: float) -> Iterator[None]:
    """While it holds, the model's meshes have the triangles that remain on a grid of `cell` metres.

    The arrays of a model are where a renderer reads from once, when it is made; afterwards they are as they were.
    """
    names = ("mesh_face", "mesh_facenormal", "mesh_facetexcoord", "mesh_facenum")
    kept = {name: getattr(model, name).copy() for name in names}
    try:
        for mesh in range(model.nmesh):
            _thin_out(model, mesh, cell)
        yield
    finally:
        for name, values in kept.items():
            getattr(model, name)[:] = values


def _thin_out(model, mesh: int, cell: float) -> None:
    start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
    first, faces = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
    corners = representatives(model.mesh_vert[start : start + count], cell)[model.mesh_face[first : first + faces]]
    remaining = remaining_faces(corners)
    for name, values in (
        ("mesh_face", corners),
        ("mesh_facenormal", model.mesh_facenormal[first : first + faces].copy()),
        ("mesh_facetexcoord", model.mesh_facetexcoord[first : first + faces].copy()),
    ):
        getattr(model, name)[first : first + len(remaining)] = values[remaining]
    model.mesh_facenum[mesh] = len(remaining)


def representatives(vertices_v3: np.ndarray, cell: float) -> np.ndarray:
    """For each vertex the one, int [V], that stands for its cell of the grid: that nearest to the mean of them."""
    _, cells, sizes = np.unique(np.floor(vertices_v3 / cell), axis=0, return_inverse=True, return_counts=True)
    cells = cells.reshape(-1)
    centres = np.zeros((len(sizes), 3))
    np.add.at(centres, cells, vertices_v3)
    distances = np.linalg.norm(vertices_v3 - (centres / sizes[:, None])[cells], axis=1)
    order = np.lexsort((distances, cells))
    nearest = order[np.searchsorted(cells[order], np.arange(len(sizes)))]
    return nearest[cells].astype(np.int32)


def remaining_faces(corners_f3: np.ndarray) -> np.ndarray:
    """Numbers of the triangles that still have three corners, each of them once; of a mesh that is all gone, the
    first."""
    a, b, c = corners_f3.T
    whole = np.flatnonzero((a != b) & (b != c) & (a != c))
    # Turned so that the smallest corner comes first: the same triangle, seen from the same side.
    turns = (corners_f3[whole].argmin(axis=1)[:, None] + np.arange(3)) % 3
    turned = np.take_along_axis(corners_f3[whole], turns, axis=1)
    remaining = whole[np.sort(np.unique(turned, axis=0, return_index=True)[1])]
    return remaining if len(remaining) else np.array([0])
