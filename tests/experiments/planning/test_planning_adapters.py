"""The calls that VP2 and stable-worldmodel make of a model. Tensors are stood in for by arrays with `new_tensor`."""

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
    """What the adapter asks of a tensor."""

    def new_tensor(self, values):
        return np.asarray(values).view(Tensor)


@pytest.fixture(scope="module")
def model():
    return small.small_frames_model()


def test_vp2_gets_a_frame_after_each_action_the_given_ones_as_they_are(model):
    video = np.repeat(FRAMES[None] / 255, 3, axis=0).astype(np.float32)
    actions = rng.uniform(-1, 1, (3, 4, 3))  # one between the given frames, three to plan
    rgb = VP2Model(model)({"video": video, "actions": actions, "state_obs": None})["rgb"]
    assert rgb.shape == (3, 4, 16, 16, 3) and rgb.dtype == np.float32 and 0 <= rgb.min() and rgb.max() <= 1
    np.testing.assert_array_equal(rgb[:, 0], video[:, 1])
    made = model.rollout(video, actions[:, 1:].astype(np.float32), jax.random.key(0), temperature=0.0)
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


def test_pictures_that_are_normalised_or_actions_of_another_size_are_refused(model):
    info = {"pixels": np.full((1, 2, 1, 16, 16, 3), -1.5), "goal": np.zeros((1, 2, 1, 16, 16, 3))}
    with pytest.raises(UsageError, match="unnormalised"):
        CostModel(model).get_cost(info, np.zeros((1, 2, 2, 3)).view(Tensor))
    with pytest.raises(UsageError, match=r"actions of 3 numbers: expected 3 x 2"):
        CostModel(model, action_block=2).get_cost(info, np.zeros((1, 2, 2, 3)).view(Tensor))


def test_stable_worldmodels_own_cem_lowers_the_cost(model):
    """Only where that package is installed, which the project does not need."""
    swm, torch = pytest.importorskip("stable_worldmodel"), pytest.importorskip("torch")
    import gymnasium

    solver = swm.solver.CEMSolver(CostModel(model), num_samples=24, n_steps=4, topk=4)
    space = gymnasium.spaces.Box(-1, 1, (2, 3), np.float32)
    config = swm.PlanConfig(horizon=2, receding_horizon=1, action_block=1)
    solver.configure(action_space=space, n_envs=2, config=config)
    info = {name: torch.from_numpy(np.stack([x, x])) for name, x in {"pixels": FRAMES, "goal": GOAL}.items()}
    found = solver.solve(info)
    assert found["actions"].shape == (2, 2, 3)
    still = CostModel(model).get_cost({k: v[:, None] for k, v in info.items()}, torch.zeros(2, 1, 2, 3))
    planned = CostModel(model).get_cost({k: v[:, None] for k, v in info.items()}, found["actions"][:, None])
    assert (planned < still).all()
