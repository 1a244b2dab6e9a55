"""report.html: one page that says what a run did, with curves and videos inside it, or that compares several runs: of
agents, of models on data sets, or of both."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from experiments.errors import UsageError
from experiments.reports import adaptation, comparison_page, curves, plots, tables, without_model
from experiments.reports.clips import Clip, address_of
from experiments.reports.reading import read_run
from experiments.runs.metrics_log import latest
from experiments.runs.progress import counted, format_duration
from experiments.runs.run_folder import RunFolder, find_setting, flat, write_atomically


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A question a reader has, with the answer: yes, no, or None where nothing was measured."""

    question: str
    answer: bool | None
    headline: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Run:
    """What the template knows of a run."""

    name: str
    config: dict[str, Any]  # dotted names
    sessions: list[dict[str, Any]]
    lines: list[dict[str, Any]]
    evaluations: list[Clip]  # the newest, then the first where it is another
    imaginations: list[Clip]
    reconstructions: list[Clip]
    filmstrip: Clip | None
    sizes: dict[str, int]  # bytes by the first part of the path
    evaluated: dict[str, Any]  # columns of `tables.read_evaluation`

    def field(self, name: str) -> Any:
        """A value of the configuration, as `find_setting` finds it."""
        return find_setting(self.config, name)

    @property
    def trains_agent(self) -> bool:
        """Whether it acts, or else learns from data sets alone."""
        return "task" in self.config

    @property
    def measured(self) -> list[tuple[str, float, float]]:
        """By which metric `ivideogpt evaluate` found how good the best of several samples is, and copying the last
        frame; nothing where it was not run."""
        found = [
            (name, self.evaluated[f"best_{name}"], self.evaluated[f"copy_last_{name}"]) for name in tables.EVALUATED
        ]
        return [(METRIC_NAMES[name], best, copied) for name, best, copied in found if "" not in (best, copied)]

    @property
    def data(self) -> str:
        """The names of a pre-training run's data sets, or how many there are."""
        sets = [pathlib.Path(part["folder"]).name for part in self.config["data"]]
        return ", ".join(sets) if len(sets) <= 3 else counted(len(sets), "data set")

    @property
    def beginning(self) -> str:
        """What a pre-training run began from and trained, one of tables.BEGINNINGS."""
        return tables.find_beginning(self.config)

    @property
    def verdicts(self) -> list[Verdict]:
        """What a reader wants to know first."""
        return [
            _model_verdict(
                self, "copy_last", "Does imagination beat copying the last frame?", "copying the last frame"
            ),
            _model_verdict(
                self,
                "shuffled_actions",
                "Does imagination follow the actions?",
                "imagining with another episode's actions",
            ),
            _success_verdict(self.lines) if self.trains_agent else _tokens_verdict(self),
        ]

    @property
    def learned_all(self) -> bool:
        """Whether a run that learns from data sets has made all its updates."""
        total = sum(self.config.get(f"{part}.steps", 0) for part in ("tokenizer", "transformer"))
        done = latest(self.lines, "updates")
        return not self.trains_agent and done is not None and done["updates"] >= total

    @property
    def learns_pictures_alone(self) -> bool:
        """Whether nobody has trained the transformer of a run that learns from data sets."""
        return not self.trains_agent and not (self.config.get("source") or self.config.get("transformer.steps"))

    @property
    def error(self) -> float | None:
        """Of the newest evaluation: the mean squared error of imagined frames. None before the first."""
        line = latest(self.lines, tables.MODEL[0])
        return None if line is None else line[tables.MODEL[0]]

    @property
    def contribution(self) -> str:
        """What imagination contributed, beside the project's own runs without it; empty where there are none."""
        line = latest(self.lines, "eval/success") if self.trains_agent else None
        found = [] if line is None else without_model.find_without(self.config, line["agent_steps"])
        return without_model.describe(line["eval/success"], found) if line and found else ""

    @property
    def first_solved(self) -> dict[str, Any] | None:
        """The line of the first evaluation that solves the task."""
        return curves.find_solved(self.lines, "eval/success")

    @property
    def held_bytes(self) -> int | None:
        """What the replays took in memory at the newest checkpoint; None before the first."""
        line = latest(self.lines, "bytes/real_replay")
        return None if line is None else line["bytes/real_replay"] + line["bytes/imagined_replay"]

    @property
    def fingerprint(self) -> str | None:
        """Of the state of a finished run."""
        return self.lines[-1].get("state_fingerprint") if self.lines else None

    @property
    def outliers(self) -> dict[str, dict[str, Any]]:
        """The newest line about each imagined reward or value that was far outside the real range, by its name."""
        found = {name: line for line in self.lines for name in line if name.startswith(OUTLIER)}
        return {name.removeprefix(OUTLIER): line for name, line in found.items()}

    @property
    def has_model(self) -> bool:
        """Whether the run has a world model at all: an agent's run may do without."""
        named = (value for key, value in self.config.items() if "world_model" in key.split("."))
        return not self.trains_agent or any(value is not None for value in named)


OUTLIER = "outlier/"
"""How metrics.jsonl marks the name of a metric far outside the real range."""


def write_report(
    folders: Sequence[RunFolder],
    out: str | os.PathLike | None = None,
    kept: Sequence[curves.Row] = (),
    reference_files: Sequence[pathlib.Path] = (),
) -> pathlib.Path:
    """Write one self-contained page: about a run, or comparing several. Returns its path.

    out: by default `report.html` in the folder of the one run, `comparison.html` in the first folder for several, or
    where there is no folder. kept: evaluations of other runs, of which nothing else is there. reference_files: as
    `references.read_reference` takes them. A run that has only begun gives a page that says what is missing. Raises
    RunFolderError, MetricsError, and UsageError.
    """
    if not folders and not kept:
        raise ValueError("a report needs at least one run")
    names = _names([folder.path for folder in folders])
    runs = [_run(folder, name) for folder, name in zip(folders, names, strict=True)]
    alone = len(runs) == 1 and not kept and not reference_files
    beside = folders[0].path if folders else pathlib.Path()
    path = pathlib.Path(out) if out else folders[0].report if alone else beside / "comparison.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [] if alone else [row for folder in folders for row in tables.rows(folder)]
    agents = [row for row in (*rows, *kept) if row["kind"] == "agent"]
    if reference_files and not agents:
        raise UsageError("--reference stands beside agents, and none of these runs is an evaluated one: leave it out")
    compared = comparison_page.compare(agents, reference_files, _played(folders, runs)) if agents else None
    models = [row for row in rows if row["kind"] != "agent"]
    shown: dict[str, Any] = {"runs": runs, "run": runs[0] if alone else None, "compared": compared}
    write_atomically(path, template("report.html.j2").render(**shown, plots=_plots(runs, models)))
    return path


def _played(folders: Sequence[RunFolder], runs: Sequence[Run]) -> list[comparison_page.Played]:
    """The newest evaluation video of each agent's run, with what tells whose it is."""
    return [
        comparison_page.Played(tables.describe(folder, folder.read_current()), run.evaluations[0])
        for folder, run in zip(folders, runs, strict=True)
        if run.trains_agent and run.evaluations
    ]


def _run(folder: RunFolder, name: str) -> Run:
    record, lines = read_run(folder)
    tables.describe(folder, record)  # refuses a damaged configuration
    strips = _clips(folder.videos, record["config"], "imagination", "png")
    return Run(
        name=name,
        config=flat(record["config"]),
        sessions=record["sessions"],
        lines=lines,
        evaluations=_clips(folder.videos, record["config"], "evaluation", "mp4"),
        imaginations=_clips(folder.videos, record["config"], "imagination", "mp4"),
        reconstructions=_clips(folder.videos, record["config"], "reconstruction", "mp4"),
        filmstrip=strips[0] if strips else None,
        sizes=folder.sizes(),
        evaluated=tables.read_evaluation(folder),
    )


def _plots(runs: Sequence[Run], rows: Sequence[curves.Row]) -> dict[str, Any]:
    """Every picture by its place in the template; None where there is nothing to draw.

    rows: of several runs that learn from data sets, for the picture that joins those of one beginning.
    """
    lines = {run.name: run.lines for run in runs}
    models = adaptation.last_evaluations(rows)
    learned = any(row["trajectories"] for row in models)
    steps = "env_steps" if any(run.trains_agent for run in runs) else "updates"
    pairs = {over: [plots.success_curve(lines, over), plots.return_curve(lines, over)] for over in plots.AXES}
    return {
        "adaptation": plots.as_svg(adaptation.draw(models), "adaptation") if learned else None,
        "tell_apart": len(runs) <= len(plots.COLOURS),
        "learning": {over: [curve for curve in pair if curve] for over, pair in pairs.items()},
        "axes": plots.AXES,
        "model": [curve for curve in (plots.horizon_curve(lines), plots.model_error_curve(lines, steps)) if curve],
        "training": _training(runs[0].lines) if len(runs) == 1 else {},
    }


def _training(lines: list[dict[str, Any]]) -> dict[str, list[Markup]]:
    """Small curves of all training metrics: held-out data and codebooks by themselves, the rest by who is trained."""
    titles = {
        "validation": "Held-out data",
        "tokenizer": "Tokenizer",
        "transformer": "Transformer",
        "codebook": "Codebooks",
        "agent": "Actor-critic",
    }
    groups: dict[str, list[Markup]] = {title: [] for title in titles.values()}
    for name in dict.fromkeys(name for line in lines for name in line):
        prefix = name.partition("/")[0]
        if prefix not in titles or isinstance(next(line[name] for line in lines if name in line), list | str):
            continue
        about_codes = prefix != "validation" and re.search(r"usage|perplexity|codes|dead", name) is not None
        curve = plots.small_curve(lines, name)
        if curve:
            groups[titles["codebook" if about_codes else prefix]].append(curve)
    return {title: curves for title, curves in groups.items() if curves}


METRIC_NAMES = {
    "mse": "mean squared error, lower is better",
    "psnr": "PSNR in dB, higher is better",
    "ssim": "SSIM, higher is better",
    "lpips": "LPIPS, lower is better",
}
UNCOUNTED = "imagined/uncounted_agent_steps"
BOUNDS = {
    "simulator": "The simulator itself is the model here, and {} agent steps of it are in no budget: an upper bound, "
    "not a result.",
    "copy-last": "Imagination copies the last frame here: a lower bound, not a result.",
}
"""What is said of a run that imagines with a bound in place of a model, by its setting."""


def _checked(run: Run) -> str:
    """What came of rollouts that were also played in the simulator; nothing where none were."""
    line, spent = latest(run.lines, "imagined/true_reward"), latest(run.lines, UNCOUNTED)
    if line is None or spent is None:
        return ""
    paid, truly, error = (line[f"imagined/{name}"] for name in ("checked_reward", "true_reward", "true_mse"))
    return (
        f" Under the policy's own actions it pays {paid:.2f} an agent step where the simulator pays {truly:.2f}, and "
        f"its frames are off by {error:.5f} (the newest rollouts that were also played; {spent[UNCOUNTED]:,.0f} agent "
        "steps of that are in no budget)."
    )


def _model_verdict(run: Run, other: str, question: str, described: str) -> Verdict:
    line = latest(run.lines, f"model/mse_{other}")
    if not run.has_model:
        return Verdict(question, None, "no world model", "This algorithm learns from real frames alone.")
    if (bound := BOUNDS.get(str(run.field("imagination")))) is not None:
        spent = latest(run.lines, UNCOUNTED)
        detail = bound.format(0 if spent is None else round(spent[UNCOUNTED]))
        return Verdict(question, None, "a diagnostic", detail)
    if line is None and run.error is not None:
        return Verdict(question, None, "no actions", "This model predicts without actions.")
    if line is None and run.learns_pictures_alone:
        return Verdict(question, None, "no transformer", "This run trained a tokenizer alone, which imagines nothing.")
    if line is None and run.learned_all:
        return Verdict(question, None, "not evaluated", f"{TOO_FEW[0].upper()}{TOO_FEW[1:]}.")
    if line is None:
        detail = "The model is evaluated on held-out segments once it is trained."
        return Verdict(question, None, "not measured yet", detail)
    mine, theirs = line["model/mse_imagined"], line[f"model/mse_{other}"]
    detail = f"Mean squared error {mine:.5f} against {theirs:.5f} for {described}{_compare(mine, theirs)}"
    moving = [line.get(f"model/moving_mse_{name}") for name in ("imagined", other)]
    if None not in moving:
        detail += f"; on moving pixels {moving[0]:.4f} against {moving[1]:.4f}"
    horizon, segments = len(line.get("model/mse_imagined_by_horizon", ())), line.get("model/segments")
    where = [
        f"{counted(horizon, 'frame')} ahead" if horizon else "",
        counted(segments, "held-out segment") if segments else "",
        _when(run.config, line["agent_steps"] if run.trains_agent else line["updates"]),
    ]
    detail += f" ({', '.join(part for part in where if part)})."
    if other == "copy_last":
        detail += _checked(run)
    answer = "yes" if mine < CLEARLY * theirs else "barely" if mine < theirs else "no"
    return Verdict(question, mine < theirs, answer, detail)


def _compare(mine: float, theirs: float) -> str:
    """By how much an error is less or more than another one, which is not zero; nothing where it is."""
    if not theirs:
        return ""
    ratio = mine / theirs
    if ratio >= 2:
        return f", {ratio:.3g} times as much"
    share = f"{abs(1 - ratio):.1%}"
    return ", the same" if share == "0.0%" else f", {share} {'less' if ratio < 1 else 'more'}"


TOO_FEW = "fewer than two held-out recordings are long enough: raise --validation-share, or lower --horizon"
"""Why a trained model was not compared with reality."""

CLEARLY = 0.98
"""Share of another error below which the model's own is clearly less."""


def _success_verdict(lines: list[dict[str, Any]]) -> Verdict:
    question, line = "Does the agent solve the task?", latest(lines, "eval/success")
    if line is None:
        return Verdict(question, None, "not evaluated yet", "The policy is evaluated in episodes without noise.")
    success, episodes = line["eval/success"], line["eval/episodes"]
    best = max((each for each in lines if "eval/success" in each), key=lambda each: each["eval/success"])
    detail = (
        f"{round(success * episodes)} of {episodes:.0f} evaluation episodes succeed, mean return "
        f"{line['eval/return']:.0f} (agent step {line['agent_steps']:,})."
    )
    if best["eval/success"] > success:
        detail += f" Best so far: {best['eval/success']:.0%} at agent step {best['agent_steps']:,}."
    return Verdict(question, success >= curves.SOLVED, f"{success:.0%}", detail)


def _tokens_verdict(run: Run) -> Verdict:
    question, name = "How many of the coming tokens are foreseen?", "validation/transformer/token_accuracy"
    line = latest(run.lines, name)
    if line is None and run.learned_all and not run.learns_pictures_alone:
        return Verdict(question, None, "not evaluated", "A data set of one recording holds none out.")
    if line is None:
        return Verdict(question, None, "not measured yet", "The transformer is evaluated on held-out segments.")
    detail = f"Share of held-out tokens that the transformer finds likeliest (update {line['updates']:,})"
    if f"{name}_top_5" in line:
        detail += f"; {line[f'{name}_top_5']:.0%} are among its five likeliest"
    return Verdict(question, None, f"{line[name]:.0%}", f"{detail}.")


def _when(config: dict[str, Any], steps: int) -> str:
    """A moment of a run, as its videos and evaluations are numbered."""
    return f"{'agent step' if 'task' in config else 'update'} {steps:,}"


def _clips(folder: pathlib.Path, config: dict[str, Any], kind: str, suffix: str) -> list[Clip]:
    """The newest `<kind>-<steps>.<suffix>`, and the first one where that is another file."""
    pattern = re.compile(rf"{kind}-(\d+)\.{suffix}")
    matches = [match for path in folder.glob("*") if (match := pattern.fullmatch(path.name))]
    ordered = sorted((int(match[1]), match[0]) for match in matches)
    return [
        Clip(_when(config, steps), address_of(folder / name))
        for steps, name in dict.fromkeys([*ordered[-1:], *ordered[:1]])
    ]


def _names(paths: Sequence[pathlib.Path]) -> list[str]:
    """The shortest endings of the paths that tell them apart."""
    parts = [path.absolute().parts for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UsageError(f"the same run twice: {', '.join(map(str, paths))}")


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def template(name: str) -> jinja2.Template:
    """A page by the name of its file, here or in a room of experiments/. What is put into it is text unless marked."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([pathlib.Path(__file__).parent, pathlib.Path(__file__).parents[1]]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"bytes": _bytes, "duration": format_duration}
    return environment.get_template(name)
