"""Laws of the loop that need no simulator and no process."""

import dataclasses

import numpy as np
import pytest
from safe_points import Dot, check_that_all_lead_to, whole_run

from agent.dreamerv3.loop import DreamerV3
from agent.events import CheckpointDue, Evaluated, SafePoint
from agent.guards import Diverged
from agent.loop import Inputs, Schedule

SCHEDULE = Schedule(
    agent_steps=40,
    random_agent_steps=8,  # in the middle of an episode, which is random to its end
    replay_episodes=3,
    evaluate_every_agent_steps=20,
    evaluation_episodes=2,
    checkpoint_every_agent_steps=10,
    shown_episodes=1,
)


@pytest.fixture
def make(config):
    """A loop of the tests' small learner, with an update every second agent step."""

    def loop(folder=None, schedule: Schedule = SCHEDULE, **changes) -> DreamerV3:
        small = dataclasses.replace(config, **{"train_ratio": 0.5 * config.batch * config.length} | changes)
        return DreamerV3(small, schedule, Inputs(Dot(small.model.resolution), [], 0, folder))

    return loop


@pytest.mark.slow
def test_every_safe_point_leads_to_the_same_end(make, tmp_path):
    safe_points, finished = whole_run(make(tmp_path / "whole"))
    assert len(finished["real"]) == 3
    assert {CheckpointDue, SafePoint} <= {kind for _, kind in safe_points}
    resumable = [state for state, _ in safe_points if state.counts["agent_steps"] >= 25]
    check_that_all_lead_to(finished, [safe_points[0][0], *resumable[:-1:4]], make, tmp_path / "whole")


def test_updates_follow_the_train_ratio_and_the_random_steps_are_made_up_for(make):
    run, updates = make(), {}
    for _ in run.events():
        updates[run.clock.agent_steps] = run.counts.updates
    assert updates[9] == 0
    assert {steps: done for steps, done in updates.items() if steps > 10} == {n: n // 2 for n in range(11, 41)}


def test_the_latents_of_an_episode_are_those_that_its_policy_acted_from(make):
    run = make(schedule=dataclasses.replace(SCHEDULE, agent_steps=15, evaluation_episodes=1), train_ratio=0.0)
    list(run.events())
    known = np.asarray(run.latents.classes_ns).reshape(3, 6, -1).min(-1) >= 0
    np.testing.assert_array_equal(known[:2], [[False] * 6] * 2)  # random
    np.testing.assert_array_equal(known[2], [True] * 5 + [False])  # nothing acts in the last frame


def test_an_evaluation_does_not_disturb_the_episodes(make):
    """Returns of training episodes are equal however often the policy is evaluated between them."""
    rare = dataclasses.replace(SCHEDULE, evaluate_every_agent_steps=40)
    often = dataclasses.replace(SCHEDULE, evaluate_every_agent_steps=5)
    runs = [make(schedule=schedule) for schedule in (rare, often)]
    counts = [sum(isinstance(event, Evaluated) for event in run.events()) for run in runs]
    assert counts[0] < counts[1]
    for one, other in zip(*(run.replay.episodes for run in runs), strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_a_poisoned_learner_stops_the_run_with_the_name_of_a_loss_and_the_step(make):
    run = make()
    poison = np.full_like(run.agent.slow_critic["out"]["bias"], np.nan)
    run.agent.slow_critic["out"]["bias"] = poison
    with pytest.raises(Diverged, match=r"^agent/\w+ was not finite at agent step 10,"):
        list(run.events())
