"""What plans are tried in: the world model's futures are those of its rollouts; bounds are what they say."""

import dataclasses

import jax
import numpy as np
import pytest
import small

from agent import planning
from agent.planning import Cost, Moment, PlannerConfig
from agent.planning.models import held
from world_model import WorldModel
from world_model.futures import begin_futures, futures, goal_codes

PLANNER = PlannerConfig(samples=6, elites=2, iterations=2, horizon=2, execute=1)


@pytest.fixture(scope="module", params=[small.small_model, small.small_frames_model], ids=["tokens", "frames"])
def either(request) -> WorldModel:
    return request.param()


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return small.small_frames_model()


@pytest.fixture(scope="module")
def moment() -> Moment:
    return Moment(np.random.default_rng(0).integers(256, size=(2, 16, 16, 3), dtype=np.uint8), None)


GOAL = planning.goal_of(np.random.default_rng(1).random((16, 16, 3), np.float32))


def of(model: WorldModel, *costs: str, **settings) -> planning.LearnedFutures:
    cost = Cost(tuple((name, 1.0) for name in costs or ("pixels",)))
    return planning.LearnedFutures(model.config, model.params, PLANNER, cost, **settings)


def test_a_future_is_the_frame_of_a_greedy_rollout(either, moment):
    actions = np.random.default_rng(2).uniform(-1, 1, (5, 3, 3)).astype(np.float32)
    given = np.repeat(moment.frames_chwc[None], 5, axis=0)
    video = either.rollout(given, actions, jax.random.key(0), temperature=0.0)
    made = jax.jit(
        lambda params: futures(
            either.config, params, begin_futures(either.config, params, moment.frames_chwc, 3), actions, (1, 3)
        )
    )(either.params)
    np.testing.assert_allclose(255 * np.asarray(made.frames_skhwc), np.asarray(video.frames)[:, [0, 2]], atol=0.51)
    np.testing.assert_allclose(made.rewards_sk, np.asarray(video.rewards)[:, [0, 2]], rtol=1e-3, atol=1e-4)


def test_steps_beyond_the_candidates_are_refused(model, moment):
    start = jax.eval_shape(lambda: begin_futures(model.config, model.params, moment.frames_chwc, 3))
    with pytest.raises(ValueError, match=r"steps \(4,\) ahead, of candidates of 3 actions"):
        futures(model.config, model.params, start, np.zeros((1, 3, 3), np.float32), (4,))


@pytest.mark.parametrize("cost", ["pixels", "codes"])
def test_pieces_do_not_change_a_plan(model, moment, cost):
    begin = planning.begin(PLANNER, 3)
    whole, cut = (of(model, cost, max_batch=size).plan(moment, GOAL, begin, jax.random.key(0))[1] for size in (None, 4))
    np.testing.assert_allclose(whole.actions_ha, cut.actions_ha, atol=1e-5)
    np.testing.assert_allclose(whole.costs_i, cut.costs_i, rtol=1e-4)


def test_a_plan_says_what_it_costs_and_shows_what_it_expects(model, moment):
    planner = of(model)
    _, plan = planner.plan(moment, GOAL, planning.begin(PLANNER, 3), jax.random.key(0))
    seen = planner.preview(moment, GOAL, np.asarray(plan.actions_ha))
    assert seen.frames_fhwc.shape == (2, 16, 16, 3) and seen.frames_fhwc.dtype == np.uint8
    error = np.square(seen.frames_fhwc[-1] / 255 - np.asarray(GOAL.frame_hwc)).mean()
    np.testing.assert_allclose(seen.cost, error, rtol=0.02)


def test_the_present_as_goal_has_the_codes_of_nothing_that_moves(model, moment):
    codes = goal_codes(model.config, model.params, moment.frames_chwc, moment.frames_chwc[-1])
    other = goal_codes(model.config, model.params, moment.frames_chwc, GOAL.frame_hwc)
    assert not codes.any() and other.shape == codes.shape and (other[:, -1] == 1).any()


class Slider:
    """A bright column that the first action moves; an episode lasts eight steps."""

    episode_agent_steps = 8

    def __init__(self):
        self.at, self.steps, self.drawn = 8.0, 0, 0

    def save_state(self):
        return self.at, self.steps

    def restore_state(self, state):
        self.at, self.steps = state

    def advance(self, action):
        self.at, self.steps = float(np.clip(self.at + 2 * action[0], 0, 15)), self.steps + 1
        return self.at, self.at > 14, self.steps == 8

    def render(self):
        self.drawn += 1
        columns = np.clip(255 * (1 - np.abs(np.arange(16) - self.at) / 16), 0, 255)
        return np.broadcast_to(columns[None, :, None], (16, 16, 3)).astype(np.uint8)


def test_the_simulator_as_model_finds_the_way_and_draws_only_what_costs():
    slider, planner = Slider(), dataclasses.replace(PLANNER, samples=32, elites=4, iterations=4)
    start = slider.save_state()
    slider.at = 12.0
    goal = planning.goal_of(slider.render())
    model = planning.SimulatorFutures(slider, planner, Cost())
    slider.drawn = 0
    _, plan = model.plan(Moment(slider.render()[None], start), goal, planning.begin(planner, 3), jax.random.key(0))
    assert slider.drawn == 1 + 32 * 4
    np.testing.assert_allclose(2 * plan.actions_ha[:, 0].sum(), 4, atol=0.3)
    seen = model.preview(Moment(slider.render()[None], start), goal, np.asarray(plan.actions_ha))
    assert seen.frames_fhwc.shape == (2, 16, 16, 3) and seen.cost < 1e-3


def test_beyond_an_episodes_end_nothing_changes():
    slider = Slider()
    model = planning.SimulatorFutures(slider, PLANNER, Cost((("reward", 1.0),)))
    late = Moment(slider.render()[None], (3.0, 7))
    costs = model.costs(late, GOAL, np.ones((1, 2, 3), np.float32))
    np.testing.assert_array_equal(costs, [0.0])
    assert len(model.preview(late, GOAL, np.ones((2, 3), np.float32)).frames_fhwc) == 2


@pytest.mark.parametrize("bound", [planning.CopyLastFutures, planning.RandomPlans])
def test_where_nothing_is_known_all_candidates_cost_the_same(bound, moment):
    model = bound(PLANNER, Cost())
    costs = model.costs(moment, GOAL, np.zeros((5, 2, 3), np.float32))
    assert len(costs) == 5 and np.ptp(costs) == 0
    _, plan = model.plan(moment, GOAL, planning.begin(PLANNER, 3), jax.random.key(0))
    assert plan.actions_ha.shape == (2, 3) and (abs(plan.actions_ha) <= 1).all()


def test_a_bound_has_no_codes_and_a_model_without_rewards_none_of_these():
    with pytest.raises(ValueError, match="copy-last as model has no codes"):
        planning.CopyLastFutures(PLANNER, Cost((("codes", 1.0),)))
    config = dataclasses.replace(
        small.CONFIG, transformer=dataclasses.replace(small.CONFIG.transformer, reward_head=False)
    )
    with pytest.raises(ValueError, match="predicts no rewards"):
        of(WorldModel.init(config, jax.random.key(0)), "reward")


def test_a_held_action_lasts():
    actions = np.arange(6.0).reshape(1, 2, 3)
    lasting = held(dataclasses.replace(PLANNER, hold_agent_steps=3), actions)
    assert lasting.shape == (1, 6, 3) and (lasting[0, :3] == actions[0, 0]).all()
