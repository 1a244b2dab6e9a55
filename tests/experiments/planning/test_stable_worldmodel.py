"""stable-worldmodel's own solvers and evaluation around our model, where that package is installed (docs/how-to/plan.md
says how): nothing here needs it otherwise."""

import importlib.util

import numpy as np
import pytest
import small

if importlib.util.find_spec("stable_worldmodel") is None:
    pytest.skip("stable-worldmodel is not installed: docs/how-to/plan.md says how", allow_module_level=True)

import stable_worldmodel as swm
import torch

from experiments.errors import UsageError
from experiments.planning.adapters import CostModel
from world_model import WorldModel

TASK = "swm/TwoRoom-v1"
"""Needs no simulator's package: a dot, moved by two numbers."""
SOLVERS = {"CEMSolver": 1, "ICEMSolver": 1, "MPPISolver": 2}
"""And how many agent steps one of their actions is."""


class Recorded:
    """Episodes as their data sets give them: pictures with channels first."""

    column_names = ("pixels", "action", "proprio", "state")

    def __init__(self):
        self.episodes: list[dict] = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def write_episodes(self, episodes):
        self.episodes.extend(episodes)

    def load_chunk(self, numbers, starts, ends):
        chunks = []
        for number, start, end in zip(numbers, starts, ends, strict=True):
            chunk = {name: np.stack(self.episodes[number][name][start:end]) for name in self.column_names}
            chunk["pixels"] = np.moveaxis(chunk["pixels"], -1, 1)
            chunks.append({name: torch.from_numpy(values) for name, values in chunk.items()})
        return chunks


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return small.small_frames_model(action_size=2)


def make_world():
    return swm.World(TASK, num_envs=2, image_shape=(16, 16), max_episode_steps=20)


@pytest.fixture(scope="module")
def recorded():
    world, recorded = make_world(), Recorded()
    world.set_policy(swm.policy.RandomPolicy(seed=0))
    world.collect(writer=recorded, episodes=2, seed=0, progress=False)
    world.close()
    return recorded


def evaluate(costs: CostModel, recorded: Recorded, name: str, **policy):
    """Their evaluation from a data set, six steps ahead, with four to get there; and their solver."""
    world = make_world()
    solver = getattr(swm.solver, name)(costs, num_samples=12, n_steps=2, topk=3)
    config = swm.PlanConfig(horizon=2, receding_horizon=1, action_block=costs.action_block)
    world.set_policy(swm.policy.WorldModelPolicy(solver=solver, config=config, **policy))
    starts = {"method": "_set_state", "args": {"state": {"value": "state"}}}
    found = world.evaluate(
        dataset=recorded, episodes_idx=[0, 1], start_steps=[0, 3], goal_offset=6, eval_budget=4, callables=[starts]
    )
    world.close()
    return found


@pytest.mark.parametrize("name", SOLVERS)
def test_their_evaluation_from_a_data_set_plans_with_our_model(model, recorded, name):
    found = evaluate(CostModel(model, action_block=SOLVERS[name]), recorded, name)
    assert found["episode_successes"].shape == (2,)


def test_their_cem_lowers_our_cost(model, recorded):
    first, last = (recorded.episodes[0]["pixels"][index] for index in (0, -1))
    info = {"pixels": torch.from_numpy(first[None, None]), "goal": torch.from_numpy(last[None, None])}
    costs = CostModel(model)
    solver = swm.solver.CEMSolver(costs, num_samples=24, n_steps=4, topk=4)
    solver.configure(action_space=make_world().envs.action_space, n_envs=1, config=swm.PlanConfig(2, 1))
    found = solver.solve(info)["actions"]
    batched = {name: picture[:, None] for name, picture in info.items()}
    planned, still = (costs.get_cost(batched, actions[:, None]) for actions in (found, torch.zeros_like(found)))
    assert found.shape == (1, 2, 2) and (planned < still).all()


def test_what_does_not_fit_is_one_sentence(model, recorded):
    normalised = {name: lambda picture: picture.float() / 127.5 - 1 for name in ("pixels", "goal")}
    with pytest.raises(UsageError, match="unnormalised"):
        evaluate(CostModel(model), recorded, "CEMSolver", transform=normalised)
    world = make_world()
    cem = swm.solver.CEMSolver(CostModel(model), num_samples=12, n_steps=1, topk=3)
    for solver, said in (
        (cem, "info lacks goal: evaluate from a data set"),
        (swm.solver.GradientSolver(CostModel(model), n_steps=1), "gives solvers no gradients: use CEMSolver"),
    ):
        world.set_policy(swm.policy.WorldModelPolicy(solver=solver, config=swm.PlanConfig(2, 1)))
        with pytest.raises(UsageError, match=said):
            world.evaluate(episodes=2, seed=0)
    world.close()
