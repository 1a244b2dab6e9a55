"""What pages and tables take from a run, checked before anything is made of it: a run is damaged in one sentence."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.runs.metrics_log import MetricsError, read_metrics
from experiments.runs.run_folder import RunFolder, RunFolderError

BY_HORIZON = "_by_horizon"
"""How the names of metrics end that are a number for each frame ahead; all others with a slash are one number."""
TOGETHER = {
    "eval/success": ("eval/return", "eval/episodes"),
    "model/mse_copy_last": ("model/mse_imagined",),
    "model/mse_shuffled_actions": ("model/mse_imagined",),
    "bytes/real_replay": ("bytes/imagined_replay",),
}
"""What a line holds beside a metric, where it holds that one."""
FINITE = ("eval/", "imagined/uncounted_agent_steps")
"""How the names of metrics begin that are counted or compared with others, and so cannot be unknown."""
SESSION = ("version", "command", "started")
"""The texts that a session is told by, beside its commit, which may be unknown."""


def read_run(folder: RunFolder) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was written down of a run, as `RunFolder.read_current`, and the lines of its metrics.

    Raises RunFolderError and MetricsError, which name the file.
    """
    record = folder.read_current()
    for session in record["sessions"]:
        texts = isinstance(session, Mapping) and all(isinstance(session.get(name), str) for name in SESSION)
        if not texts or not isinstance(session.get("commit", ...), str | None):
            raise RunFolderError(f"{folder.config} is damaged: a session has {', '.join(SESSION)} and commit")
    lines = read_metrics(folder.metrics)
    for number, line in enumerate(lines, 1):
        for fault in _faults(line, "task" in record["config"]):
            raise MetricsError(f"{folder.metrics}, line {number} is damaged ({fault}): delete that line to go on")
    return record, lines


def _faults(line: Mapping[str, Any], of_agent: bool) -> Iterator[str]:
    """What cannot be drawn of a line, in words. of_agent: models' runs count updates instead of steps."""
    for name, value in line.items():
        if name.endswith(BY_HORIZON):
            if not _are_numbers(value):
                yield f"{name} is {_shown(value)}, no list of numbers"
        elif "/" in name or name == "updates":
            if not _is_number(value) or (name.startswith(FINITE) and not math.isfinite(value)):
                yield f"{name} is {_shown(value)}, no number"
        elif name == "state_fingerprint" and not isinstance(value, str):
            yield f"{name} is {_shown(value)}, no text"
    lacking = {name: [other for other in others if other not in line] for name, others in TOGETHER.items()}
    yield from (f"it has {name} and no {lacking[name][0]}" for name in lacking if name in line and lacking[name])
    if not of_agent and "updates" not in line and any(name.startswith(("validation/", "model/")) for name in line):
        yield "it has no updates"


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    """Whether it can be drawn; a whole number may be too large for that."""
    return isinstance(value, int | float) and (isinstance(value, float) or abs(value) <= sys.float_info.max)


def _shown(value: Any) -> str:
    return repr(value)[:60]
