"""`ivideogpt plan`: what was typed into a simulator, goals, a model and a search."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any, get_args

import jax

from agent import planning
from agent.planning import COSTS, Cost, PlannerConfig, PlanningModel
from experiments.envs.camera import Quality
from experiments.envs.registry import make_simulator
from experiments.envs.rendering import choose_backend
from experiments.envs.simulator import Simulator
from experiments.errors import UsageError, by_name
from experiments.planning import output
from experiments.planning.config import METHODS, PRESETS, PlanningProtocol
from experiments.planning.episodes import PlannedEpisode, Player, play_planned
from experiments.planning.goals import Task, expert_tasks, picture_tasks, recorded_tasks
from experiments.runs.outputs import check_output
from experiments.runs.progress import ProgressDisplay
from experiments.weights.bundled import load_model
from experiments.weights.metric_weights import perceptual_weights

BATCH = 64
"""Candidates in memory at a time."""
BOUNDS = ("simulator", "copy-last", "random")
"""What stands in a learned model's place."""
PROTOCOL = ("episodes", "agent_steps", "goal_agent_steps", "seed", "agreement")
"""Numbers of the protocol that have one, too."""
SEARCH = {field.name: field for field in dataclasses.fields(PlannerConfig) if field.name != "warm_start"}
"""Settings of the search that have an option of their own."""


def plan(arguments: Sequence[str], description: str) -> int:
    """Play and write; raises UsageError."""
    options = _parser(description).parse_args(arguments)
    check_output(options.out, folder=True)
    protocol = _protocol(options)
    choose_backend()
    learned = None if options.model in BOUNDS else load_model(options.model)
    resolution = 64 if learned is None else learned.config.tokenizer.resolution
    env = make_simulator(options.task, options.render_quality, resolution)
    perceptual = jax.device_put(perceptual_weights()) if "lpips" in protocol.cost.names else None
    model = _model(options, learned, protocol, resolution)
    truth = _truth(options, protocol, resolution) if protocol.agreement else None
    player = Player(env, model, protocol, truth, perceptual)
    episodes = _play(player, _tasks(env, protocol, resolution))
    about = {
        "task": options.task,
        "model": str(options.model),
        "planner": options.planner,
        "cost": _words(protocol.cost),
        "goal": protocol.goal if protocol.goal != "recorded" else f"recorded, {protocol.goal_agent_steps} ahead",
        "command": shlex.join(["ivideogpt", "plan", *arguments]),
    }
    table = output.rows(episodes, protocol, about)
    found = output.summary(table, about, protocol)
    output.write(options.out, found, table, episodes, options.videos)
    print(output.as_text(found))
    print(f"page: {options.out / 'plan.html'}")
    return 0


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ivideogpt plan", description=description)
    parser.add_argument("--task", required=True, help="as `ivideogpt tasks` lists them")
    parser.add_argument(
        "--model", default="laptop-metaworld",
        help="what plans are tried in: a folder, a run, a bundled checkpoint's name; simulator, the upper bound; "
        "copy-last, the lower bound; random, no plan at all; default: laptop-metaworld",
    )  # fmt: skip
    parser.add_argument("--preset", default="laptop", help=f"{', '.join(PRESETS)}; default: laptop")
    parser.add_argument("--planner", default="cem", choices=tuple(METHODS), help="default: cem")
    parser.add_argument(
        "--goal",
        help="expert: the last picture of the scripted policy; recorded: what an episode of the exploring "
        "policy came to some steps later; or a picture's file; default: the preset's",
    )
    parser.add_argument(
        "--cost", nargs="+", default=["pixels"], metavar="NAME[=WEIGHT]",
        help=f"{', '.join(COSTS)}, and what each weighs; default: pixels",
    )  # fmt: skip
    parser.add_argument(
        "--over", default="last", choices=("last", "every"), help="which planned moments cost; default: last"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the folder to write")
    parser.add_argument("--render-quality", default="fast", choices=get_args(Quality), help="default: fast")
    parser.add_argument("--videos", type=int, default=6, help="of the first episodes; default: 6")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"candidates in memory at a time; default: {BATCH}")
    for name in PROTOCOL:
        parser.add_argument(_option(name), type=int, help=_HELP.get(name, "default: the preset's"))
    for name in SEARCH:
        parser.add_argument(_option(name), type=_number, help=_HELP.get(name, "default: the preset's"))
    return parser


_HELP = {
    "agreement": "random candidates of each plan that are tried in the simulator, too, to compare costs; default: none",
    "goal_agent_steps": "how far ahead a recorded goal is; default: the preset's",
    "agent_steps": "an episode's, at most; default: the preset's",
    "horizon": "planned actions; default: the preset's",
    "execute": "planned actions carried out before the next plan; default: the preset's",
    "hold_agent_steps": "agent steps that a planned action lasts; default: the preset's",
    "noise_exponent": "0: white noise, higher: smoother; default: the preset's",
    "momentum": "share of the mean and spread of before that an iteration keeps; default: the preset's",
    "temperature": f"of mppi; default: {METHODS['mppi'](PlannerConfig()).temperature}",
}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _number(typed: str) -> int | float:
    return int(typed) if typed.lstrip("-").isdigit() else float(typed)


def _protocol(options: argparse.Namespace) -> PlanningProtocol:
    """The preset, and what was typed instead."""
    for name in ("batch", "videos"):
        if getattr(options, name) < (name == "batch"):
            raise UsageError(f"--{name} {getattr(options, name)}: expected at least {int(name == 'batch')}")
    if options.planner == "cem" and options.temperature is not None:
        raise UsageError("--temperature is for --planner mppi: in cem all elites count alike")
    preset = by_name("preset", options.preset, PRESETS)
    try:
        planner = dataclasses.replace(METHODS[options.planner](preset.planner), **_typed(options, SEARCH))
        cost = Cost(tuple(_weight(each) for each in options.cost), options.over)
        rest = _typed(options, (*PROTOCOL, "goal"))
        return dataclasses.replace(preset, planner=planner, cost=cost, **rest)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _typed(options: argparse.Namespace, names: Any) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _weight(typed: str) -> tuple[str, float]:
    name, _, weight = typed.partition("=")
    try:
        return name, float(weight or 1)
    except ValueError:
        raise UsageError(f"--cost {typed}: expected a number behind the =, such as {name}=0.5") from None


def _words(cost: Cost) -> str:
    weighed = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in cost.weights)
    return weighed if cost.over == "last" else f"{weighed} of every moment"


def _model(options: argparse.Namespace, learned: Any, protocol: PlanningProtocol, resolution: int) -> PlanningModel:
    """What plans are tried in."""
    planner, cost = protocol.planner, protocol.cost
    try:
        if options.model == "simulator":
            simulator = make_simulator(options.task, options.render_quality, resolution)
            return planning.SimulatorFutures(simulator, planner, cost)
        if options.model == "copy-last":
            return planning.CopyLastFutures(planner, cost)
        if options.model == "random":
            return planning.RandomPlans(planner, cost)
        return planning.LearnedFutures(learned.config, learned.params, planner, cost, options.batch)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _truth(options: argparse.Namespace, protocol: PlanningProtocol, resolution: int) -> PlanningModel:
    """The simulator as model, by what its pixels cost, whatever the plan looks at."""
    simulator = make_simulator(options.task, options.render_quality, resolution)
    return planning.SimulatorFutures(simulator, protocol.planner, Cost(over=protocol.cost.over))


def _tasks(env: Simulator, protocol: PlanningProtocol, resolution: int) -> list[Task]:
    episodes, seed = protocol.episodes, protocol.seed
    if protocol.goal == "expert":
        return list(expert_tasks(env, episodes, seed))
    if protocol.goal == "recorded":
        limit = min(protocol.agent_steps, env.episode_agent_steps)
        return list(recorded_tasks(env, episodes, seed, protocol.goal_agent_steps, limit))
    return list(picture_tasks(pathlib.Path(protocol.goal), resolution, episodes, seed))


def _play(player: Player, tasks: Sequence[Task]) -> list[PlannedEpisode]:
    """All episodes, with their progress on the terminal."""
    played = []
    with ProgressDisplay() as display:
        for event in play_planned(player, tasks):
            if isinstance(event, PlannedEpisode):
                played.append(event)
            else:
                display.update(event)
    return played
