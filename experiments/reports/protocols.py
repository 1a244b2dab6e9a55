"""What a result depends on besides the algorithm: two results with another protocol are not to be averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.envs.registry import suite_of
from experiments.runs.run_folder import find_setting

FIELDS = (
    "benchmark",
    "observation",
    "camera",
    "rendering",
    "resolution",
    "reward",
    "action_repeat",
    "demonstrations",
    "cloning",
    "pretrained",
    "evaluation_episodes",
)
"""What is told of a protocol, and compared."""
UNKNOWN = "not stated"
NONE = "none"

Protocol = Mapping[str, str]
"""Values by FIELDS; UNKNOWN where nobody wrote it down."""


def of_config(config: Mapping[str, Any]) -> dict[str, str]:
    """What the configuration (by dotted names) of an agent's run says, and its simulator."""
    said: dict[str, Any] = dict(suite_of(str(config["task"])).protocol) | {"observation": "pixels"}
    said |= {"rendering": config.get("render_quality"), "resolution": find_setting(config, "resolution")}
    said["demonstrations"] = config.get("demonstrations")
    said["cloning"] = find_setting(config, "behaviour_cloning") or NONE
    return {name: str(said[name]) for name in FIELDS if said.get(name) is not None}


def of_row(row: Mapping[str, Any]) -> dict[str, str]:
    """What a row of a table says: its column `protocol`, where it is of a version that has one, its simulator, and what
    can be told from its numbers."""
    said = dict(suite_of(str(row["task"])).protocol) | {"observation": "pixels"} | read(row.get("protocol", ""))
    settings = read(str(row["settings"]))
    if "demonstrations" in settings:
        said["demonstrations"] = settings["demonstrations"]
    said["pretrained"] = str(row["pretrained"]) or NONE
    if row.get("episodes"):
        said["evaluation_episodes"] = f"{float(row['episodes']):.0f}"
    if row["agent_steps"]:
        said["action_repeat"] = f"{row['env_steps'] / row['agent_steps']:.3g}"
    return {name: said.get(name, UNKNOWN) for name in FIELDS}


def read(words: str) -> dict[str, str]:
    """`name=value name=value` of a table's cell, as values by their names."""
    pairs = (word.partition("=") for word in words.split())
    return {name: value.replace("%20", " ") for name, _, value in pairs}


def differing(protocols: Mapping[str, Protocol]) -> list[tuple[str, dict[str, list[str]]]]:
    """Each field that is not the same, or not stated, for all: its values, and of whom (the names) each is."""
    found = []
    for field in FIELDS:
        owners: dict[str, list[str]] = {}
        for name, protocol in protocols.items():
            owners.setdefault(protocol.get(field, UNKNOWN), []).append(name)
        if len(owners) > 1:
            found.append((field, owners))
    return found
