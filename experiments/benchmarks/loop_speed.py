"""`ivideogpt bench loop`: whether the simulator and the learner work at the same time (DrQ-v2 alone, one simulator).

And what a second of MBPO goes to, where its parts wait for each other.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import tempfile
import time
from typing import Any

import jax
import numpy as np

from agent.drqv2 import DrQv2Config
from agent.drqv2.loop import DrQv2
from agent.episodes import as_vector_env, play
from agent.events import EpisodeFinished
from agent.loop import Inputs
from agent.mbpo import MBPOConfig
from agent.mbpo.loop import MBPO
from agent.replay import Episode
from experiments.benchmarks.bench import check_positive
from experiments.benchmarks.stopwatch import REST, Stopwatch
from experiments.envs.demonstrations import collect, load_folder
from experiments.envs.registry import make_simulator
from experiments.envs.simulator import Simulator
from experiments.training import presets
from experiments.training.config import Experiment

EPISODES = 1
"""Timed in each turn, after one that does not count."""


def bench_loop(experiment: Experiment, repeats: int) -> dict[str, Any]:
    """Medians over `repeats` turns of the seconds that EPISODES real episodes of 100 agent steps take.

    simulator_seconds: with the same action always. learner_seconds: only what is learned beside those episodes.
    together_seconds: the loop as it is. times_longer: than the longer of the two alone. mbpo_seconds: of each part of
    MBPO over one such episode, once, each waited for. Raises UsageError where `repeats` is less than 1.
    """
    check_positive({"repeats": repeats})
    env = make_simulator(experiment.task, experiment.render_quality, experiment.algorithm.resolution)
    with tempfile.TemporaryDirectory() as folder:
        for _ in collect(env, pathlib.Path(folder), 1, experiment.seed):
            pass
        demonstrations = load_folder(folder)
    rows = [_turn(experiment, env, demonstrations, index) for index in range(repeats)]
    parts = mbpo_seconds(experiment, env, demonstrations)
    env.close()
    simulator, learner, together = (statistics.median(column) for column in zip(*rows, strict=True))
    return {
        "bench": "loop",
        "preset": experiment.preset,
        "task": experiment.task,
        "agent_steps": EPISODES * demonstrations[0].length,
        "updates_per_agent_step": _learner(experiment).updates_per_agent_step,
        "simulator_seconds": simulator,
        "learner_seconds": learner,
        "together_seconds": together,
        "times_longer": together / max(simulator, learner),
        "mbpo_seconds": parts,
    }


def as_text(measured: dict[str, Any]) -> str:
    parts = measured["mbpo_seconds"]
    whole = sum(parts.values())
    shares = ", ".join(f"{part} {taken / whole:.1%}" for part, taken in sorted(parts.items(), key=lambda p: -p[1]))
    return _halves(measured) + f"\nmbpo, each part waited for: {whole:.2f} s, of them {shares}"


def _halves(measured: dict[str, Any]) -> str:
    return (
        "loop of {preset} on {task}, {agent_steps} agent steps: simulator alone {simulator_seconds:.2f} s, learner "
        "alone {learner_seconds:.2f} s, together {together_seconds:.2f} s, {times_longer:.2f} times the longer"
    ).format(**measured)


def _turn(experiment: Experiment, env: Simulator, demonstrations: list[Episode], seed: int) -> tuple[float, ...]:
    with tempfile.TemporaryDirectory() as folder:
        together = _episodes(experiment, env, demonstrations, seed, pathlib.Path(folder))
        # The episodes are there now, so that a second loop only learns beside them.
        learner = _episodes(experiment, env, demonstrations, seed, pathlib.Path(folder))
    still, envs = np.zeros((1, *env.action_space.shape), np.float32), as_vector_env(env)
    start = time.perf_counter()
    for index in range(EPISODES):
        for _ in play(envs, [index], _learner(experiment).stack, lambda observation, step: still):
            pass
    return time.perf_counter() - start, learner, together


def _episodes(
    experiment: Experiment, env: Simulator, demonstrations: list[Episode], seed: int, folder: pathlib.Path
) -> float:
    """Seconds of EPISODES episodes of the loop, behind a first one."""
    steps = (1 + EPISODES) * demonstrations[0].length
    schedule = dataclasses.replace(experiment.schedule, agent_steps=steps, random_agent_steps=0, evaluation_episodes=1)
    config = _learner(experiment).for_simulator(env.action_space.shape[0], env.observation_space.shape[0])
    loop, ends = DrQv2(config, schedule, Inputs(env, demonstrations, seed, folder)), []
    for event in loop.events():
        if isinstance(event, EpisodeFinished):
            jax.block_until_ready(loop.agent)
            ends.append(time.perf_counter())
    return ends[-1] - ends[0]


OF_LOOP = {
    "_learn": "learner updates",
    "_draw_batch": "drawing batches",
    "_update_tokenizer": "model updates",
    "_update_transformer": "model updates",
    "_imagine": "rollouts",
    "_act": "acting",
}
OF_SIMULATOR = {"render": "rendering", "advance": "simulator"}


def mbpo_seconds(experiment: Experiment, env: Simulator, demonstrations: list[Episode]) -> dict[str, float]:
    """Of each part of MBPO over one real episode, behind a first one: the preset's, with least first training."""
    settings = experiment.settings_as(MBPOConfig)
    model = dataclasses.replace(
        settings.model, start_agent_steps=0, initial_tokenizer_updates=1, initial_transformer_updates=1,
        initial_rollouts=1,
    )  # fmt: skip
    agent = dataclasses.replace(settings.agent, initial_updates=0)
    config = dataclasses.replace(settings, agent=agent, model=model).for_simulator(
        env.action_space.shape[0], env.observation_space.shape[0]
    )
    steps = 2 * demonstrations[0].length
    schedule = dataclasses.replace(experiment.schedule, agent_steps=steps, random_agent_steps=0, evaluation_episodes=1)
    loop, watch = MBPO(config, schedule, Inputs(env, demonstrations, 0, held_out=demonstrations * 2)), Stopwatch()
    for method, part in OF_LOOP.items():
        watch.watch(loop, method, part, lambda: jax.block_until_ready(loop.arrays()))
    for method, part in OF_SIMULATOR.items():
        watch.watch(env, method, part)
    seconds: dict[str, float] = {}
    for event in loop.events():
        if isinstance(event, EpisodeFinished):
            seconds = watch.seconds()
            watch.start()
    return {REST: 0.0, **seconds}


def _learner(experiment: Experiment) -> DrQv2Config:
    """DrQ-v2's settings in the preset, without first updates."""
    return dataclasses.replace(presets.get(experiment.preset, "drqv2").settings_as(DrQv2Config), initial_updates=0)
