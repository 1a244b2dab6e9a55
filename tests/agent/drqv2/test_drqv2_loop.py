"""Laws of the loop that need no simulator and no process: a safe point is all there is to know, and faults stop it."""

import collections
import dataclasses

import jax
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from safe_points import Dot, check_that_all_lead_to, end_of, kept, on_device, whole_run

from agent.drqv2 import DrQv2Config, NetworkConfig
from agent.drqv2.loop import DrQv2
from agent.events import CheckpointDue, Evaluated, SafePoint
from agent.guards import Diverged
from agent.loop import Inputs, Schedule
from agent.replay import Episode, load_episode, save_episode

CONFIG = DrQv2Config(
    NetworkConfig(encoder="patches", channels=4, features=4, hidden=8),
    batch=4,
    updates_per_agent_step=1,
    initial_updates=3,
)
SCHEDULE = Schedule(
    agent_steps=40,
    random_agent_steps=10,
    replay_episodes=2,
    evaluate_every_agent_steps=20,
    evaluation_episodes=2,
    checkpoint_every_agent_steps=10,
    shown_episodes=1,
)


def loop(folder, schedule: Schedule = SCHEDULE, config: DrQv2Config = CONFIG) -> DrQv2:
    return DrQv2(config, schedule, Inputs(Dot(), [], 0, folder))


@pytest.mark.slow
def test_every_safe_point_leads_to_the_same_end(tmp_path):
    safe_points, finished = whole_run(loop(tmp_path / "whole"))
    assert len(finished["real"]) == 2
    assert len({tuple(state.counts.items()) for state, _ in safe_points}) > 10
    resumable = [
        state for state, _ in safe_points if state.counts["agent_steps"] >= 25
    ]  # the files of earlier ones are gone
    assert {CheckpointDue, SafePoint} <= {kind for _, kind in safe_points}
    check_that_all_lead_to(finished, [safe_points[0][0], *resumable[:-1]], loop, tmp_path / "whole")


@pytest.mark.parametrize("agent_steps", [0, 10])
def test_a_policy_that_never_acts_learns_from_what_there_is_and_is_evaluated(tmp_path, agent_steps):
    """Offline: from the demonstrations alone, or from the random steps, after which the run ends."""
    schedule = dataclasses.replace(SCHEDULE, agent_steps=agent_steps, evaluate_first_policy=True)
    given = end_of(loop(None))["real"]
    demonstrations = [Episode(**each) for each in given]

    def make(folder):
        return DrQv2(CONFIG, schedule, Inputs(Dot(), demonstrations, 0, folder))

    whole = make(tmp_path / "first")
    evaluated = [event.clock.agent_steps for event in whole.events() if isinstance(event, Evaluated)]
    assert evaluated == sorted({0, agent_steps})
    assert whole.counts.agent_updates == CONFIG.initial_updates and whole.counts.agent_steps == agent_steps
    safe_points, finished = whole_run(make(tmp_path / "whole"))
    learning = [state for state, _ in safe_points if 0 < state.counts["agent_updates"] < CONFIG.initial_updates]
    check_that_all_lead_to(finished, learning[:1], make, tmp_path / "whole")


def test_a_run_made_longer_ends_like_one_that_was_long_from_the_start(tmp_path):
    short = loop(tmp_path / "short", dataclasses.replace(SCHEDULE, agent_steps=20))
    *_, ended = (kept(event.state) for event in short.events() if isinstance(event, CheckpointDue))
    assert ended.counts["agent_steps"] == 20
    longer = loop(tmp_path / "short")
    longer.restore(on_device(ended))
    jax.tree.map(np.testing.assert_array_equal, end_of(longer), end_of(loop(tmp_path / "long")))


def several(folder, schedule: Schedule = SCHEDULE) -> DrQv2:
    """Three simulators side by side, in this process."""
    return DrQv2(
        CONFIG, schedule, Inputs(SyncVectorEnv([Dot] * 3, autoreset_mode=AutoresetMode.DISABLED), [], 0, folder)
    )


def test_every_safe_point_leads_to_the_same_end_with_several_simulators(tmp_path):
    schedule = dataclasses.replace(SCHEDULE, agent_steps=40, replay_episodes=9)
    safe_points, finished = whole_run(several(tmp_path / "whole", schedule))
    assert finished["counts"]["agent_steps"] == 45  # the last three episodes are finished
    assert finished["counts"]["episodes"] == len(finished["real"]) == 9
    assert finished["counts"]["agent_updates"] == CONFIG.initial_updates + 45 - 15  # of 10 random steps
    states = [state for state, _ in safe_points if state.counts["agent_steps"] in (15, 30)]
    check_that_all_lead_to(
        finished,
        [safe_points[0][0], *states[:: len(states) // 3]],
        lambda folder: several(folder, schedule),
        tmp_path / "whole",
    )


def test_what_a_killed_process_had_finished_of_a_group_is_kept(tmp_path):
    schedule = dataclasses.replace(SCHEDULE, agent_steps=30, replay_episodes=9)
    _, finished = whole_run(several(tmp_path / "run", schedule))
    kept_path = tmp_path / "run" / "real" / "000000.npz"
    episode = load_episode(kept_path)
    save_episode(kept_path, dataclasses.replace(episode, rewards=episode.rewards + 7))
    for number in (2, 5):
        (tmp_path / "run" / "real" / f"{number:06d}.npz").unlink()
    again = end_of(several(tmp_path / "run", schedule))
    np.testing.assert_array_equal(again["real"][0]["rewards"], finished["real"][0]["rewards"] + 7)
    np.testing.assert_array_equal(again["real"][2]["frames"], finished["real"][2]["frames"])


def test_a_finished_run_has_nothing_left_to_tell(tmp_path):
    run = loop(tmp_path)
    *_, last = run.events()
    again = loop(tmp_path)
    again.restore(on_device(kept(last.state)))
    assert list(again.events()) == []


def test_files_are_bounded_by_the_replay_and_three_checkpoints(tmp_path):
    for event in loop(tmp_path, dataclasses.replace(SCHEDULE, agent_steps=80, evaluate_every_agent_steps=80)).events():
        # Two episodes an interval: those of the window, of the intervals between three checkpoints, and of the new one.
        assert len(list((tmp_path / "real").glob("[0-9]*.npz"))) <= 2 + 3 * 2 + 2


def test_a_loss_that_explodes_stops_the_run_with_its_name_and_step(tmp_path):
    run = loop(tmp_path, config=dataclasses.replace(CONFIG, learning_rate=1e30))
    with pytest.raises(Diverged, match=r"^agent/\w+ was not finite at agent step 10,"):
        list(run.events())


def test_an_evaluation_acts_by_the_averaged_actor_where_there_is_one(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (2, 3, 64, 64, 3), dtype=np.uint8)
    run = loop(tmp_path, config=dataclasses.replace(CONFIG, actor_average=1.0))  # stays where it began
    before = run._act_best(frames, 0)
    collections.deque(run.events(), maxlen=0)
    np.testing.assert_array_equal(run._act_best(frames, 0), before)
    run.agent = run.agent._replace(averaged=None)
    assert not np.array_equal(run._act_best(frames, 0), before)
