"""Simulators in processes: the same pictures as in this one, and none of them is left behind."""

import dataclasses
import os
import signal

import numpy as np
import pytest

from experiments.envs import rendering

rendering.choose_backend()

from experiments.envs.metaworld import MetaWorld  # noqa: E402
from experiments.envs.processes import Processes, SimulatorDiedError  # noqa: E402
from experiments.runs.metrics_log import read_metrics  # noqa: E402
from experiments.training import presets  # noqa: E402
from experiments.training.run import train  # noqa: E402


@pytest.mark.slow
def test_processes_play_what_a_simulator_here_plays_and_a_dead_one_is_told_in_a_sentence():
    alone, processes = MetaWorld("reach", resolution=16), Processes(2, "reach", "fast", 16)
    try:
        assert processes.get_attr("episode_agent_steps") == (100, 100)
        frames, _ = processes.reset(seed=[3, 4])
        np.testing.assert_array_equal(frames[1], alone.reset(seed=4)[0])
        actions = np.array([[0.1, 0.2, 0.3, 0.4], [1, -1, 1, -1]], np.float32)
        for _ in range(3):
            frames, rewards, *_, info = processes.step(actions)
            frame, reward, *_ = alone.step(actions[1])
            np.testing.assert_array_equal(frames[1], frame)
            assert rewards[1] == pytest.approx(reward)
            assert info["success"].shape == (2,)
        np.testing.assert_array_equal(processes.call("simulator_state")[1]["state"], alone.simulator_state()["state"])
        os.kill(processes.processes[0].pid, signal.SIGKILL)
        with pytest.raises(SimulatorDiedError, match="the same command goes on"):
            processes.step(actions)
    finally:
        processes.close()
        alone.close()
    assert not any(process.is_alive() for process in processes.processes)


@pytest.mark.slow
def test_a_run_with_two_simulators_learns_and_ends_by_groups(tmp_path):
    debug = presets.get("debug", "drqv2")
    schedule = dataclasses.replace(debug.schedule, agent_steps=300, evaluation_episodes=2)
    train(dataclasses.replace(debug, num_envs=2, schedule=schedule), tmp_path / "run", None, "")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["agent_steps"] for line in lines if "episode/return" in line] == [200, 200, 400, 400]
    assert lines[-1]["state_fingerprint"]
