"""The calls that VP2 and stable-worldmodel make of a model, in the shapes that were seen when their own planners made
them. Tensors are stood in for by arrays with `new_tensor`."""

import jax
import numpy as np
import pytest
import small

from agent.planning import Cost
from experiments.errors import UsageError
from experiments.planning.adapters import CostModel, VP2Model

rng = np.random.default_rng(0)
FRAMES, GOAL = (rng.integers(256, size=(n, 16, 16, 3), dtype=np.uint8) for n in (2, 1))


class Tensor(np.ndarray):
    """What the adapter asks of a tensor, which may be on another device."""

    requires_grad = False

    def new_tensor(self, values):
        return np.asarray(values).view(Tensor)

    def detach(self):
        return self

    cpu = detach


def array_of(kind, *shape):
    return np.zeros(shape, kind).view(Tensor)


@pytest.fixture(scope="module")
def model():
    return small.small_frames_model()


def test_vp2_gets_a_frame_after_each_action_the_given_ones_as_they_are(model):
    video = np.repeat(FRAMES[None] / 255, 20, axis=0)  # float64, as VP2's CEM gives it
    actions = rng.uniform(-1, 1, (20, 5, 3))  # one between the given frames, four to plan
    rgb = VP2Model(model)({"video": video, "actions": actions, "state_obs": np.zeros((2, 4))}, grad_enabled=False)[
        "rgb"
    ]
    assert type(rgb) is np.ndarray and rgb.dtype == np.float32 and 0 <= rgb.min() and rgb.max() <= 1
    assert rgb.shape == (20, 5, 16, 16, 3)
    np.testing.assert_array_equal(rgb[:, 0], video[:, 1].astype(np.float32))
    made = model.rollout(
        video.astype(np.float32), actions[:, 1:].astype(np.float32), jax.random.key(0), temperature=0.0
    )
    np.testing.assert_allclose(255 * rgb[:, 1:], made.frames, atol=1e-3)


def test_vp2_is_told_what_does_not_fit(model):
    batch = {"video": np.zeros((1, 3, 16, 16, 3)), "actions": np.zeros((1, 4, 3))}
    with pytest.raises(UsageError, match="expected 2 frames and at least 2 actions"):
        VP2Model(model)(batch)
    with pytest.raises(UsageError, match="no gradients"):
        VP2Model(model)(batch, grad_enabled=True)


@pytest.mark.parametrize("channels", ["last", "first"])
def test_costs_are_those_of_the_planner_whatever_the_order_of_channels(model, channels):
    pictures = {"pixels": FRAMES, "goal": GOAL}
    info = {name: np.broadcast_to(x, (2, 5, *x.shape)) for name, x in pictures.items()}
    if channels == "first":
        info = {name: np.moveaxis(x, -1, -3) for name, x in info.items()}
    candidates = rng.uniform(-2, 2, (2, 5, 2, 6)).view(Tensor)
    costs = CostModel(model, Cost(), action_block=2).get_cost(info, candidates)
    assert isinstance(costs, Tensor) and costs.shape == (2, 5)
    actions = np.clip(candidates[1], -1, 1).reshape(5, 4, 3).astype(np.float32)
    given = np.repeat(FRAMES[None], 5, axis=0)
    made = model.rollout(given, actions, jax.random.key(0), temperature=0.0)
    error = np.square(np.asarray(made.frames)[:, -1] / 255 - GOAL[0] / 255).mean((1, 2, 3))
    np.testing.assert_allclose(costs[1], error, rtol=0.02)


def test_stable_worldmodels_call_from_its_evaluation_is_answered_in_its_shapes(model):
    """With one picture of the present, a list among the tensors, and much that is not looked at."""
    info = {"pixels": array_of(np.uint8, 1, 5, 1, 16, 16, 3), "goal": array_of(np.uint8, 1, 5, 1, 16, 16, 3)}
    info["goal"] += 90
    others = {"state": (1, 5, 1, 2), "goal_state": (1, 5, 1, 2), "action": (1, 5, 1, 3), "reward": (1, 5, 1)}
    info |= {name: array_of(np.float32, *shape) for name, shape in others.items()} | {"env_name": ["one"]}
    info |= {"terminated": array_of(bool, 1, 5, 1), "step_idx": array_of(np.int64, 1, 5, 1)}
    candidates = rng.normal(size=(1, 5, 2, 3)).astype(np.float32).view(Tensor)
    for name in ("get_cost", "criterion"):
        costs = getattr(CostModel(model), name)(info, candidates)
        assert isinstance(costs, Tensor) and costs.shape == (1, 5) and costs.std() > 0


@pytest.mark.parametrize(
    ("info", "size", "said"),
    [
        ({"pixels": np.full((1, 2, 1, 16, 16, 3), -1.5)}, 6, "unnormalised"),
        ({}, 3, r"actions of 3 numbers: expected 3 x 2"),
        ({"pixels": np.zeros((1, 2, 1, 224, 224, 3))}, 6, r"224 x 224 pixels: the model sees 16 x 16, as in World"),
        ({"goal": np.zeros((1, 2, 16, 16))}, 6, r"pictures \(16, 16\): expected \[T, H, W, 3\]"),
    ],
)
def test_stable_worldmodel_is_told_what_does_not_fit(model, info, size, said):
    fits = dict.fromkeys(("pixels", "goal"), np.zeros((1, 2, 1, 16, 16, 3)))
    with pytest.raises(UsageError, match=said):
        CostModel(model, action_block=2).get_cost(fits | info, array_of(np.float32, 1, 2, 2, size))


def test_stable_worldmodel_is_told_that_a_goal_is_missing_or_gradients_are(model):
    candidates = array_of(np.float32, 1, 2, 2, 3)
    with pytest.raises(UsageError, match="info lacks goal: evaluate from a data set"):
        CostModel(model).get_cost({"pixels": None}, candidates)
    candidates.requires_grad = True
    with pytest.raises(UsageError, match="gives solvers no gradients: use CEMSolver"):
        CostModel(model).get_cost({}, candidates)
