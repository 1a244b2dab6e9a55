"""Drafts: fewer triangles, nearly the same pictures, and the very same physics."""

import numpy as np
import pytest

from experiments.envs import rendering

rendering.choose_backend()

from experiments.envs.coarse_meshes import coarse, remaining_faces, representatives  # noqa: E402
from experiments.envs.registry import make_simulator  # noqa: E402

MESH_ARRAYS = ("mesh_vert", "mesh_face", "mesh_facenormal", "mesh_facenum", "mesh_graph")


def test_corners_of_one_cell_become_the_one_nearest_to_their_middle():
    vertices = np.array([[0.1, 0, 0], [0.4, 0, 0], [0.9, 0, 0], [1.5, 0, 0]])
    np.testing.assert_array_equal(representatives(vertices, 1.0), [1, 1, 1, 3])


def test_triangles_without_three_corners_or_seen_before_are_left_out_but_backs_stay():
    corners = np.array([[0, 1, 2], [0, 0, 2], [1, 2, 0], [2, 1, 0]])
    np.testing.assert_array_equal(remaining_faces(corners), [0, 3])
    np.testing.assert_array_equal(remaining_faces(np.zeros((4, 3), int)), [0])


@pytest.fixture(scope="module")
def simulators():
    made = {quality: make_simulator("handle-press", quality) for quality in ("fast", "draft")}
    yield made
    for env in made.values():
        env.close()


def test_a_draft_looks_alike_and_moves_the_same(simulators):
    frames, rewards = {}, {}
    for quality, env in simulators.items():
        rng, rewards[quality] = np.random.default_rng(0), []
        frames[quality] = [env.reset(seed=1)[0]]
        for _ in range(15):
            frame, reward, *_ = env.step(rng.uniform(-1, 1, 4))
            frames[quality].append(frame)
            rewards[quality].append(reward)
    assert rewards["fast"] == rewards["draft"]
    fast, draft = (np.stack(frames[quality]).astype(float) / 255 for quality in ("fast", "draft"))
    assert 0 < np.square(fast - draft).mean() < 5e-4
    assert (np.abs(fast - draft).max(-1) > 0.1).mean() < 0.02


def test_the_model_keeps_its_meshes_and_a_draft_has_less_than_half_the_triangles(simulators):
    model = simulators["fast"]._simulator.model
    before = {name: getattr(model, name).copy() for name in MESH_ARRAYS}
    with coarse(model, 0.005):
        assert model.mesh_facenum.sum() < before["mesh_facenum"].sum() / 2
        np.testing.assert_array_equal(model.mesh_vert, before["mesh_vert"])
    for name, values in before.items():
        np.testing.assert_array_equal(getattr(model, name), values)
