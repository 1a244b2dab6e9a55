"""Laws of the loop that need no simulator and no process: a border is all there is to know, and faults stop it."""

import dataclasses

import numpy as np
import pytest
from borders import Dot, check_that_all_lead_to, end_of, kept, on_device, whole_run
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agent.drqv2 import DrQv2Config
from agent.events import Border, CheckpointDue
from agent.guards import Diverged
from agent.mbpo import MBPO, MBPOConfig
from agent.networks import NetworkConfig
from agent.replay import load_episode, save_episode
from world_model import WorldModelConfig

AGENT = DrQv2Config(NetworkConfig(encoder="patches", channels=4, features=4, hidden=8), batch=4, updates_per_agent_step=1)
CONFIG = MBPOConfig(
    agent=AGENT,
    agent_steps=40,
    random_agent_steps=10,
    initial_agent_updates=3,
    replay_episodes=2,
    evaluate_every_agent_steps=20,
    evaluation_episodes=2,
    checkpoint_every_agent_steps=10,
    shown_episodes=1,
)


def loop(folder, config: MBPOConfig = CONFIG) -> MBPO:
    return MBPO(config, Dot(), [], [], 0, folder)


def test_every_border_leads_to_the_same_end(tmp_path):
    borders, finished = whole_run(loop(tmp_path / "whole"))
    assert len(finished["real"]) == 2
    assert len({tuple(state.counts.items()) for state, _ in borders}) > 10
    resumable = [state for state, _ in borders if state.counts["agent_steps"] >= 25]  # the files of earlier ones are gone
    assert {CheckpointDue, Border} <= {kind for _, kind in borders}
    check_that_all_lead_to(finished, [borders[0][0], *resumable[:-1]], loop, tmp_path / "whole")


def several(folder, config: MBPOConfig = CONFIG) -> MBPO:
    """Three simulators side by side, in this process."""
    return MBPO(config, SyncVectorEnv([Dot] * 3, autoreset_mode=AutoresetMode.DISABLED), [], [], 0, folder)


def test_every_border_leads_to_the_same_end_with_several_simulators(tmp_path):
    config = dataclasses.replace(CONFIG, agent_steps=40, replay_episodes=9)
    borders, finished = whole_run(several(tmp_path / "whole", config))
    assert finished["counts"]["agent_steps"] == 45  # the last three episodes are finished
    assert finished["counts"]["episodes"] == len(finished["real"]) == 9
    assert finished["counts"]["agent_updates"] == CONFIG.initial_agent_updates + 45 - 15  # of 10 random steps
    states = [state for state, _ in borders if state.counts["agent_steps"] in (15, 30)]
    check_that_all_lead_to(
        finished, [borders[0][0], *states[:: len(states) // 3]], lambda folder: several(folder, config), tmp_path / "whole"
    )


def test_what_a_killed_process_had_finished_of_a_group_is_kept(tmp_path):
    config = dataclasses.replace(CONFIG, agent_steps=30, replay_episodes=9)
    _, finished = whole_run(several(tmp_path / "run", config))
    kept_path = tmp_path / "run" / "real" / "000000.npz"
    episode = load_episode(kept_path)
    save_episode(kept_path, dataclasses.replace(episode, rewards=episode.rewards + 7))
    for number in (2, 5):
        (tmp_path / "run" / "real" / f"{number:06d}.npz").unlink()
    again = end_of(several(tmp_path / "run", config))
    np.testing.assert_array_equal(again["real"][0]["rewards"], finished["real"][0]["rewards"] + 7)
    np.testing.assert_array_equal(again["real"][2]["frames"], finished["real"][2]["frames"])


def test_a_finished_run_has_nothing_left_to_tell(tmp_path):
    run = loop(tmp_path)
    *_, last = run.events()
    again = loop(tmp_path)
    again.restore(on_device(kept(last.state)))
    assert list(again.events()) == []


def test_files_are_bounded_by_the_replay_and_three_checkpoints(tmp_path):
    for event in loop(tmp_path, dataclasses.replace(CONFIG, agent_steps=80, evaluate_every_agent_steps=80)).events():
        # Two episodes an interval: those of the window, of the intervals between three checkpoints, and of the new one.
        assert len(list((tmp_path / "real").glob("[0-9]*.npz"))) <= 2 + 3 * 2 + 2


def test_a_loss_that_explodes_stops_the_run_with_its_name_and_step(tmp_path):
    run = loop(tmp_path, dataclasses.replace(CONFIG, agent=dataclasses.replace(AGENT, learning_rate=1e30)))
    with pytest.raises(Diverged, match=r"^agent/\w+ was not finite at agent step 10,"):
        list(run.events())


def test_a_world_model_that_needs_a_goal_is_refused():
    with pytest.raises(ValueError, match="imagines from real frames alone and has no goal frame: set goal_conditioned"):
        MBPOConfig(world_model=WorldModelConfig(goal_conditioned=True))
