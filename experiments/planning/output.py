"""What planning came to, as JSON, as a table with a row an episode, as videos and as one page."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from experiments.planning.config import PlanningProtocol
from experiments.planning.episodes import PlannedEpisode
from experiments.reports import videos
from experiments.reports.clips import address_of
from experiments.reports.page import template
from experiments.reports.plots import COLOURS, STYLE, as_svg, new_figure, wilson
from experiments.reports.statistics import bounds_of_mean
from experiments.reports.tables import csv_text
from experiments.runs.run_folder import write_atomically


def rows(episodes: Sequence[PlannedEpisode], protocol: PlanningProtocol, about: Mapping[str, Any]) -> list[dict]:
    """One for each episode; `about` says what was run and stands in each."""
    return [{**about, "settings": _settings(protocol), **_row(episode)} for episode in episodes]


def _row(episode: PlannedEpisode) -> dict[str, Any]:
    errors, plans = episode.goal_errors, episode.plans
    agreements = [plan.agreement for plan in plans]
    return {
        "episode": episode.task.number,
        "seed": episode.task.seed,
        "success": int(episode.success),
        "agent_steps": len(errors) - 1,
        "plans": len(plans),
        "seconds_each_plan": round(float(np.median([plan.seconds for plan in plans])), 3),
        "goal_error_start": round(float(errors[0]), 6),
        "goal_error_end": round(float(errors[-1]), 6),
        "spread": round(float(np.mean([plan.spread for plan in plans])), 4),
        "agreement_first": _rounded(agreements[0]),
        "agreement_last": _rounded(agreements[-1]),
    }


def _rounded(value: float) -> float | str:
    return "" if math.isnan(value) else round(value, 3)


def _settings(protocol: PlanningProtocol) -> str:
    """What differs from one run to another, as words."""
    planner = protocol.planner
    named = {field.name: getattr(planner, field.name) for field in dataclasses.fields(planner)}
    named["agent_steps"] = protocol.agent_steps
    return " ".join(f"{name.replace('_', '-')}={value}" for name, value in named.items())


def summary(table: Sequence[Mapping[str, Any]], about: Mapping[str, Any], protocol: PlanningProtocol) -> dict[str, Any]:
    """The figures that stand for all episodes, with 95% intervals."""
    successes = np.array([row["success"] for row in table])
    low, high = wilson(successes.mean(), np.array(len(successes)))
    shares = np.array([row["goal_error_end"] / max(row["goal_error_start"], 1e-9) for row in table])
    steps = [row["agent_steps"] for row in table if row["success"]]
    agreement = {
        name: [row[name] for row in table if row[name] != ""] for name in ("agreement_first", "agreement_last")
    }
    return {
        **about,
        "protocol": dataclasses.asdict(protocol),
        "episodes": len(table),
        "successes": int(successes.sum()),
        "success": float(successes.mean()),
        "success_interval": [max(float(low), 0.0), min(float(high), 1.0)],
        "agent_steps_to_success": float(np.median(steps)) if steps else None,
        "goal_error_left": float(shares.mean()),
        "goal_error_left_interval": list(bounds_of_mean([shares])),
        "seconds_each_plan": float(np.median([row["seconds_each_plan"] for row in table])),
        **{name: float(np.mean(found)) if found else None for name, found in agreement.items()},
    }


def as_text(found: Mapping[str, Any]) -> str:
    """The summary for a terminal."""
    low, high = found["success_interval"]
    lines = [
        f"{found['task']}, planned in {found['model']} by {found['planner']}, cost {found['cost']}",
        f"success   {found['successes']} of {found['episodes']} ({low:.0%} to {high:.0%})",
        "error     {:.0%} of the first picture's distance to the goal is left at the end ({:.0%} to {:.0%})".format(
            found["goal_error_left"], *found["goal_error_left_interval"]
        ),
        f"speed     {found['seconds_each_plan']:.2f} s a plan",
    ]
    if found["agent_steps_to_success"] is not None:
        lines.append(f"steps     {found['agent_steps_to_success']:.0f} until success (median of those that succeed)")
    if found["agreement_first"] is not None:
        lines.append(
            "agreement {:.2f} of the first plan, {:.2f} of the last: rank correlation of random plans' costs with the "
            "simulator's".format(found["agreement_first"], found["agreement_last"])
        )
    return "\n".join(lines)


def write(
    folder: pathlib.Path,
    found: Mapping[str, Any],
    table: Sequence[Mapping[str, Any]],
    episodes: Sequence[PlannedEpisode],
    shown: int,
) -> None:
    """plan.json, .csv and .html, and the videos of the first episodes."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "plan.json", json.dumps(found, indent=1) + "\n")
    write_atomically(folder / "plan.csv", csv_text(list(table[0]), table))
    clips = []
    for episode in episodes[:shown]:
        path = folder / "videos" / f"{episode.task.number:03d}.mp4"
        videos.write_mp4(path, video(episode), fps=8)
        ended = "success" if episode.success else "no success"
        clips.append((f"episode {episode.task.number}: {ended}", address_of(path)))
    page = template("planning/page.html.j2").render(
        found=found, table=table, clips=clips, curves=[_errors(episodes), _costs(episodes)]
    )
    write_atomically(folder / "plan.html", page)


def video(episode: PlannedEpisode) -> np.ndarray:
    """The goal, what the plans expected and what happened, step by step: uint8 [T, H', W', 3]."""
    real = episode.frames_thwc[None]
    goal = np.broadcast_to(episode.task.goal_hwc, real.shape)
    return videos.side_by_side({"goal": goal, "planned": episode.expected_thwc[None], "happened": real})


def _errors(episodes: Sequence[PlannedEpisode]) -> Markup:
    """How far each episode's picture is from its goal."""
    with matplotlib.rc_context(STYLE):
        picture = new_figure()
        axes = picture.subplots()
        for episode in episodes:
            colour = COLOURS[0] if episode.success else COLOURS[1]
            axes.plot(episode.goal_errors, color=colour, alpha=0.6, linewidth=1)
        axes.set(title="squared error to the goal's picture", xlabel="agent steps", yscale="log")
        return as_svg(picture, "planning errors")


def _costs(episodes: Sequence[PlannedEpisode]) -> Markup:
    """What the search gains, iteration by iteration: the mean over all plans."""
    with matplotlib.rc_context(STYLE):
        picture = new_figure()
        axes = picture.subplots()
        costs = np.mean([plan.costs_i for episode in episodes for plan in episode.plans], axis=0)
        axes.plot(np.arange(1, len(costs) + 1), costs, color=COLOURS[0], marker="o", markersize=4)
        axes.set(title="the elites' expected cost, mean of all plans", xlabel="iteration of the search")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return as_svg(picture, "planning costs")
