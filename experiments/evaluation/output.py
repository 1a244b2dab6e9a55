"""What was measured, as JSON, as a table with a row a video, as videos and as one page that needs nothing else."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import pathlib
from typing import Any, Literal, get_args

import matplotlib
import numpy as np
from markupsafe import Markup

from experiments.evaluation.protocol import BETTER, MeasuredModel, Protocol
from experiments.evaluation.segments import EvaluationSegments
from experiments.reports import videos
from experiments.reports.clips import address_of
from experiments.reports.page import template
from experiments.reports.plots import COLOURS, STYLE, as_svg, new_figure
from experiments.runs.progress import counted
from experiments.runs.run_folder import write_atomically

Form = Literal["mp4", "gif"]
FORMS = get_args(Form)
SHOWN = 6
"""Videos on the page, at most."""
UNITS = {
    "mse": "lower is better",
    "psnr": "dB, higher is better",
    "ssim": "higher is better",
    "lpips": "lower is better",
}


def summary(
    measured: MeasuredModel, protocol: Protocol, missing: dict[str, str], about: dict[str, Any]
) -> dict[str, Any]:
    """All figures that stand for the whole set; `missing` says of a metric why it was not measured."""
    found = {}
    for name in BETTER:
        if name not in measured.sampled:
            continue
        found[name] = {
            f"best_of_{protocol.samples}": measured.best(name),
            "mean": float(measured.sampled[name].mean()),
            "greedy": float(measured.greedy[name].mean()),
            "copy_last": float(measured.copy_last[name].mean()),
            "shuffled_actions": None
            if measured.shuffled_actions is None
            else float(measured.shuffled_actions[name].mean()),
            **_all_frames(measured, protocol, name),
            "by_horizon": [float(x) for x in measured.by_horizon(name)],
            "copy_last_by_horizon": [float(x) for x in measured.copy_last[name].mean(0)],
        }
    beyond = {
        "repetition_rate": measured.repeated_frames,
        "repetition_rate_real": measured.repeated_frames_real,
        "action_response": None
        if measured.shuffled_actions is None
        else float(measured.shuffled_actions["mse"].mean() / measured.greedy["mse"].mean()),
    }
    settings = dataclasses.asdict(protocol) | {"videos": len(measured.futures_vfhwc)}
    return {
        **about,
        "protocol": settings,
        "metrics": found,
        "beyond": beyond,
        "fvd": measured.fvd,
        "not_measured": missing,
    }


def _all_frames(measured: MeasuredModel, protocol: Protocol, name: str) -> dict[str, float]:
    """A metric as the published code averages it, where that was asked for."""
    if not protocol.all_frames:
        return {}
    return {
        f"all_frames_best_of_{protocol.samples}": measured.best_of_all_frames(name),
        "all_frames_mean": measured.mean_of_all_frames(name),
    }


def as_text(found: dict[str, Any]) -> str:
    """The summary for a terminal."""
    protocol = found["protocol"]
    lines = [
        f"on {'; '.join(found['data'])}",
        ", ".join(
            [
                counted(protocol["videos"], "video"),
                f"{counted(protocol['samples'], 'sample')} each",
                f"{counted(protocol['horizon'], 'frame')} ahead",
            ]
        ),
    ]
    for name, values in found["metrics"].items():
        best = values[f"best_of_{protocol['samples']}"]
        lines.append(
            f"{name:6}best {best:.5g}, mean {values['mean']:.5g}, greedy {values['greedy']:.5g}, copying the last "
            f"frame {values['copy_last']:.5g} ({UNITS[name]})"
        )
    if protocol["all_frames"]:
        key = f"all_frames_best_of_{protocol['samples']}"
        best = ", ".join(f"{name} {values[key]:.5g}" for name, values in found["metrics"].items())
        lines.append(f"as published, over all frames with the reconstructed context: best {best}")
    if found["fvd"] is not None:
        lines.append(
            "fvd   {sampled:.4g} of all samples, copying the last frame {copy_last:.4g} (lower is better)".format(
                **found["fvd"]
            )
        )
    beyond = found["beyond"]
    lines.append(
        f"frames equal to the one before: {beyond['repetition_rate']:.1%}, of the real "
        f"{beyond['repetition_rate_real']:.1%}"
    )
    if beyond["action_response"] is not None:
        lines.append(f"error under another segment's actions: {beyond['action_response']:.3f} times that under its own")
    return "\n".join(lines + [f"{name} not measured: {reason}" for name, reason in found["not_measured"].items()])


def write(
    folder: pathlib.Path, found: dict[str, Any], measured: MeasuredModel, segments: EvaluationSegments, context: int
) -> None:
    """evaluation.json, .csv and .html, and the videos."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "evaluation.json", json.dumps(found, indent=1) + "\n")
    write_atomically(folder / "evaluation.csv", _table(measured, segments))
    clips = write_videos(folder, measured.futures_vfhwc[:, None], segments, context, SHOWN)
    page = template("evaluation/page.html.j2").render(found=found, units=UNITS, curves=_curves(found), clips=clips)
    write_atomically(folder / "evaluation.html", page)


def write_videos(
    folder: pathlib.Path,
    futures_vkfhwc: np.ndarray,
    segments: EvaluationSegments,
    context: int,
    count: int,
    form: Form = "mp4",
) -> list[tuple[str, str]]:
    """`videos/000.mp4` ... with what happened, what was predicted and the error; names and data addresses of them.

    A row for each of a segment's K futures. Of more than `count` segments some from the first to the last, so that all
    sets are seen; a video's number is that of its row.
    """
    clips, last = [], len(futures_vkfhwc) - 1
    for index in np.linspace(0, last, min(count, last + 1)).astype(int):
        futures = futures_vkfhwc[index]
        real = np.repeat(segments.frames_vthwc[index : index + 1, : context + futures.shape[1]], len(futures), axis=0)
        made = np.concatenate([real[:, :context], futures], 1)
        path = folder / "videos" / f"{index:03d}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write = videos.write_mp4 if form == "mp4" else videos.write_gif
        write(path, videos.comparing_video(real, made, "predicted"), fps=4)
        clips.append((segments.names[index], address_of(path)))
    return clips


def _table(measured: MeasuredModel, segments: EvaluationSegments) -> str:
    text = io.StringIO()
    names = list(measured.sampled)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["video", *(f"{name}_{kind}" for name in names for kind in ("best", "mean", "greedy", "copy_last"))]
    )
    for index, video in enumerate(segments.names):
        row = []
        for name in names:
            samples = measured.sampled[name][index].mean(-1)
            row += [
                BETTER[name](samples),
                samples.mean(),
                measured.greedy[name][index].mean(),
                measured.copy_last[name][index].mean(),
            ]
        writer.writerow([video, *(f"{value:.7g}" for value in row)])
    return text.getvalue()


def _curves(found: dict[str, Any]) -> list[Markup]:
    """Each metric against how far ahead a frame is."""
    drawn = []
    for name, values in found["metrics"].items():
        with matplotlib.rc_context(STYLE):
            picture = new_figure()
            axes = picture.subplots()
            ahead = np.arange(1, len(values["by_horizon"]) + 1)
            axes.plot(ahead, values["by_horizon"], color=COLOURS[0], marker="o", markersize=4, label="predicted, mean")
            axes.plot(ahead, values["copy_last_by_horizon"], color=COLOURS[1], label="copy-last")
            axes.set(title=f"{name} ({UNITS[name]})", xlabel="frames ahead")
            axes.legend(fontsize=8)
            drawn.append(as_svg(picture, f"evaluation {name}"))
    return drawn
